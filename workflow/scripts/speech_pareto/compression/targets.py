"""Ratios of another cost than parameters: `{macs: 0.5}` is half of the multiply-accumulates."""

from collections.abc import Callable, Mapping

from speech_pareto.models import operations, storage

SECONDS = 10.0  # of the recording whose MACs count
TOLERANCE = 0.01  # how far from the asked ratio a student may lie
COSTS: dict[str, tuple[str, Callable[[Mapping], float]]] = {
    "macs": ("MACs", lambda config: operations.macs(config, SECONDS)["total"]),
    "bytes": ("bytes", storage.stored_bytes),
}


def removed(before: Mapping, after: Mapping, cost: str) -> float:
    """Return the share of a cost, one of `COSTS`, that a student's config saves."""
    of = COSTS[cost][1]
    return 1 - of(after) / of(before)


def words(target: Mapping[str, float]) -> str:
    """Return a target in words: "0.5 of MACs"."""
    ((cost, share),) = target.items()
    return f"{share:g} of {COSTS[cost][0]}"


def gap(before: Mapping, target: Mapping[str, float], after: Mapping) -> float:
    """Return how much less than its target a student's config saves."""
    ((cost, share),) = target.items()
    return share - removed(before, after, cost)


def missed(before: Mapping, after: Mapping, target: Mapping[str, float]) -> str | None:
    """Return in words that a student misses its target; None if it does not."""
    ((cost, share),) = target.items()
    reached = removed(before, after, cost)
    if abs(reached - share) <= TOLERANCE:
        return None
    return f"can remove {reached:.3f} of the {COSTS[cost][0]}, not {share:g}"
