"""What a program over parts of a model must find, by trying all there is."""

import itertools


def brackets(damage, cost, room):
    """Return, for each part, its number in the best choice and the level below that.

    `damage` maps, for each part, numbers of units to damages; `cost(gone)` must not exceed `room`.
    """
    levels = [{0: 0.0, **own} for own in damage]
    ways = (way for way in itertools.product(*levels) if cost(way) <= room)
    best = min(ways, key=lambda way: sum(own[n] for own, n in zip(levels, way, strict=True)))
    pairs = zip(levels, best, strict=True)
    return [(max([n for n in own if n < number], default=0), number) for own, number in pairs]


def fills(found, between, cost, room):
    """Return whether a choice is the best one, less the units for which there is room."""
    lies = all(low <= n <= high for n, (low, high) in zip(found, between, strict=True))
    more = (
        [n - (index == part) for index, n in enumerate(found)]
        for part, (low, _) in enumerate(between)
        if found[part] > low
    )
    return lies and cost(found) <= room and all(cost(own) > room for own in more)
