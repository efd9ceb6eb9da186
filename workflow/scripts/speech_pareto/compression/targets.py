"""Ratios of another cost than parameters: `{macs: 0.5}` is half of the multiply-accumulates.

`{seconds: 0.5, device: pi-1-threads}` is half of the time on a device, as its table of latencies
tells it; `table` is then the file, and `digest` tells its content (see `study.shares`).
"""

from collections.abc import Callable, Mapping

from speech_pareto.models import latency, operations, storage

SECONDS = 10.0  # of the recording whose MACs, or whose time, count
TOLERANCE = 0.01  # how far from the asked ratio a student may lie
COSTS: dict[str, tuple[str, Callable[[Mapping], float]]] = {
    "macs": ("MACs", lambda config: operations.macs(config, SECONDS)["total"]),
    "bytes": ("bytes", storage.stored_bytes),
}
TIME = "seconds"


def share(target: Mapping) -> float:
    """Return the share of its cost that a target saves."""
    return next(target[key] for key in (*COSTS, TIME) if key in target)


def cost_name(target: Mapping) -> str:
    """Return what a target saves a share of: "MACs", "time on pi-1-threads"."""
    named = (label for key, (label, _) in COSTS.items() if key in target)
    return next(named, None) or f"time on {target['device']}"


def cost(target: Mapping, config: Mapping) -> float:
    """Return what a model costs, in the terms of a target; `latency.NotInTable` if none tells."""
    if TIME in target:
        return latency.read(target["table"]).seconds(config, SECONDS)
    return next(of(config) for key, (_, of) in COSTS.items() if key in target)


def removed(before: Mapping, after: Mapping, target: Mapping) -> float:
    """Return the share of a target's cost that a student's config saves."""
    return 1 - cost(target, after) / cost(target, before)


def words(target: Mapping) -> str:
    """Return a target in words: "0.5 of MACs"."""
    return f"{share(target):g} of {cost_name(target)}"


def gap(before: Mapping, target: Mapping, after: Mapping) -> float:
    """Return how much less than its target a student's config saves: all, where none tells."""
    try:
        return share(target) - removed(before, after, target)
    except latency.NotInTable:  # `missed` says so
        return share(target)


def missed(before: Mapping, after: Mapping, target: Mapping) -> str | None:
    """Return in words that a student misses its target; None if it does not."""
    try:
        reached = removed(before, after, target)
    except latency.NotInTable as error:
        return f"has no known {cost_name(target)}: {error}"
    if abs(reached - share(target)) <= TOLERANCE:
        return None
    return f"can remove {reached:.3f} of the {cost_name(target)}, not {share(target):g}"
