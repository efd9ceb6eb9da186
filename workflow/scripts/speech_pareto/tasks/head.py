"""The head of a task model on its way from a teacher to a student."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from speech_pareto.runtime.result import share

if TYPE_CHECKING:
    from torch.nn import Module

HEAD = "head.safetensors"
log = logging.getLogger(__name__)


def hand_on_head(source: Path, student: Module, target: Path) -> None:
    """Write the teacher's task head for its student to read; none if it does not fit.

    A student with a `readout`, the map W, b from its last layer to the teacher's that it learnt,
    gets both in one: head(W h + b). A `readout` of False says that there is no such map. Where no
    head fits, fine-tuning begins a new one; `target` may be `source`, which then goes.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(source, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no dict)
        metadata = file.metadata()
    mixes = tensors.get("layer_weights")  # of all layers, so that of the last says too little
    readout = getattr(student, "readout", None)
    if readout and mixes is None:
        weight, bias = tensors["head.weight"], tensors["head.bias"]
        tensors["head.bias"] = (weight.float() @ readout[1] + bias.float()).to(bias.dtype)
        tensors["head.weight"] = (weight.float() @ readout[0]).to(weight.dtype)
    layers = len(student.encoder.layers) + 1
    fits = readout is not False and tensors["head.weight"].shape[1] == student.config.hidden_size
    if not fits or (mixes is not None and len(mixes) != layers):
        log.info("the teacher's head does not fit the student; a new one will begin")
        target.unlink(missing_ok=True)
        return
    save_file(tensors, target, metadata)
    share(target)
