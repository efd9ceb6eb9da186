"""Whether a loss has stopped to fall, as Lin et al. ask before they prune on."""

from typing import Any

import torch
from torch import nn


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

    def follow(self, loss: float) -> None:
        """Take the loss of a step into account."""
        value = float(loss)
        self.seen += 1
        if self.seen <= 3:
            self.now = self.now + value / 3
        elif self.seen > 4:
            self.now = self.smoothing * self.now + (1 - self.smoothing) * value
        if self.seen >= 3 and (self.seen + self.lookback) % self.steps == 0:
            self.then = self.now

    def reached(self, improvement: float) -> bool:
        """Return whether e fell by no more than `improvement` over the last `lookback` steps."""
        return bool(self.then - improvement <= self.now)
