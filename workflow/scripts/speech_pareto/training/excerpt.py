"""Trainings cut to some steps, for rehearsals: the real code at real shapes, and what a step takes.

Whoever makes settings of a training inside `Excerpt` gets settings with fewer steps. The batch that
needs the most memory is the second one, when the optimiser has its state.
"""

import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from speech_pareto.data.batches import Epochs
from speech_pareto.training.settings import Training

WARM_UP = 2  # steps that are not timed: the first one, and that with the largest batch


@dataclass
class Phase:
    """A training: the `steps` that it was asked for, and when each one that was done had ended."""

    steps: int
    batch_seconds: float
    ends: list[float] = field(default_factory=list)

    def seconds(self) -> float | None:
        """Return the median time of a step, without warm-up if there are enough; None without."""
        times = np.diff(self.ends).tolist()
        return statistics.median(times[WARM_UP - 1 :] or times) if times else None


class Excerpt:
    """A context in which each training has at most `steps` steps; `phases` says what they took."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.phases: list[Phase] = []

    def __enter__(self) -> "Excerpt":
        self.own: Any = Training.__post_init__, Epochs.__call__
        check, choose = self.own

        def cut(settings: Training) -> None:
            check(settings)
            self.phases.append(Phase(settings.steps, settings.batch_seconds))
            object.__setattr__(settings, "steps", min(self.steps, settings.steps))

        def largest_second(epochs: Epochs, step: int) -> list[int]:
            choose(epochs, 0)
            first = epochs.epochs[0]
            largest = max(range(len(first)), key=lambda i: _cost(epochs.lengths[first[i]]))
            swapped = {1: largest, largest: 1} if len(first) > 1 else {}
            return choose(epochs, swapped.get(step, step))

        Training.__post_init__, Epochs.__call__ = cut, largest_second  # type: ignore[method-assign]
        self.hook = register_optimizer_step_post_hook(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        self.hook.remove()
        Training.__post_init__, Epochs.__call__ = self.own

    def _note(self, *_: object) -> None:
        """Note that a step has ended."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if self.phases:
            self.phases[-1].ends.append(time.monotonic())


def _cost(lengths: np.ndarray) -> float:
    """Return what a batch weighs: padded audio, and attention that grows with its square."""
    return len(lengths) * float(lengths.max()) ** 2
