"""How what shall go is shared among layers; planning reads this."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, TypeVar

from speech_pareto.models import architecture
from speech_pareto.models.architecture import Layer

if TYPE_CHECKING:
    from torch import Tensor

Place = TypeVar("Place")
Level = TypeVar("Level")


def nearest(numbers: range, excess: Callable[[int], float]) -> int:
    """Return the one of `numbers` that brings `excess`, which falls along them, nearest to zero."""
    place = bisect_left(numbers, True, key=lambda number: excess(number) <= 0)
    return min(numbers[max(0, place - 1) : place + 1], key=lambda number: abs(excess(number)))


def spread(amount: int, capacities: Sequence[int]) -> list[int]:
    """Return how `amount` is shared as evenly as the capacities allow, earlier places first."""
    shares = [0] * len(capacities)
    left = max(0, min(amount, sum(capacities)))
    while left:
        open_places = [i for i, capacity in enumerate(capacities) if shares[i] < capacity]
        room = min(capacities[i] - shares[i] for i in open_places)
        step = max(1, min(left // len(open_places), room))
        for i in open_places[:left]:
            shares[i] += step
            left -= step
    return shares


def proportional(amount: int, sizes: Sequence[int]) -> list[int]:
    """Return how `amount` is shared in proportion to `sizes`, in whole numbers."""
    total, ends = sum(sizes), [0, *accumulate(sizes)]
    parts = [round(amount * end / total) for end in ends]
    return [after - before for before, after in pairwise(parts)]


def thin(config: Mapping, layers: Sequence[Layer], amount: float) -> list[Layer]:
    """Return `layers` without about `amount` parameters: the same share of all heads and rows.

    What whole heads miss, rows make up; each layer keeps at least one of either that it has.
    """
    sizes = (architecture.head_parameters, architecture.row_parameters)
    head, row = (size(config, layers[0]) for size in sizes)
    spare_heads = [max(0, len(layer.heads) - 1) for layer in layers]
    spare_rows = [max(0, layer.ffn - 1) for layer in layers]
    share = amount / max(1, head * sum(spare_heads) + row * sum(spare_rows))
    heads = round(max(0.0, min(1.0, share)) * sum(spare_heads))
    heads_gone = spread(heads, spare_heads)
    rows_gone = spread(round((amount - heads * head) / row), spare_rows)
    return [
        replace(layer, heads=layer.heads[: len(layer.heads) - fewer], ffn=layer.ffn - thinner)
        for layer, fewer, thinner in zip(layers, heads_gone, rows_gone, strict=True)
    ]


def kept(layers: Sequence[Layer]) -> dict[str, list[int]]:
    """Return as knobs how many `heads` and `rows` each layer has."""
    heads = [len(layer.heads) for layer in layers]
    return {"heads": heads, "rows": [layer.ffn for layer in layers]}


def zeroed(config: Mapping, ratio: float) -> dict:
    """Return `config` with zeros for a share `ratio` of its parameters, as far as matrices go."""
    weights = sum(outputs * inputs for outputs, inputs in architecture.linear_shapes(config))
    zeros = min(round(ratio * architecture.remaining(config)), weights)
    return architecture.with_layers(config, architecture.layers_of(config), zeros)


def cheapest(
    damage: Mapping[Place, Mapping[Level, float]],
    sizes: Mapping[Place, Mapping[Level, float]],
    least: float,
    most: float,
) -> dict[Place, Level]:
    """Return the level of each place with the least damage in all, of sizes within both limits.

    A mixed integer program, solved to the end by HiGHS. ValueError if nothing fits.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    options = [(place, level) for place in damage for level in damage[place]]
    places = list(damage)
    one = np.zeros((len(places), len(options)))
    for column, (place, _) in enumerate(options):
        one[places.index(place), column] = 1
    room = np.array([[sizes[place][level] / most for place, level in options]])
    found = milp(
        [damage[place][level] for place, level in options],
        integrality=np.ones(len(options)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one, 1, 1), LinearConstraint(room, least / most, 1)],
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        raise ValueError(f"no choice takes {least:.0f} to {most:.0f}")
    taken = zip(options, found.x, strict=True)
    return {place: level for (place, level), share in taken if share > 0.5}


def lowest_of_all(scores: Sequence[Tensor], amount: int, keep: int = 1) -> list[list[int]]:
    """Return for each layer which places go when the model's `amount` lowest units go.

    `scores` (units,) of each layer are compared as shares of their layer's norm, as those of
    Molchanov et al., ICLR 2017, https://arxiv.org/abs/1611.06440; the `keep` highest of each stay.
    """
    shares = [(layer / (layer.norm() + 1e-20)).tolist() for layer in scores]
    best = [set(layer.argsort(descending=True, stable=True)[:keep].tolist()) for layer in scores]
    spare = sorted(
        (share, index, place)
        for index, layer in enumerate(shares)
        for place, share in enumerate(layer)
        if place not in best[index]
    )
    gone: list[list[int]] = [[] for _ in shares]
    for _, index, place in spare[:amount]:
        gone[index].append(place)
    return gone


def steps_to(most: int, number: int) -> list[int]:
    """Return at most `number` numbers from 1 to `most`, as even as whole ones can be."""
    return sorted({round(most * step / number) for step in range(1, number + 1)} - {0})


def least_damage(damage: Sequence[Mapping[int, float]], amount: int) -> list[int]:
    """Return how many units each place loses, `amount` in all, with the least damage.

    `damage` maps numbers of units to what their loss does; 0 does none. Damages are taken to add
    up. Numbers that are not among those come from the cheapest choice of a few more units: the
    place whose last ones did most gets these back.
    """
    levels = [{0: 0.0, **own} for own in damage]
    gaps = [b - a for own in levels for a, b in pairwise(own)]
    if not amount or not gaps:
        return [0] * len(levels)
    most = min(amount + max(gaps) - 1, sum(max(own) for own in levels))
    options = dict(enumerate(levels))
    sizes = {place: {number: number for number in own} for place, own in options.items()}
    gone = cheapest(options, sizes, amount, most)
    excess = sum(gone.values()) - amount

    def last_step(place: int) -> tuple[float, int]:
        """Return the damage of each of the last units, and how many they are."""
        number = gone[place]
        before = max((n for n in levels[place] if n < number), default=0)
        steps = max(1, number - before)
        return (levels[place][number] - levels[place][before]) / steps, number - before

    for place in sorted(gone, key=last_step, reverse=True):
        back = min(excess, last_step(place)[1])
        gone[place], excess = gone[place] - back, excess - back
    return [gone[place] for place in range(len(levels))]
