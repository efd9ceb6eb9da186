"""Row pruning of the feed-forward parts: the hidden units with the smallest weights go.

    score(i) = Σ_j |W1[i, j]| + |b1[i]| + Σ_j |W2[j, i]|

Every layer loses the same number of its lowest units, so transformers can still say the shape, or
with another `allocation` those that it needs least (`parts.allocated`); then one stays at least.
Lin et al., ASRU 2025, https://arxiv.org/abs/2211.09949, call this low-rank approximation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from speech_pareto.compression.method import Context
from speech_pareto.compression.parts.allocated import Part, UnitPruning
from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class FfnPruning(UnitPruning):
    """Removes rows of the first matrix and the same columns of the second, physically."""

    def spare(self, config: Mapping) -> list[int]:
        """Return how many units each layer can lose."""
        return [max(0, layer.ffn - 1) for layer in architecture.layers_of(config)]

    def without(self, config: Mapping, gone: Sequence[int]) -> dict:
        """Return the config of a model whose layers have lost so many units each."""
        pairs = zip(architecture.layers_of(config), gone, strict=True)
        after = [replace(layer, ffn=layer.ffn - number) for layer, number in pairs]
        return architecture.with_layers(config, after)

    def alike(self, config: Mapping, ratio: float) -> list[int]:
        """Return how many units each layer loses, the same number nearest to a ratio."""
        layers = architecture.layers_of(config)
        size = architecture.row_parameters(config, layers[0])
        amount = round(ratio * architecture.remaining(config) / size / len(layers)) * len(layers)
        return self.share(config, amount)

    def parts(self, model: Module, context: Context) -> list[Part]:
        """Return the hidden units of each layer."""
        from speech_pareto.compression.parts.units import without_lowest_rows

        scores = enumerate(self.scores(model, context))
        return [Part(own, partial(without_lowest_rows, scores=own), x) for x, own in scores]

    def scores(self, model: Module, context: Context) -> list[Tensor]:
        """Return the score of each hidden unit (rows,) of each layer."""
        from speech_pareto.compression.parts.units import row_scores

        return [row_scores(layer) for layer in model.encoder.layers]
