"""How what shall go is shared among layers."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from speech_pareto.models import architecture
from speech_pareto.models.architecture import Layer


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
