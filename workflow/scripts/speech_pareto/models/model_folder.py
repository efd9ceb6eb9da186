"""What lies in a model folder as transformers, its hub and git leave it, and what is wrong with it.

A folder holds `config.json`, weights (safetensors or a pickle of tensors, in one file or several
that an index names) and, mostly, how recordings are preprocessed. Whatever cannot be used is a
ValueError with the file's name. Until weights are read nothing here needs torch: a study's config
is checked with it.
"""

import json
import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path

from speech_pareto.models import architecture

CONFIG = "config.json"
WEIGHTS, PICKLE, INDEX = "model.safetensors", "pytorch_model.bin", ".index.json"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
# What is done to every recording here: these are what a folder may say, and its defaults.
FEATURES = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
    "sampling_rate": architecture.SAMPLE_RATE,
}
FIXED = ("feature_extractor_type", "feature_size", "padding_value", "sampling_rate")
# The most that a config may say of a size: more is a mistake, and building it would not end.
MOST = {
    "hidden_size": 2**16,
    "intermediate_size": 2**20,
    "num_hidden_layers": 1000,
    "num_attention_heads": 1000,
    "num_conv_pos_embeddings": 2**16,
    "num_conv_pos_embedding_groups": 2**16,
    "num_buckets": 2**16,
}
STEM = ("conv_dim", "conv_kernel", "conv_stride")
POINTER = b"version https://git-lfs"  # a file of git's large file storage that was not fetched
log = logging.getLogger(__name__)


def read_config(folder: str | Path) -> dict:
    """Return the config in a model folder; FileNotFoundError without one, ValueError if broken."""
    file = Path(folder) / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{folder}: no config.json here, so this is not a model folder")
    config = _read_json(file)
    for key, most in MOST.items():
        size = config.get(key, 1)
        if not _is_whole(size) or not 1 <= size <= most:
            raise ValueError(f"{file}: {key} is {size!r}, not a whole number from 1 to {most}")
    lengths = set()
    for key in STEM:
        sizes = config.get(key, architecture.DEFAULTS[key])
        if not isinstance(sizes, list | tuple) or not sizes or len(sizes) > 100:
            raise ValueError(f"{file}: {key} is {sizes!r}, not a list of 1 to 100 whole numbers")
        for size in sizes:
            if not _is_whole(size) or not 1 <= size <= 2**16:
                raise ValueError(f"{file}: {key} has {size!r}, not a whole number from 1 to 65536")
        lengths.add(len(sizes))
    if len(lengths) > 1:
        raise ValueError(f"{file}: {', '.join(STEM)} are of unlike lengths")
    full = {**architecture.DEFAULTS, **config}
    hidden, heads = full["hidden_size"], full["num_attention_heads"]
    if hidden % heads:
        raise ValueError(f"{file}: hidden_size {hidden} is no multiple of {heads} attention heads")
    return config


def preprocessing(folder: str | Path) -> dict | None:
    """Return how recordings are preprocessed for the model in a folder; None if it does not say.

    The keys are those of transformers' Wav2Vec2FeatureExtractor; `do_normalize` is always there.
    As in transformers, what processor_config.json says of the feature extractor comes before
    preprocessor_config.json. ValueError for what is not done here, such as other sampling rates.
    """
    folder, found, file = Path(folder), None, None
    for name in (PROCESSOR, PREPROCESSOR):
        if found is None and (folder / name).is_file():
            file = folder / name
            said = _read_json(file)
            found = said.get("feature_extractor") if name == PROCESSOR else said
    if found is None:
        return None
    if not isinstance(found, Mapping):
        raise ValueError(f"{file}: feature_extractor is {found!r}, not a list of settings")
    for key in FIXED:
        if key in found and found[key] != FEATURES[key]:
            raise ValueError(
                f"{file}: {key} is {found[key]!r}; here it is always {FEATURES[key]!r}, so this "
                "model cannot be used"
            )
    if "do_normalize" not in found:
        log.info("%s: without do_normalize, transformers' own default holds, true", file)
    normalize = found.get("do_normalize", True)
    if not isinstance(normalize, bool):
        raise ValueError(f"{file}: do_normalize is {normalize!r}, not true or false")
    return {**FEATURES, **found, "do_normalize": normalize}


def weight_files(folder: str | Path) -> list[Path]:
    """Return the files that hold the weights in a folder; safetensors are preferred to pickles.

    FileNotFoundError if there are none; ValueError if an index or a file that it names is broken.
    """
    folder = Path(folder)
    for name in (WEIGHTS, PICKLE):
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}{INDEX}").is_file():
            return _shards(folder / f"{name}{INDEX}")
    raise FileNotFoundError(f"{folder}: neither {WEIGHTS} nor {PICKLE}")


def check_weights(folder: str | Path) -> None:
    """Raise ValueError or FileNotFoundError unless a folder's files of weights look whole."""
    for file in weight_files(folder):
        with file.open("rb") as stream:
            start = stream.read(len(POINTER))
        if start == POINTER:
            raise ValueError(
                f"{file}: this is a pointer of Git LFS, not the weights; get them with "
                "`git lfs pull` in its folder"
            )
        if file.suffix == ".safetensors":
            _check_safetensors(file)
        elif not zipfile.is_zipfile(file) and start[:1] != b"\x80":
            raise ValueError(f"{file}: torch did not write this, or it was cut off")


def problem(folder: str | Path) -> str | None:
    """Return why the model in a folder cannot be used, as far as can be told without torch."""
    try:
        read_config(folder)
        preprocessing(folder)
        check_weights(folder)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _is_whole(value: object) -> bool:
    """Return whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def _read_json(file: Path) -> dict:
    """Return the mapping in a JSON file."""
    try:
        text = file.read_bytes().decode("utf-8")
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if file.read_bytes()[: len(POINTER)] == POINTER:
            raise ValueError(f"{file}: this is a pointer of Git LFS; say `git lfs pull` there")
        said = "too deep" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{file}: this is not JSON: {said}")
    if not isinstance(value, dict):
        raise ValueError(f"{file}: this is no mapping of names to values")
    return value


def _shards(index: Path) -> list[Path]:
    """Return the files that an index names."""
    names = _read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{index}: it has no weight_map from tensors to files")
    files = []
    for name in sorted(set(map(str, names.values()))):
        if Path(name).name != name:
            raise ValueError(f"{index}: {name!r} is no file of this folder")
        if not (index.parent / name).is_file():
            raise FileNotFoundError(f"{index.parent / name} is missing; {index.name} names it")
        files.append(index.parent / name)
    return files


def _check_safetensors(file: Path) -> None:
    """Raise ValueError unless a file is as long as its own header says."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = stream.read(length) if 8 + length <= size else b""
    try:
        parts = [part for name, part in json.loads(header).items() if name != "__metadata__"]
        end = 8 + length + max((part["data_offsets"][1] for part in parts), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError):
        raise ValueError(f"{file}: this is not safetensors, or it was cut off")
    if end != size:
        raise ValueError(f"{file}: it has {size} bytes, its header says {end}; it was cut off")
