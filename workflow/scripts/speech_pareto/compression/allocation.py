"""How what shall go is shared among layers; planning reads this."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise, product
from typing import TYPE_CHECKING, TypeVar

from speech_pareto.models import architecture
from speech_pareto.models.architecture import Layer

if TYPE_CHECKING:
    from torch import Tensor

Place = TypeVar("Place")
Level = TypeVar("Level")
FINER = 8  # how many units take the place of a larger one, at least
LEAST = 8  # one of so many channels of a layer of the stem stays
Cost = Callable[[Sequence[int]], float]  # of a model whose parts lost so many units each


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


def narrowed(config: Mapping, amount: int) -> list[int]:
    """Return the channels of each layer of the stem when `amount` of the spare ones are gone."""
    widths, spares = architecture.complete(config)["conv_dim"], spare_channels(config)
    total, left = sum(spares), []
    for number, (width, own) in enumerate(zip(widths, spares, strict=True)):
        begin = number * total // len(widths)  # layers take turns: one channel goes at a time
        left.append(width - min(own, (amount * own + begin) // max(1, total)))
    return left


def spare_channels(config: Mapping) -> list[int]:
    """Return how many channels of each layer of the stem can go.

    The last ones cannot where no projection follows: they are the model's width.
    """
    widths = architecture.prunable_channels(config)
    fixed = len(architecture.complete(config)["conv_dim"]) - len(widths)
    return [width - -(-width // LEAST) for width in widths] + [0] * fixed


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
    joint: Mapping[tuple[Place, Place], Mapping[tuple[Level, Level], float]] | None = None,
) -> dict[Place, Level]:
    """Return the level of each place with the least damage in all, of sizes within both limits.

    `joint` says, of two places and a level of each, what both have beyond the sum of their sizes. A
    mixed integer program, solved to the end by HiGHS. ValueError if nothing fits.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    options = [(place, level) for place in damage for level in damage[place]]
    pairs = {
        (pair, (pair[0], one), (pair[1], other)): size
        for pair, own in (joint or {}).items()
        for (one, other), size in own.items()
    }
    # x is 1 for the level that a place has, and only one of its x is. y is 1 for the levels that
    # two places have: those y of a pair that one level is part of add up to the x of that level.
    both = list(dict.fromkeys((pair, own) for pair, *each in pairs for own in each))
    equations = np.zeros((len(damage) + len(both), len(options) + len(pairs)))
    for column, (place, _) in enumerate(options):
        equations[list(damage).index(place), column] = 1
    for column, (pair, *each) in enumerate(pairs, len(options)):
        equations[[len(damage) + both.index((pair, own)) for own in each], column] = 1
    for row, (_, own) in enumerate(both, len(damage)):
        equations[row, options.index(own)] = -1
    totals = np.array([1] * len(damage) + [0] * len(both))
    room = np.array([[*(sizes[place][level] for place, level in options), *pairs.values()]]) / most
    found = milp(
        [damage[place][level] for place, level in options] + [0.0] * len(pairs),
        integrality=np.array([1] * len(options) + [0] * len(pairs)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(equations, totals, totals),
            LinearConstraint(room, least / most, 1),
        ],
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        raise ValueError(f"no choice takes {least:.0f} to {most:.0f}")
    taken = zip(options, found.x, strict=False)
    return {place: level for (place, level), share in taken if share > 0.5}


def lowest_of_all(
    scores: Sequence[Tensor], spare: Sequence[int], cost: Cost, room: float
) -> list[int]:
    """Return how many units of each part go when the model's lowest go, until it costs `room`.

    `scores` (units,) of each part, of which the `spare` lowest may go, are compared as shares of
    their part's norm (Molchanov et al., ICLR 2017, https://arxiv.org/abs/1611.06440), squared, for
    what a unit of the part saves.
    """
    ranked = []
    for index, (own, saved) in enumerate(zip(scores, savings(spare, cost), strict=True)):
        if saved > 0:
            energies = ((own / (own.norm() + 1e-20)) ** 2 / saved).sort().values
            ranked += [(energy, index) for energy in energies[: spare[index]].tolist()]
    order = [index for _, index in sorted(ranked)]

    def without(number: int) -> list[int]:
        taken = Counter(order[:number])
        return [taken[index] for index in range(len(spare))]

    number = bisect_left(range(len(order)), True, key=lambda n: cost(without(n)) <= room)
    back, more = list(dict.fromkeys(order[:number][::-1])), list(dict.fromkeys(order[number:]))
    return fitted(without(number), back, more, cost, room, [0] * len(spare), spare)


def savings(spare: Sequence[int], cost: Cost) -> list[float]:
    """Return what a unit of each part saves, on average over the `spare` ones of this part."""
    nothing = [0] * len(spare)
    alone = ([n if p == part else 0 for p in range(len(spare))] for part, n in enumerate(spare))
    return [(cost(nothing) - cost(gone)) / max(1, sum(gone)) for gone in alone]


def fitted(
    gone: list[int],
    back: Sequence[int],
    more: Sequence[int],
    cost: Cost,
    room: float,
    least: Sequence[int],
    most: Sequence[int],
) -> list[int]:
    """Return `gone`, which costs no more than `room`, so that it leaves less than a unit of that.

    Units come back, first those of parts first in `back`, part p to `least[p]` and then further.
    Where all that are left to come back are too large, one does, and much smaller ones of other
    parts go, first those of parts first in `more`; part p has `most[p]`.
    """

    def filled(gone: list[int], part: int, numbers: range) -> list[int]:
        """Return `gone` with the first of `numbers` of a part for which there is room, else all."""

        def changed(number: int) -> list[int]:
            return [*gone[:part], number, *gone[part + 1 :]]

        place = bisect_left(numbers, True, key=lambda number: cost(changed(number)) <= room)
        return changed(numbers.start + place)

    for part, low in [*((part, least[part]) for part in back), *((part, 0) for part in back)]:
        gone = filled(gone, part, range(low, gone[part]))
    sizes = savings(most, cost)
    for part in (part for part in back if gone[part]):
        smaller = [p for p in more if 0 < FINER * sizes[p] <= sizes[part]]
        if not smaller or room - cost(gone) < min(sizes[p] for p in smaller):
            continue
        other = [n - (index == part) for index, n in enumerate(gone)]
        for fine in smaller:
            other = filled(other, fine, range(other[fine], most[fine]))
        if cost(gone) < cost(other) <= room:
            gone = other
    return gone


def steps_to(most: int, number: int) -> list[int]:
    """Return at most `number` numbers from 1 to `most`, as even as whole ones can be."""
    return sorted({round(most * step / number) for step in range(1, number + 1)} - {0})


def least_damage(
    damage: Sequence[Mapping[int, float]],
    cost: Cost,
    room: float,
    neighbours: Iterable[tuple[int, int]] = (),
) -> list[int]:
    """Return how many units each part loses with the least damage, so that the rest has `room`.

    `damage` maps numbers of units to what their loss does; 0 does none. Damages are taken to add
    up, and so are savings, but for those of parts that are `neighbours`. Numbers that are not among
    those come from the cheapest choice of up to a step more: the parts whose last ones did most for
    what they save get these back (`fitted`).
    """
    levels = [{0: 0.0, **own} for own in damage]

    def saved(*lost: tuple[int, int]) -> float:
        gone = dict(lost)
        now = [gone.get(part, 0) for part in range(len(levels))]
        return cost([0] * len(levels)) - cost(now)

    options = dict(enumerate(levels))
    sizes = {
        part: {number: saved((part, number)) for number in own} for part, own in options.items()
    }
    joint = {
        (a, b): {
            (n, m): saved((a, n), (b, m)) - sizes[a][n] - sizes[b][m]
            for n, m in product(levels[a], levels[b])
        }
        for a, b in neighbours
    }
    gaps = [b - a for own in sizes.values() for a, b in pairwise(own.values())]
    least = cost([0] * len(levels)) - room
    if least <= 0 or not gaps:
        return [0] * len(levels)
    chosen = cheapest(options, sizes, least, least + 0.999 * max(gaps), joint)
    gone = [chosen[part] for part in options]
    steps = {part: list(own) for part, own in options.items()}
    before = [steps[part][max(0, steps[part].index(gone[part]) - 1)] for part in options]

    def worth(part: int, ahead: int) -> float:
        """Return the damage of the last units of a part, or of the next ones, for their savings."""
        place = steps[part].index(gone[part]) + ahead
        if not 0 < place < len(steps[part]):
            return math.inf if ahead else 0.0
        low, high = steps[part][place - 1], steps[part][place]
        saves = sizes[part][high] - sizes[part][low]
        return (levels[part][high] - levels[part][low]) / saves if saves else 0.0

    back = sorted(options, key=lambda part: worth(part, 0), reverse=True)
    more = sorted(options, key=lambda part: worth(part, 1))
    return fitted(gone, back, more, cost, room, before, [max(own) for own in levels])
