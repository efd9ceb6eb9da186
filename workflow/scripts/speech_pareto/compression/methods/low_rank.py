"""Low rank: each matrix becomes a product of two thinner ones, its truncated SVD.

    W ≈ (U_k √S_k)(√S_k V_kᵀ),  k (m + n) parameters in the place of m n

The ranks are the same fraction of m n / (m + n), where nothing is saved, for all matrices. The
truncation is the best of its rank in the Frobenius norm (Eckart & Young, 1936).

With another `allocation` ranks differ from layer to layer, see `parts.ranks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Literal

from speech_pareto.compression.method import Context, Sizing
from speech_pareto.compression.parts.allocated import ROUNDING, Allocated
from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch.nn import Module

PARTS = {
    "both": (*architecture.ATTENTION, *architecture.FFN),
    "attention": architecture.ATTENTION,
    "ffn": architecture.FFN,
}


@dataclass(frozen=True, kw_only=True)
class LowRank(Allocated):
    """Factorises the layers' matrices, physically."""

    parts: Literal["both", "attention", "ffn"] = "both"  # which matrices

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return the rank of each matrix of each layer if all bear alike; else the size is this."""
        layers = architecture.layers_of(config)
        target = (1 - ratio) * architecture.remaining(config)
        shapes = [architecture.matrices(config, layer) for layer in layers]
        pairs = product(range(len(layers)), PARTS[self.parts])
        places = [(index, name) for index, name in pairs if name in shapes[index]]

        if ratio <= 0:
            return Sizing(dict(config), {"ranks": [{} for _ in layers]})

        def ranks_at(share: float) -> list[dict[str, int]]:
            ranks = [{} for _ in layers]
            for index, name in places:
                outputs, inputs = shapes[index][name]
                rank = max(1, int(share * outputs * inputs / (outputs + inputs)))
                ranks[index][name] = min(rank, layers[index].ranks.get(name, rank))
            return ranks

        def config_at(ranks: list[dict[str, int]]) -> dict:
            pairs = zip(layers, ranks, strict=True)
            after = [replace(layer, ranks={**layer.ranks, **own}) for layer, own in pairs]
            return architecture.with_layers(config, after)

        low, high = 0.0, 1.0
        for _ in range(20):
            middle = (low + high) / 2
            fits = architecture.remaining(config_at(ranks_at(middle))) <= target
            low, high = (middle, high) if fits else (low, middle)
        ranks = ranks_at(low)
        left = target - architecture.remaining(config_at(ranks))
        for index, name in places:  # spend what is left one rank at a time
            cost, full = sum(shapes[index][name]), min(shapes[index][name])
            if cost <= left and ranks[index][name] < layers[index].ranks.get(name, full):
                ranks[index][name] += 1
                left -= cost
        return Sizing(config_at(ranks), {"ranks": ranks})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` with factors in the place of matrices."""
        from speech_pareto.compression.parts.ranks import Budget, factorise

        if self.allocation == "uniform":
            ranks = sizing.knobs["ranks"]
        else:
            room = context.cost(sizing.config) * (1 + ROUNDING)
            budget, start = Budget(model, PARTS[self.parts], context.cost, room), None
            if self.allocation == "sensitivity":
                start = budget.least_damage(self.heard(context), context.teacher)
            ranks = budget.spent(start)
        for layer, own in zip(model.encoder.layers, ranks, strict=True):
            factorise(layer, own)
        return model
