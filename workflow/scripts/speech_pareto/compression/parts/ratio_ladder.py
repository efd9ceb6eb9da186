"""Gates on how many units a group keeps: one of seven shares, chosen by Gumbel-softmax.

    z_i = Σ_t p_t 1[rank(i) < n_t],  p = softmax((θ + g) / T),  g ~ Gumbel(0, 1)
    P(z_i > 0) → Σ_t softmax(θ)_t 1[rank(i) < n_t]

n_t are 7/7, 6/7, ... 1/7 of the heads or of the rows of a layer. The search of architectures with
which https://github.com/hanyxu/SASPG-pruning compares its gates, "NASP", has seven ratios and
Gumbel noise; no more of it is published. Ours: the shares themselves, T = 1, θ that begin at zero,
ranks by the sum of squares of the weights that make and read a unit, as self-pinching gates score
it. Gumbel-softmax: Jang et al., ICLR 2017, https://arxiv.org/abs/1611.01144.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from speech_pareto.compression.parts.self_pinching_gates import UNITS, unit_scores
from speech_pareto.models.surgery import matrix, weight

TIERS = 7


class Ladder(nn.Module):
    """A choice among `TIERS` shares of the `count` heads (`kind` 0) or rows (1) of a layer."""

    def __init__(self, layer: nn.Module, kind: int, count: int, rate: float) -> None:
        super().__init__()
        *inner, outer = (matrix(layer, name) for name in UNITS[kind])
        reading = weight(getattr(outer, "down", outer)).detach()
        order = unit_scores(inner, outer, count)(reading).argsort(descending=True, stable=True)
        kept = [-(-count * tier // TIERS) for tier in range(TIERS, 0, -1)]  # of units, rounded up
        inside = torch.arange(count) < torch.tensor(kept)[:, None]  # (tiers, ranks)
        masks = torch.zeros(TIERS, count).index_copy(1, order.cpu(), inside.float())
        self.register_buffer("masks", masks.to(reading))  # (tiers, units)
        self.theta = nn.Parameter(reading.new_zeros(TIERS))
        self.optimiser = {"lr": rate, "weight_decay": 0.0}

    def forward(self) -> Tensor:
        """Return a draw of z (units,)."""
        return functional.gumbel_softmax(self.theta, tau=1.0) @ self.masks

    def open(self) -> Tensor:
        """Return P(z > 0) of each unit (units,), as far as θ has decided."""
        return self.theta.softmax(0) @ self.masks

    def strength(self) -> Tensor:
        """Return what a unit that stays is multiplied by (units,): one."""
        return torch.ones_like(self.masks[0])

    def rank(self) -> Tensor:
        """Return P(z > 0) (units,): the lowest go first."""
        return self.open().detach()
