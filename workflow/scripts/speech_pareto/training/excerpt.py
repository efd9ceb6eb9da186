"""Trainings cut to some steps, for rehearsals: the real code at real shapes, and what a step takes.

Whoever makes settings of a training inside `Excerpt` gets settings with fewer steps. Of a batch
that is cut into pieces one stands for all: it takes as much memory, and a share of the time.
The batch that needs the most memory is the second one, when the optimiser has its state. Of a walk
with many trainings most have one step, and are taken to be as slow as the one before, which was
larger. Of many batches that a method only listens to some stand for all, and in the later passes
of a walk a few.
"""

import statistics
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from speech_pareto.data.batches import Epochs
from speech_pareto.training import loop
from speech_pareto.training.checkpoint import KEPT
from speech_pareto.training.settings import Training, batch_audio

WARM_UP = 2  # steps that are not timed: the first one, and that with the largest batch
FULL, EVERY = 2, 8  # the first trainings have all steps, and then each eighth
LISTENED, AGAIN = 16, 2  # batches, of those that are only listened to: the first time, and later


@dataclass
class Phase:
    """A training as it was asked for, and what was done of it.

    `ends` says when each step had ended, `shares` how many such pieces made each batch.
    """

    steps: int
    batch_seconds: float
    pieces: int = 1
    ends: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def seconds(self) -> float | None:
        """Return how long a whole step takes, None if that cannot be told.

        It is the median of those after the warm-up, if there are any.
        """
        times = [late - early for early, late in pairwise(self.ends)]
        if not times:
            return None
        pieces = statistics.median(self.shares) if self.shares else 1.0
        return pieces * statistics.median(times[WARM_UP - 1 :] or times)


@dataclass
class Listening:
    """A pass over batches that were only listened to: how many there are, and what was done."""

    number: int
    done: int
    seconds: float  # of what was done


class Excerpt:
    """A context in which each training has at most `steps` steps; `phases` says what they took.

    Without `one_piece` all pieces of a batch are done. `batches` is a class of sequences with a
    `number` of batches, of which at most `LISTENED` are then handed out, to units that are fitted
    to them, too; `listened` says how long each pass over some of them took.
    """

    places: list[tuple[Any, str]]

    def __init__(self, steps: int, one_piece: bool = True, batches: type | None = None) -> None:
        self.steps, self.one_piece = steps, one_piece
        self.phases: list[Phase] = []
        self.listened: list[Listening] = []
        self.states: dict[Path, int] = {}  # bytes of a checkpoint in each folder
        self.places = [(Training, "__post_init__"), (Epochs, "__call__"), (loop, "keep")]
        self.places += [(batches, "__getitem__")] if batches else []

    @property
    def checkpoint(self) -> int:
        """The bytes of all checkpoints of the job that are on the disk at a time."""
        spare = (KEPT - 1) * max(self.states.values(), default=0)  # of the newest training alone
        return sum(self.states.values()) + spare

    def __enter__(self) -> "Excerpt":
        self.own: list[Any] = [getattr(kind, name) for kind, name in self.places]
        check, choose, keep, *get = self.own

        def cut(settings: Training) -> None:
            check(settings)
            pieces = settings.accumulate if self.one_piece else 1
            number = sum(bool(phase.ends) for phase in self.phases)  # without mere listening
            self.phases.append(Phase(settings.steps, batch_audio(vars(settings)), pieces))
            most = self.steps if number < FULL or number % EVERY == 0 else 1
            object.__setattr__(settings, "steps", min(most, settings.steps))
            object.__setattr__(settings, "accumulate", settings.accumulate // pieces)

        def largest_second(epochs: Epochs, step: int) -> list[int]:
            phase = self.phases[-1] if self.phases else Phase(0, 0.0)
            batch = choose(epochs, step)
            if epochs.number == 0 and len(epochs.batches) > 1:
                pieces = [one[:: phase.pieces] for one in epochs.batches]
                costs = [_cost(epochs.lengths[piece]) for piece in pieces]
                largest = costs.index(max(costs))
                batch = epochs.batches[{1: largest, largest: 1}.get(step, step)]
            piece = batch[:: phase.pieces]  # as the loop cuts it; no other one is larger
            phase.shares.append(len(batch) / len(piece))
            return piece

        def weighed(folder: Path, *arguments: Any) -> None:
            keep(folder, *arguments)
            self.states[folder] = max(file.stat().st_size for file in folder.iterdir())

        began = 0.0

        def some(batches: Any, index: int) -> Any:
            nonlocal began
            # Units may have been fitted before, to another number of batches.
            again = any(one.number == batches.number for one in self.listened)
            most = AGAIN if again else LISTENED
            if batches.number <= LISTENED or index < most:
                began = time.monotonic() if index == 0 else began
                return get[0](batches, index)
            spent = time.monotonic() - began
            self.listened.append(Listening(batches.number, most, spent))
            raise IndexError(index)

        self._put([cut, largest_second, weighed, some])
        self.hook = register_optimizer_step_post_hook(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        self.hook.remove()
        self._put(self.own)

    def _put(self, functions: list[Any]) -> None:
        """Put these in the place of what checks settings, hands out batches, keeps checkpoints."""
        for (kind, name), function in zip(self.places, functions, strict=False):
            setattr(kind, name, function)

    def _note(self, *_: object) -> None:
        """Note that a step has ended."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if self.phases:
            self.phases[-1].ends.append(time.monotonic())


def _cost(lengths: np.ndarray) -> float:
    """Return what a batch weighs: padded audio, and attention that grows with its square."""
    return len(lengths) * float(lengths.max()) ** 2
