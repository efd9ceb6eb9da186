"""Ranks that differ from matrix to matrix, within a budget of parameters.

    global        those terms of all SVDs go that give least energy a parameter, σ² / (‖W‖² (m + n))
    sensitivity   minimise Σ_g d_g(s_g)  such that  Σ_g p_g(s_g) ≤ budget

A group g is the attention, or the feed-forward part, of a layer; s_g is what share of their ranks
its matrices keep, p_g their parameters, d_g what this does to the last hidden state of some audio,
alone. What a program leaves of its budget is spent as by `global`. A matrix stays whole where no
rank saves anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product

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
    """How `parameters` of a model, all in all, are shared among some matrices of its layers."""

    def __init__(self, model: nn.Module, names: Sequence[str], parameters: int) -> None:
        config = describe(model)
        self.model, self.layers = model, architecture.layers_of(config)
        self.shapes = {
            (index, name): shape
            for index, layer in enumerate(self.layers)
            for name, shape in architecture.matrices(config, layer).items()
            if name in names
        }
        # Where a matrix is whole, the least rank that saves nothing.
        self.most: Ranks = {
            (index, name): self.layers[index].ranks.get(name) or -(-m * n // (m + n))
            for (index, name), (m, n) in self.shapes.items()
        }
        self.room = parameters - architecture.remaining(config) + self.cost(self.most)

    def cost(self, ranks: Ranks) -> int:
        """Return the weights of matrices of these ranks."""
        return sum(self._cost(place, rank) for place, rank in ranks.items())

    def _cost(self, place: Place, rank: int) -> int:
        outputs, inputs = self.shapes[place]
        whole = rank == self.most[place] and place[1] not in self.layers[place[0]].ranks
        return outputs * inputs if whole else rank * (outputs + inputs)

    def spent(self, start: Ranks | None = None) -> list[dict[str, int]]:
        """Return the ranks of each layer: those of `start`, else 1, and terms of largest energy."""
        ranks = dict(start or dict.fromkeys(self.shapes, 1))
        room, terms = self.room - self.cost(ranks), []
        for place, shape in self.shapes.items():
            weights = weight(matrix(self.model.encoder.layers[place[0]], place[1]))
            energy = torch.linalg.svdvals(weights.detach().double()).square()
            own = (energy / energy.sum() / sum(shape)).tolist()[: self.most[place]]
            terms += [(-x, place, rank) for rank, x in enumerate(own, 1) if rank > ranks[place]]
        for _, place, rank in sorted(terms):
            more = self._cost(place, rank) - self._cost(place, rank - 1)
            if rank == ranks[place] + 1 and more <= room:
                ranks[place], room = rank, room - more
        found: list[dict[str, int]] = [{} for _ in self.layers]
        for (index, name), rank in ranks.items():
            if rank < self.most[index, name]:
                found[index][name] = rank
        return found

    def least_damage(self, batches: Sequence[Mapping[str, Tensor]], beside: nn.Module) -> Ranks:
        """Return the ranks for which there is room that do the least damage to what is heard.

        It is measured on the device of the module `beside`.
        """
        groups: dict[tuple[int, bool], list[Place]] = {}
        for place in self.shapes:
            groups.setdefault((place[0], place[1] in architecture.FFN), []).append(place)

        def ranks_at(group: tuple[int, bool], step: int) -> Ranks:
            return {place: max(1, self.most[place] * step // LEVELS) for place in groups[group]}

        asked, changes = list(product(groups, range(LEVELS))), []
        for group, step in asked:
            own = {name: rank for (_, name), rank in ranks_at(group, step).items()}
            changes.append(in_layer(group[0], partial(factorise, ranks=own)))
        damage: dict = {group: {LEVELS: 0.0} for group in groups}
        found = damages(self.model, changes, batches, beside=beside)
        for (group, step), value in zip(asked, found, strict=True):
            damage[group][step] = value
        sizes = {
            group: {step: self.cost(ranks_at(group, step)) for step in steps}
            for group, steps in damage.items()
        }
        chosen = allocation.cheapest(damage, sizes, 0, self.room)
        pairs = [ranks_at(group, step) for group, step in chosen.items()]
        return {place: rank for own in pairs for place, rank in own.items()}
