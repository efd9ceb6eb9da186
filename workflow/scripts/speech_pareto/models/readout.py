"""Folders of models with a `readout`: a map from what they give to what their teacher gives."""

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from speech_pareto.models.backbone import load, save
from speech_pareto.runtime.files import whole_folder

READOUT = "readout.safetensors"


def write(model: nn.Module, folder: str | Path, texts: Mapping[str, str]) -> None:
    """Write `model`, with its readout (weight, bias) if it has one, whole or not at all."""
    from safetensors.torch import save_file

    with whole_folder(folder) as part:
        save(model.eval(), part, texts=texts)
        if readout := getattr(model, "readout", None):
            save_file(dict(zip(("weight", "bias"), readout, strict=True)), part / READOUT)


def read(folder: str | Path) -> nn.Module:
    """Return the model that `write` wrote to a folder."""
    from safetensors.torch import load_file

    model = load(folder)
    if (Path(folder) / READOUT).is_file():
        tensors = load_file(Path(folder) / READOUT)
        model.readout = tensors["weight"], tensors["bias"]
    return model
