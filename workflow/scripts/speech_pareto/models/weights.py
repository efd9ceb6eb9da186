"""Weights in a model folder: tensors by name, of any files, and nothing that could run code."""

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from speech_pareto.models.model_folder import check_weights, weight_files
from speech_pareto.runtime.hashing import sha256


def read_weights(folder: str | Path) -> dict[str, Tensor]:
    """Return the tensors in a folder by name; a pickle may hold nothing but tensors."""
    check_weights(folder)
    found = {}
    for file in weight_files(folder):
        found |= _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    return found


def misfits(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Return which tensors are missing, and which have another shape than is wanted."""
    return [f"{name} is missing" for name in wanted if name not in found] + [
        f"{name} is {tuple(found[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]


def weights_digest(folder: str | Path) -> str:
    """Return the SHA-256 of a folder's weights: of the file, or of several files' digests."""
    digests = [sha256(file) for file in weight_files(folder)]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors in a file by name."""
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file}: this is not safetensors: {error}")


def _read_pickle(file: Path) -> dict[str, Tensor]:
    """Return the tensors in a pickle by name; nothing else in it is made, let alone run."""
    try:
        mapped = zipfile.is_zipfile(file)  # older files have no such layout
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError:  # torch's words advise to run what is in it
        raise ValueError(
            f"{file}: it holds more than plain tensors, and reading that could run code. Where you "
            "trust its authors, load it with transformers and save it as safetensors"
        )
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{file}: torch cannot read it: {error}")
    if not isinstance(found, dict) or not all(isinstance(x, Tensor) for x in found.values()):
        raise ValueError(f"{file}: it is no mapping of names to tensors")
    return found
