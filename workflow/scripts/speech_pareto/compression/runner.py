"""What a job hands to methods that need audio or training: batches, the one loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from speech_pareto.training.settings import Unlabelled


def batcher(
    corpora: Sequence, model: Module, settings: Unlabelled, seed: int
) -> Callable[..., dict[str, Any]]:
    """Return a function from a step to a batch; a generator, if given, places crops.

    A batch has `input_values` and `attention_mask`, both (batch, samples), as `model` wants them,
    of the corpora's training split, and `heard`: of each row its utterance, and the sample of that
    it begins with. ValueError if `settings` leave no utterance of the split.
    """
    import numpy as np

    from speech_pareto.data.audio import SAMPLE_RATE
    from speech_pareto.data.batches import Epochs, collate, crop
    from speech_pareto.data.corpus import read
    from speech_pareto.data.selection import within

    taught = [u for folder in corpora for u in read(folder) if u.split == "train"]
    if not taught:
        raise ValueError(f"no training utterance in {', '.join(map(str, corpora)) or 'no corpora'}")
    utterances = within(taught, settings.min_seconds, settings.max_seconds)
    longest = round((settings.crop_seconds or 10**6) * SAMPLE_RATE)
    lengths = np.array([min(u.samples, longest) for u in utterances])
    most = int(settings.batch_seconds * SAMPLE_RATE)
    epochs = Epochs(lengths, most, seed, settings.batch_utterances)
    normalize = model.preprocessor["do_normalize"]

    def batch(step: int, generator: np.random.Generator | None = None) -> dict:
        chosen, generator = epochs(step), generator or np.random.default_rng([seed, step])
        room = lengths[chosen].min() if settings.crop_to_shortest else longest
        own = [utterances[i] for i in chosen]
        waves, begins = zip(*(crop(u.wave(), int(room), generator) for u in own), strict=True)
        waves, mask = collate(waves, normalize)
        heard = list(zip(own, begins, strict=True))
        return {"input_values": waves, "attention_mask": mask, "heard": heard}

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

    from speech_pareto.training.settings import Unlabelled

    def batches(number: int, seconds: float) -> Batches:
        settings = Unlabelled(steps=number, learning_rate=0.0, batch_seconds=seconds)
        return Batches(batcher(corpora, model, settings, seed), number)

    return batches


def memory(state: str | Path | None) -> Callable[[Callable[[], Any]], Any]:
    """Return `remember(make)`: what `make()` returned before the job was stopped, or returns now.

    Each call has its own file in the folder `state`; a job makes them in the same order each time.
    """
    import torch

    from speech_pareto.training.checkpoint import keep, newest

    calls = 0

    def remember(make: Callable[[], Any]) -> Any:
        nonlocal calls
        calls += 1
        folder = Path(state) / f"found{calls}" if state else None
        if kept := newest(folder, "found"):
            return torch.load(kept, weights_only=True, map_location="cpu")
        found = make()
        if folder:
            keep(folder, "found", lambda path: torch.save(found, path))
        return found

    return remember


def trainer(
    corpora: Sequence, seed: int, state: str | Path | None, precision: str, accumulate: int = 1
) -> Callable[..., None]:
    """Return `train(student, loss, **settings)`: the one loop on the corpora's training split.

    Each call in a recipe has its own batches and its own checkpoint, of which one copy stays once
    the next training has ended.
    """
    from speech_pareto.models.hidden_states import real_frames
    from speech_pareto.models.spec_augment import masking
    from speech_pareto.training.checkpoint import keep_one
    from speech_pareto.training.loop import CHECKPOINT
    from speech_pareto.training.loop import train as run_loop
    from speech_pareto.training.settings import Unlabelled

    calls = 0

    def train(
        student,
        loss: Callable,
        follow: Callable[[Tensor], None] | None = None,
        averages: str = "frames",
        moments: dict | None = None,
        **settings,
    ) -> None:
        nonlocal calls
        calls += 1
        training = Unlabelled(**{"precision": precision, "accumulate": accumulate, **settings})
        own = seed + calls
        batch = batcher(corpora, student, training, own)
        folder = Path(state) / f"step{calls}" if state else None
        backbone = getattr(student, "backbone", student)

        def frames(batch: Any) -> Tensor:
            return real_frames(backbone, batch).sum()

        def measured(batch: Any) -> tuple[Tensor, dict]:
            return loss(batch), {}

        size = frames if averages == "frames" else None
        with masking(student, on=False):  # teacher and student get the same input
            run_loop(
                student, batch, measured, training, own, folder, "compress", size, follow, moments
            )
        if folder and calls > 1:  # a walk may have forty trainings, each with gigabytes
            keep_one(folder.with_name(f"step{calls - 1}"), CHECKPOINT)

    return train
