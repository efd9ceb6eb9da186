"""A recipe: a chain of methods, and where it leads from a config at a ratio. Needs no torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from speech_pareto.compression import targets
from speech_pareto.compression.catalogue import load
from speech_pareto.compression.method import Method, Sizing
from speech_pareto.compression.targets import TOLERANCE
from speech_pareto.models import architecture
from speech_pareto.runtime.bounds import problems

FIRST = "it stands first in a recipe, as its one training of the teacher serves all ratios"


@dataclass(frozen=True)
class Solution:
    """Where a recipe leads: config, ratio and, if that is not what was asked, the reason."""

    config: dict
    ratio: float
    sizings: tuple[Sizing, ...]
    reason: str | None = None


def make(entry: str | Mapping[str, Mapping]) -> Method:
    """Return the method of `name` or `{name: settings}`; ValueError says what is wrong."""
    if isinstance(entry, Mapping) and len(entry) != 1:
        raise ValueError(f"an entry is one method, not {', '.join(map(str, entry)) or 'none'}")
    name, settings = next(iter(entry.items())) if isinstance(entry, Mapping) else (entry, {})
    kind, settings = load(name), dict(settings or {})
    wrong = [f"{key}: {said}" if key else said for key, said in problems(kind, settings)]
    if wrong:
        raise ValueError(f"{name}: {' '.join(wrong)}")
    return kind(**settings)


def make_all(recipe: Sequence) -> list[Method]:
    """Return the methods of a recipe; ValueError if more than one is to fill up the ratio."""
    methods = [make(entry) for entry in recipe]
    free = [_name(method) for method in methods if method.removes and method.ratio is None]
    if not methods:
        raise ValueError("a recipe needs at least one method")
    for late in (method for method in methods[1:] if method.trains_once):
        raise ValueError(f"{_name(late)}: {FIRST}")
    if len(free) > 1:
        raise ValueError(f"{' and '.join(free)}: all but one of these need a ratio of their own")
    return methods


def walk(
    methods: Sequence[Method],
    config: Mapping,
    ratio: float,
    apply: Callable[[Method, Sizing], Mapping] | None = None,
    target: Mapping | None = None,
) -> Solution:
    """Return where a recipe leads from `config` when `ratio` of the parameters shall go in all.

    Methods with a ratio of their own remove that fraction of what reaches them; the one without
    takes what is needed. `apply` does each and returns the config that came out; without it,
    this only plans. `target` is what else has to be met: see `targets`.
    """
    start, left = architecture.remaining(config), (1 - ratio) * architecture.remaining(config)
    now, sizings = dict(config), []
    # What removes parameters meets a target; frames make no difference to bytes.
    adapting = target and "bytes" not in target and not any(m.removes for m in methods)
    for index, method in enumerate(methods):
        problem = method.obstacle(now) or method.obstacle_to_learning(now, config)
        if problem:
            reached = 1 - architecture.remaining(now) / start
            return Solution(now, reached, tuple(sizings), f"{_name(method)}: {problem}")
        wanted = method.ratio or 0.0
        if method.removes and method.ratio is None:
            wanted = 1 - left / architecture.remaining(now)
            for later in methods[index + 1 :]:
                wanted = 1 - (1 - wanted) / (1 - (later.ratio or 0.0))
        if target and adapting and method.adapts:
            sizing = method.meet(now, partial(targets.gap, config, target))
        else:
            sizing = method.solve(now, max(0.0, wanted))
        sizings.append(sizing)
        now = dict(apply(method, sizing) if apply else sizing.config)
    reached = 1 - architecture.remaining(now) / start
    missed = targets.missed(config, now, target) if target else None
    if not target and abs(reached - ratio) > TOLERANCE:
        missed = f"can remove {reached:.3f} of the parameters, not {ratio:g}"
    reason = f"{' → '.join(map(_name, methods))} {missed}" if missed else None
    return Solution(now, reached, tuple(sizings), reason)


def adapts(recipe: Sequence) -> bool:
    """Return whether a target in MACs chooses a knob of a recipe that removes nothing."""
    methods = make_all(recipe)
    return any(m.adapts for m in methods) and not any(m.removes for m in methods)


def solve(
    recipe: Sequence, config: Mapping, ratio: float, target: Mapping | None = None
) -> Solution:
    """Return where a recipe leads, from the config alone."""
    return walk(make_all(recipe), config, ratio, target=target)


def projection_parameters(recipe: Sequence, config: Mapping, ratio: float) -> int:
    """Return the parameters of the projections that a recipe's students are distilled with."""
    methods, total = make_all(recipe), 0
    for method, sizing in zip(methods, walk(methods, config, ratio).sizings, strict=False):
        count = getattr(method, "projection_parameters", None)
        if count and method.training_steps():
            total += count(config, sizing.config)
        config = sizing.config
    return total


def _name(method: Method) -> str:
    """Return the name of a method's file."""
    return type(method).__module__.rpartition(".")[2]
