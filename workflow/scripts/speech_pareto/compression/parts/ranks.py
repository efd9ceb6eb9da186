"""Ranks that differ from matrix to matrix, within a budget of parameters or of another cost.

    global        those terms of all SVDs go that give least energy a parameter, σ² / (‖W‖² (m + n))
    sensitivity   minimise Σ_g d_g(n_g)  such that  Σ_g c_g(n_g) ≥ C

A group g is the attention, or the feed-forward part, of a layer; n_g is what share of their ranks
its matrices lose, c_g what this saves, d_g what it does to the last hidden state of some audio,
alone. What a program leaves of its budget is spent as by `global`. A matrix stays whole where no
rank saves parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, product

import torch
from torch import Tensor, nn

from speech_pareto.compression import allocation
from speech_pareto.compression.parts.allocated import LEVELS
from speech_pareto.compression.sensitivity import damages, in_layer
from speech_pareto.models import architecture
from speech_pareto.models.backbone import describe
from speech_pareto.models.surgery import bias, factors, matrix, set_matrix, weight

Place = tuple[int, str]  # a layer and one of its matrices
Ranks = dict[Place, int]


def factorise(layer: nn.Module, ranks: Mapping[str, int]) -> None:
    """Put the truncated SVD of these ranks in the place of matrices of a layer."""
    for name, rank in ranks.items():
        module = matrix(layer, name)
        left, values, right = torch.linalg.svd(weight(module).detach(), full_matrices=False)
        root = values[:rank].sqrt()
        down, up = root[:, None] * right[:rank], left[:, :rank] * root
        set_matrix(layer, name, factors(down, up, bias(module)))


class Budget:
    """How a `room` for a model, of what `cost(config)` says, is shared among matrices of layers."""

    def __init__(
        self,
        model: nn.Module,
        names: Sequence[str],
        cost: Callable[[Mapping], float],
        room: float,
    ) -> None:
        self.model, self.config, self.cost, self.room = model, describe(model), cost, room
        self.layers = architecture.layers_of(self.config)
        self.shapes = {
            (index, name): shape
            for index, layer in enumerate(self.layers)
            for name, shape in architecture.matrices(self.config, layer).items()
            if name in names
        }
        # Where a matrix is whole, the least rank that saves nothing.
        self.most: Ranks = {
            (index, name): self.layers[index].ranks.get(name) or -(-m * n // (m + n))
            for (index, name), (m, n) in self.shapes.items()
        }

    def fewer(self, ranks: Ranks) -> list[dict[str, int]]:
        """Return the ranks of each layer that are lower than they were."""
        found: list[dict[str, int]] = [{} for _ in self.layers]
        for (index, name), rank in ranks.items():
            if rank < self.most[index, name]:
                found[index][name] = rank
        return found

    def cost_of(self, ranks: Ranks) -> float:
        """Return what the model costs with matrices of these ranks."""
        pairs = zip(self.layers, self.fewer(ranks), strict=True)
        after = [replace(layer, ranks={**layer.ranks, **own}) for layer, own in pairs]
        return self.cost(architecture.with_layers(self.config, after))

    def spent(self, start: Ranks | None = None) -> list[dict[str, int]]:
        """Return the ranks of each layer: those of `start`, else 1, and terms of largest energy."""
        ranks = dict(start or dict.fromkeys(self.shapes, 1))
        room, terms = self.room - self.cost_of(ranks), []
        for place, shape in self.shapes.items():
            weights = weight(matrix(self.model.encoder.layers[place[0]], place[1]))
            energy = torch.linalg.svdvals(weights.detach().double()).square()
            own = (energy / energy.sum() / sum(shape)).tolist()[: self.most[place]]
            terms += [(-x, place, rank) for rank, x in enumerate(own, 1) if rank > ranks[place]]
        for _, place, rank in sorted(terms):
            if rank != ranks[place] + 1:
                continue
            more = self.cost_of({place: rank}) - self.cost_of({place: rank - 1})
            if more <= room:
                ranks[place], room = rank, room - more
        return self.fewer(ranks)

    def least_damage(self, batches: Sequence[Mapping[str, Tensor]], beside: nn.Module) -> Ranks:
        """Return the ranks for which there is room that do the least damage to what is heard.

        It is measured on the device of the module `beside`.
        """
        groups: dict[tuple[int, bool], list[Place]] = {}
        for place in self.shapes:
            groups.setdefault((place[0], place[1] in architecture.FFN), []).append(place)
        kinds = list(groups)

        def ranks_at(group: int, gone: int) -> Ranks:
            places, left = groups[kinds[group]], LEVELS - gone
            return {place: max(1, self.most[place] * left // LEVELS) for place in places}

        def ranks_without(gone: Sequence[int]) -> Ranks:
            return dict(chain(*(ranks_at(*own).items() for own in enumerate(gone))))

        asked, changes = list(product(range(len(groups)), range(1, LEVELS + 1))), []
        for group, gone in asked:
            own = {name: rank for (_, name), rank in ranks_at(group, gone).items()}
            changes.append(in_layer(kinds[group][0], partial(factorise, ranks=own)))
        damage: list[dict[int, float]] = [{} for _ in groups]
        found = damages(self.model, changes, batches, beside=beside)
        for (group, gone), value in zip(asked, found, strict=True):
            damage[group][gone] = value
        numbers = allocation.least_damage(
            damage, lambda gone: self.cost_of(ranks_without(gone)), self.room
        )
        return ranks_without(numbers)
