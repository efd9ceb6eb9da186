"""Whether a loss has stopped to fall, as Lin et al. ask before they prune on."""

from typing import Any

import torch
from torch import Tensor, nn


class Convergence(nn.Module):
    """Follows the loss of a training that comes in rounds of `steps` steps.

    e ← d e + (1 − d) loss, d = `smoothing`, begun at the mean of the first three losses; the
    fourth is left out, as in the code of Lin et al. It is part of what is trained while it is, so
    that checkpoints hold its state.
    """

    def __init__(self, smoothing: float, steps: int, lookback: int) -> None:
        super().__init__()
        self.seen: Any
        self.now: Any
        self.then: Any
        self.smoothing, self.steps, self.lookback = smoothing, steps, lookback
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("now", torch.tensor(0.0, dtype=torch.float64))  # e
        self.register_buffer("then", torch.tensor(torch.inf, dtype=torch.float64))

    def follow(self, loss: Tensor) -> None:
        """Take the loss of a step into account, without waiting for it."""
        self.seen += 1
        later = self.smoothing * self.now + (1 - self.smoothing) * loss
        later = later.where(self.seen > 4, self.now)
        self.now = (self.now + loss / 3).where(self.seen <= 3, later)
        due = (self.seen >= 3) & ((self.seen + self.lookback) % self.steps == 0)
        self.then = self.now.where(due, self.then)

    def reached(self, improvement: float) -> bool:
        """Return whether e fell by no more than `improvement` over the last `lookback` steps.

        A training that was cut short of a round, as rehearsals are, waits for nothing.
        """
        return bool(self.then - improvement <= self.now) or bool(self.seen < self.steps)
