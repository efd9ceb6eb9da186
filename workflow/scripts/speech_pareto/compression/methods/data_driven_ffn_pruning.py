"""Data-driven row pruning: the feed-forward units go that give least to their layer's output.

    score(i) = ‖W2[:, i]‖₂ · ‖X_i‖₂

where X_i is what hidden unit i gives, after the activation function, over all real frames of some
audio: the norm of the unit's share of the output. Every layer loses the same number of its lowest
units; one shot, no training. Wanda's score (Sun et al., ICLR 2024, https://arxiv.org/abs/2306.11695)
summed over a unit, "Wanda-sp" of An et al., AAAI 2024, https://arxiv.org/abs/2312.11805.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto.compression.method import Calibrated, Context
from speech_pareto.compression.methods.ffn_pruning import FfnPruning

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class DataDrivenFfnPruning(Calibrated, FfnPruning):
    """Removes feed-forward rows, physically, by what they give on real audio."""

    full_rate = True

    def scores(self, model: Module, context: Context) -> list[Tensor]:
        """Return the score of each hidden unit (rows,) of each layer."""
        from speech_pareto.compression.parts.units import row_gains

        return context.remember(lambda: [x.cpu() for x in row_gains(model, self.audio(context))])
