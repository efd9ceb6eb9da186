"""Text while somebody speaks, from a student that hears chunks."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from speech_pareto.models import lookahead
from speech_pareto.models.backbone import describe, load
from speech_pareto.models.stream import Stream
from speech_pareto.tasks.recogniser import settings_of
from speech_pareto.tasks.task import load_task_model


def written(folder: Path, blocks: Iterable[np.ndarray]) -> Iterator[str]:
    """Yield what each chunk adds to the text of a stream; it may be nothing.

    `blocks` are float samples (samples,) at 16 kHz as they come. FileNotFoundError or ValueError if
    the folder holds no fine-tuned student that hears chunks and writes text.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; --now takes no ONNX file")
    backbone = load(folder)
    made: Any = load_task_model(settings_of(folder), backbone, folder)  # it has a head
    model, task = made
    if not hasattr(task, "words"):
        raise ValueError("this model writes no text")
    if lookahead.latency(describe(backbone)) is None:
        said = "this student hears utterances to their end"
        raise ValueError(f"{said}: only one of the method `streaming` writes while it hears")
    if model.protocol == "probe":
        raise ValueError("this student is a probe, which reads all layers: a stream has the last")
    stream = Stream(backbone, model.head).eval()
    state, last = stream.begin(), 0
    between = " " if task.unit == "phones" else ""
    for chunk in _chunks(blocks, stream.samples):
        with torch.inference_mode():
            scores, state = stream(torch.from_numpy(chunk)[None], state)
        text = ""
        for best in scores[0].argmax(-1).tolist():
            text += task.symbols[best - 1] + between if best not in (0, last) else ""
            last = best
        yield text


def _chunks(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Yield chunks (size,) of what comes in blocks of any length; zeros end the last one."""
    left = np.empty(0, np.float32)
    for block in blocks:
        left = np.concatenate((left, block))
        while len(left) >= size:
            yield left[:size]
            left = left[size:]
    if len(left):
        yield np.pad(left, (0, size - len(left)))
