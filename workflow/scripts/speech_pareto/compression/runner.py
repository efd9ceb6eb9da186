"""What a job hands to methods that need audio or training: batches, the one loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def batcher(
    corpora: Sequence, model: Module, seconds: float, seed: int
) -> Callable[..., dict[str, Tensor]]:
    """Return a function from step to batch: `seconds` of audio from the corpora's training split.

    A batch has `input_values` and `attention_mask`, both (batch, samples), as `model` wants them.
    """
    import numpy as np

    from speech_pareto.data.audio import SAMPLE_RATE
    from speech_pareto.data.batches import Epochs, collate
    from speech_pareto.data.corpus import read

    utterances = [u for folder in corpora for u in read(folder) if u.split == "train"]
    if not utterances:
        raise ValueError(f"no training utterance in {', '.join(map(str, corpora)) or 'no corpora'}")
    lengths = np.array([u.samples for u in utterances])
    epochs = Epochs(lengths, int(seconds * SAMPLE_RATE), seed)
    normalize = model.preprocessor["do_normalize"]

    def batch(step: int, generator: object = None) -> dict:
        waves, mask = collate([utterances[i].wave() for i in epochs(step)], normalize)
        return {"input_values": waves, "attention_mask": mask}

    return batch


class Batches(Sequence):
    """The first `number` batches of a `batcher`, made when they are read; none stays in memory."""

    def __init__(self, batch: Callable[[int], dict], number: int) -> None:
        self.batch, self.number = batch, number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index):
        if not 0 <= index < self.number:
            raise IndexError(index)
        return self.batch(index)


def listener(corpora: Sequence, model: Module, seed: int) -> Callable[[int, float], Batches]:
    """Return `batches(number, seconds)`: the same batches of audio each time, for calibration."""

    def batches(number: int, seconds: float) -> Batches:
        return Batches(batcher(corpora, model, seconds, seed), number)

    return batches


def trainer(
    corpora: Sequence, seed: int, state: str | Path | None, precision: str, accumulate: int = 1
) -> Callable[..., None]:
    """Return `train(student, loss, **settings)`: the one loop on the corpora's training split.

    Each call in a recipe has its own batches and its own checkpoint.
    """
    from speech_pareto.models.hidden_states import real_frames
    from speech_pareto.models.spec_augment import masking
    from speech_pareto.training.loop import Training
    from speech_pareto.training.loop import train as run_loop

    calls = 0

    def train(
        student,
        loss: Callable,
        follow: Callable[[float], None] | None = None,
        averages: str = "frames",
        **settings,
    ) -> None:
        nonlocal calls
        calls += 1
        training = Training(**{"precision": precision, "accumulate": accumulate, **settings})
        own = seed + calls
        batch = batcher(corpora, student, training.batch_seconds, own)
        folder = Path(state) / f"step{calls}" if state else None
        backbone = getattr(student, "backbone", student)

        def frames(batch: Any) -> Tensor:
            return real_frames(backbone, batch).sum()

        def measured(batch: Any) -> tuple[Tensor, dict]:
            return loss(batch), {}

        size = frames if averages == "frames" else None
        with masking(student, on=False):  # teacher and student get the same input
            run_loop(student, batch, measured, training, own, folder, "compress", size, follow)

    return train
