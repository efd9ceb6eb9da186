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
from typing import TYPE_CHECKING, Annotated

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Context, Sizing
from speech_pareto.compression.parts.allocated import Allocated
from speech_pareto.models import architecture
from speech_pareto.runtime.bounds import Within

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Keep = Annotated[int, Within(0, 1000, unit="heads")]


def head_scores(layer: Module) -> Tensor:
    """Return the score of each head (heads,) of an encoder layer, in float64."""
    import torch

    from speech_pareto.models.surgery import bias, matrix, matrix_names, weight

    heads = len(layer.attention.heads)
    total = torch.zeros(heads).double()
    for name in (n for n in matrix_names(layer) if n in architecture.ATTENTION[:3]):
        module = matrix(layer, name)
        weights, biases = (x.detach().double().abs() for x in (weight(module), bias(module)))
        total = total.to(biases) + (weights.sum(1) + biases).unflatten(0, (heads, -1)).sum(1)
    return total


def best_heads(layer: Module, amount: int) -> list[int]:
    """Return the `amount` highest-scoring heads of a layer, numbered as in the teacher."""
    places = head_scores(layer).argsort(descending=True, stable=True)[:amount]
    return [layer.attention.heads[place] for place in places]


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


def without_heads(layer: Module, gone: Sequence[int]) -> None:
    """Remove the heads at these places from a layer."""
    from speech_pareto.models.surgery import keep_heads

    heads = enumerate(layer.attention.heads)
    keep_heads(layer, [head for place, head in heads if place not in gone])


@dataclass(frozen=True, kw_only=True)
class HeadPruning(Allocated):
    """Removes whole heads, physically."""

    takes_heads = True
    keep: Keep = 1  # heads that stay in each layer at least

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return how many heads go; the weights say which layers bear the last round."""
        layers = architecture.layers_of(config)
        spare = [max(0, len(layer.heads) - self.keep) for layer in layers]
        target = (1 - ratio) * architecture.remaining(config)

        def config_at(amount: int) -> dict:
            pairs = zip(layers, allocation.spread(amount, spare), strict=True)
            after = [replace(x, heads=x.heads[: len(x.heads) - share]) for x, share in pairs]
            return architecture.with_layers(config, after)

        best = allocation.nearest(
            range(sum(spare) + 1), lambda amount: architecture.remaining(config_at(amount)) - target
        )
        return Sizing(config_at(best), {"heads": best})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` without its lowest heads."""
        amount, scores = sizing.knobs["heads"], self.scores(model, context)
        if self.allocation == "uniform":
            places = lowest_heads(scores, amount, self.keep)
        else:
            places = self.lowest_units(model, scores, amount, self.keep, without_heads, context)
        for layer, gone in zip(model.encoder.layers, places, strict=True):
            without_heads(layer, gone)
        return model

    def scores(self, model: Module, context: Context) -> list[Tensor]:
        """Return the score of each head (heads,) of each layer."""
        return [head_scores(layer) for layer in model.encoder.layers]
