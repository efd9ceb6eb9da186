"""Low rank: each matrix becomes a product of two thinner ones, its truncated SVD.

    W ≈ (U_k √S_k)(√S_k V_kᵀ),  k (m + n) parameters in the place of m n

The ranks are the same fraction of m n / (m + n), where nothing is saved, for all matrices. The
truncation is the best of its rank in the Frobenius norm (Eckart & Young, 1936).

With `allocation: global` those terms go, of all matrices, that give least of a matrix's energy for
their parameters, σ² / (‖W‖² (m + n)). With `sensitivity` each layer has a fraction of its own for
its attention and one for its feed-forward part, those that damage the last hidden state of some
audio least (`parts.allocated`); what they leave is spent as by `global`. Both leave a matrix whole
where no rank saves anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Literal

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Context, Sizing
from speech_pareto.compression.parts.allocated import LEVELS, Allocated
from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch.nn import Module

PARTS = {
    "both": (*architecture.ATTENTION, *architecture.FFN),
    "attention": architecture.ATTENTION,
    "ffn": architecture.FFN,
}
Ranks = dict[tuple[int, str], int]  # by layer and matrix


@dataclass(frozen=True, kw_only=True)
class LowRank(Allocated):
    """Factorises the layers' matrices, physically."""

    parts: Literal["both", "attention", "ffn"] = "both"  # which matrices

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return the rank of each matrix of each layer; not `uniform`, how many parameters stay."""
        layers = architecture.layers_of(config)
        target = (1 - ratio) * architecture.remaining(config)
        shapes = [architecture.matrices(config, layer) for layer in layers]
        pairs = product(range(len(layers)), PARTS[self.parts])
        places = [(index, name) for index, name in pairs if name in shapes[index]]

        def sizing(after: Mapping, ranks: list[dict[str, int]]) -> Sizing:
            uniform = self.allocation == "uniform"
            left = {"left": architecture.remaining(after)}
            return Sizing(dict(after), {"ranks": ranks} if uniform else left)

        if ratio <= 0:
            return sizing(config, [{} for _ in layers])

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
        return sizing(config_at(ranks), ranks)

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` with factors in the place of matrices."""
        if self.allocation == "uniform":
            ranks = sizing.knobs["ranks"]
        else:
            ranks = self.allocated(model, sizing.knobs["left"], context)
        for layer, own in zip(model.encoder.layers, ranks, strict=True):
            factorise(layer, own)
        return model

    def allocated(self, model: Module, left: int, context: Context) -> list[dict[str, int]]:
        """Return the ranks of each layer's matrices with which `left` parameters stay at most."""
        import torch

        from speech_pareto.models.backbone import describe
        from speech_pareto.models.surgery import matrix, weight

        config = describe(model)
        layers = architecture.layers_of(config)
        shapes, most, energies = {}, {}, {}
        for index, layer in enumerate(layers):
            for name, shape in architecture.matrices(config, layer).items():
                if name in PARTS[self.parts]:
                    place, term = (index, name), sum(shape)  # parameters of one rank
                    shapes[place] = shape
                    most[place] = layer.ranks.get(name) or -(-shape[0] * shape[1] // term)
                    values = weight(matrix(model.encoder.layers[index], name)).detach().double()
                    energy = torch.linalg.svdvals(values).square()
                    energies[place] = (energy / energy.sum() / term).tolist()

        def cost(place: tuple[int, str], rank: int) -> int:
            outputs, inputs = shapes[place]
            whole = rank == most[place] and place[1] not in layers[place[0]].ranks
            return outputs * inputs if whole else rank * (outputs + inputs)

        room = left - architecture.remaining(config) + sum(cost(x, most[x]) for x in shapes)
        ranks = dict.fromkeys(shapes, 1)
        if self.allocation == "sensitivity":
            ranks = self.least_damage(model, most, cost, room, context)
        room -= sum(cost(place, rank) for place, rank in ranks.items())
        terms = sorted(
            (-energy, place, rank)
            for place, own in energies.items()
            for rank, energy in enumerate(own[: most[place]], 1)
            if rank > ranks[place]
        )
        for _, place, rank in terms:
            more = cost(place, rank) - cost(place, rank - 1)
            if rank == ranks[place] + 1 and more <= room:
                ranks[place], room = rank, room - more
        found: list[dict[str, int]] = [{} for _ in layers]
        for (index, name), rank in ranks.items():
            if rank < most[index, name]:
                found[index][name] = rank
        return found

    def least_damage(
        self, model: Module, most: Ranks, cost: Callable, room: float, context: Context
    ) -> Ranks:
        """Return the ranks that cost at most `room` parameters and do the least damage."""
        from speech_pareto.compression import sensitivity

        groups: dict[tuple[int, bool], list[tuple[int, str]]] = {}
        for place in most:
            groups.setdefault((place[0], place[1] in architecture.FFN), []).append(place)

        def ranks_at(group: tuple[int, bool], step: int) -> Ranks:
            return {place: max(1, most[place] * step // LEVELS) for place in groups[group]}

        asked = list(product(groups, range(LEVELS)))
        changes = []
        for group, step in asked:
            own = {name: rank for (_, name), rank in ranks_at(group, step).items()}
            changes.append(sensitivity.in_layer(group[0], partial(factorise, ranks=own)))
        found = sensitivity.damages(model, changes, self.heard(context))
        damage = {group: {LEVELS: 0.0} for group in groups}
        for (group, step), value in zip(asked, found, strict=True):
            damage[group][step] = value
        sizes = {
            group: {
                step: sum(cost(*own) for own in ranks_at(group, step).items()) for step in steps
            }
            for group, steps in damage.items()
        }
        chosen = allocation.cheapest(damage, sizes, 0, room)
        pairs = [ranks_at(group, step) for group, step in chosen.items()]
        return {place: rank for own in pairs for place, rank in own.items()}


def factorise(layer: Module, ranks: Mapping[str, int]) -> None:
    """Put factors of these ranks in the place of matrices of a layer."""
    import torch

    from speech_pareto.models.surgery import bias, factors, matrix, set_matrix, weight

    for name, rank in ranks.items():
        module = matrix(layer, name)
        left, values, right = torch.linalg.svd(weight(module).detach(), full_matrices=False)
        root = values[:rank].sqrt()
        down, up = root[:, None] * right[:rank], left[:, :rank] * root
        set_matrix(layer, name, factors(down, up, bias(module)))
