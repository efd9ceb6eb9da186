"""Data-driven row pruning: the feed-forward units go that give least to their layer's output.

    score(i) = ‖W2[:, i]‖₂ · ‖X_i‖₂

where X_i is what hidden unit i gives, after the activation function, over all real frames of some
audio: the norm of the unit's share of the output. Every layer loses the same number of its lowest
units; one shot, no training. Wanda's score (Sun et al., ICLR 2024, https://arxiv.org/abs/2306.11695)
summed over a unit, "Wanda-sp" of An et al., AAAI 2024, https://arxiv.org/abs/2312.11805.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto.compression.method import Context
from speech_pareto.compression.methods.ffn_pruning import FfnPruning
from speech_pareto.runtime.bounds import Batches, BatchSeconds

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def row_gains(model: Module, batches: Sequence[Mapping]) -> list[Tensor]:
    """Return the score of each hidden unit (rows,) of each layer, in float64."""
    import torch

    from speech_pareto.compression.calibration import input_norms
    from speech_pareto.models.architecture import FFN
    from speech_pareto.models.surgery import matrix, matrix_names, weight

    layers = model.encoder.layers
    outputs = {
        str(i): matrix(x, FFN[-1]) for i, x in enumerate(layers) if FFN[-1] in matrix_names(x)
    }
    norms = input_norms(model, outputs, batches)
    scores = {i: weight(x).detach().double().norm(dim=0) * norms[i] for i, x in outputs.items()}
    return [scores.get(str(i), torch.zeros(0).double()) for i in range(len(layers))]


@dataclass(frozen=True, kw_only=True)
class DataDrivenFfnPruning(FfnPruning):
    """Removes feed-forward rows, physically, by what they give on real audio."""

    needs = "audio"
    full_rate = True
    example = {"batches": 2, "batch_seconds": 0.4}
    batches: Batches = 16
    batch_seconds: BatchSeconds = 24.0

    def scores(self, model: Module, context: Context) -> list[Tensor]:
        """Return the score of each hidden unit (rows,) of each layer."""
        return row_gains(model, context.batches(self.batches, self.batch_seconds))
