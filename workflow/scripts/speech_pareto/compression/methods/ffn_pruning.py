"""Row pruning of the feed-forward parts: the hidden units with the smallest weights go.

    score(i) = Σ_j |W1[i, j]| + |b1[i]| + Σ_j |W2[j, i]|

Every layer loses the same number of its lowest units, so transformers can still say the shape, or
with another `allocation` those that it needs least (`parts.allocated`); then one stays at least.
Lin et al., ASRU 2025, https://arxiv.org/abs/2211.09949, call this low-rank approximation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Context, Sizing
from speech_pareto.compression.parts.allocated import Allocated
from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def row_scores(layer: Module) -> Tensor:
    """Return the score of each hidden unit (rows,) of an encoder layer, in float64."""
    import torch

    from speech_pareto.models.surgery import bias, matrix, matrix_names, weight

    if architecture.FFN[0] not in matrix_names(layer):
        return torch.zeros(0).double()
    first, second = (matrix(layer, name) for name in architecture.FFN)
    inwards = weight(first).detach().double().abs().sum(1) + bias(first).detach().double().abs()
    return inwards + weight(second).detach().double().abs().sum(0)


def best_rows(layer: Module, amount: int) -> Tensor:
    """Return the `amount` highest-scoring units of a layer."""
    return highest(row_scores(layer), amount)


def highest(scores: Tensor, amount: int) -> Tensor:
    """Return where the `amount` highest scores are."""
    return scores.argsort(descending=True, stable=True)[:amount]


def without_rows(layer: Module, gone: Sequence[int]) -> None:
    """Remove the units at these places from a layer."""
    import torch

    from speech_pareto.models.surgery import keep_rows, shape_of

    stay = torch.ones(shape_of(layer).ffn, dtype=torch.bool)
    stay[list(gone)] = False
    keep_rows(layer, stay.nonzero()[:, 0])


@dataclass(frozen=True, kw_only=True)
class FfnPruning(Allocated):
    """Removes rows of the first matrix and the same columns of the second, physically."""

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return how many units each layer keeps."""
        layers = architecture.layers_of(config)
        size = architecture.row_parameters(config, layers[0])
        amount = round(ratio * architecture.remaining(config) / size / len(layers)) * len(layers)
        shares = allocation.spread(amount, [max(0, layer.ffn - 1) for layer in layers])
        widths = [layer.ffn - share for layer, share in zip(layers, shares, strict=True)]
        after = [replace(layer, ffn=width) for layer, width in zip(layers, widths, strict=True)]
        knobs = {"rows": widths} if self.allocation == "uniform" else {"removed": sum(shares)}
        return Sizing(architecture.with_layers(config, after), knobs)

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` without its lowest units."""
        from speech_pareto.models.surgery import keep_rows

        scores = self.scores(model, context)
        if self.allocation == "uniform":
            widths = sizing.knobs["rows"]
        else:
            removed = sizing.knobs["removed"]
            gone = self.lowest_units(model, scores, removed, 1, without_rows, context)
            widths = [len(own) - len(places) for own, places in zip(scores, gone, strict=True)]
        for layer, own, width in zip(model.encoder.layers, scores, widths, strict=True):
            keep_rows(layer, highest(own, width))
        return model

    def scores(self, model: Module, context: Context) -> list[Tensor]:
        """Return the score of each hidden unit (rows,) of each layer."""
        return [row_scores(layer) for layer in model.encoder.layers]
