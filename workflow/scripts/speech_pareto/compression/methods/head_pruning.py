"""Head pruning by L1 norm: the attention heads with the smallest weights go.

    score(l, h) = Σ|Wq_h| + Σ|bq_h| + Σ|Wk_h| + Σ|bk_h| + Σ|Wv_h| + Σ|bv_h|

In each round every layer loses its lowest head (the output matrix does not count); the last round
may be partial and takes the layers whose lowest head has the smallest share of its layer's scores.
With another `allocation` the heads go that the model needs least (`parts.allocated`).
`keep` heads of each layer stay; with 0, layers may lose their whole attention. After Lin et al.,
ASRU 2025, https://arxiv.org/abs/2211.09949.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

from speech_pareto.compression.method import Context
from speech_pareto.compression.parts.allocated import Part, UnitPruning
from speech_pareto.models import architecture
from speech_pareto.runtime.bounds import Within

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Keep = Annotated[int, Within(0, 1000, unit="heads")]


def lowest_heads(scores: Sequence[Tensor], amount: int, keep: int = 1) -> list[list[int]]:
    """Return for each layer which places go when `amount` heads go in rounds of one per layer.

    `keep` stay in each layer at least.
    """
    order = [layer.argsort(stable=True).tolist() for layer in scores]
    shares = [(layer / layer.sum()).tolist() for layer in scores]
    gone = [0] * len(order)
    while amount > 0:
        open_layers = [i for i, places in enumerate(order) if gone[i] < len(places) - keep]
        open_layers.sort(key=lambda i: shares[i][order[i][gone[i]]])
        for i in open_layers[:amount]:
            gone[i] += 1
        amount -= len(open_layers)
    return [places[:number] for places, number in zip(order, gone, strict=True)]


@dataclass(frozen=True, kw_only=True)
class HeadPruning(UnitPruning):
    """Removes whole heads, physically."""

    takes_heads = True
    keep: Keep = 1  # heads that stay in each layer at least

    def spare(self, config: Mapping) -> list[int]:
        """Return how many heads each layer can lose."""
        return [max(0, len(layer.heads) - self.keep) for layer in architecture.layers_of(config)]

    def without(self, config: Mapping, gone: Sequence[int]) -> dict:
        """Return the config of a model whose layers have lost so many heads each."""
        pairs = zip(architecture.layers_of(config), gone, strict=True)
        after = [replace(x, heads=x.heads[: len(x.heads) - number]) for x, number in pairs]
        return architecture.with_layers(config, after)

    def parts(self, model: Module, context: Context) -> list[Part]:
        """Return the heads of each layer."""
        from speech_pareto.compression.parts.units import without_lowest_heads

        scores = enumerate(self.scores(model, context))
        return [Part(own, partial(without_lowest_heads, scores=own), x) for x, own in scores]

    def uniform(self, parts: Sequence[Part], alike: list[int]) -> list[int]:
        """Return how many heads each layer loses: the scores say which bear the last round."""
        gone = lowest_heads([part.scores for part in parts], sum(alike), self.keep)
        return [len(places) for places in gone]

    def scores(self, model: Module, context: Context) -> list[Tensor]:
        """Return the score of each head (heads,) of each layer."""
        from speech_pareto.compression.parts.units import head_scores

        return [head_scores(layer) for layer in model.encoder.layers]
