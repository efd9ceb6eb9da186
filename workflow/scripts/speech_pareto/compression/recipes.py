"""A recipe: a chain of methods, and where it leads from a config at a ratio. Needs no torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from speech_pareto.compression.catalogue import load
from speech_pareto.compression.method import Method, Plan
from speech_pareto.models import architecture
from speech_pareto.runtime.bounds import problems

TOLERANCE = 0.01  # how far from the asked ratio a student may lie


@dataclass(frozen=True)
class Solution:
    """Where a recipe leads: config, ratio and, if that is not what was asked, the reason."""

    config: dict
    ratio: float
    plans: tuple[Plan, ...]
    reason: str | None = None


def make(step: str | Mapping[str, Mapping]) -> Method:
    """Return the method of a step, `name` or `{name: settings}`; ValueError says what is wrong."""
    if isinstance(step, Mapping) and len(step) != 1:
        raise ValueError(f"a step is one method, not {', '.join(map(str, step)) or 'none'}")
    name, settings = next(iter(step.items())) if isinstance(step, Mapping) else (step, {})
    kind, settings = load(name), dict(settings or {})
    wrong = [f"{key}: {said}" if key else said for key, said in problems(kind, settings)]
    if wrong:
        raise ValueError(f"{name}: {' '.join(wrong)}")
    return kind(**settings)


def make_all(steps: Sequence) -> list[Method]:
    """Return the methods of a recipe; ValueError if more than one step is to fill up the ratio."""
    methods = [make(step) for step in steps]
    free = [_name(method) for method in methods if method.removes and method.ratio is None]
    if not methods:
        raise ValueError("a recipe needs at least one step")
    if len(free) > 1:
        raise ValueError(f"{' and '.join(free)}: all but one of these need a ratio of their own")
    return methods


def walk(
    methods: Sequence[Method],
    config: Mapping,
    ratio: float,
    apply: Callable[[Method, Plan], Mapping] | None = None,
) -> Solution:
    """Return where a recipe leads from `config` when `ratio` of the parameters shall go in all.

    Steps with a ratio of their own remove that fraction of what reaches them; the one without
    takes what is needed. `apply` does each step and returns the config that came out; without it,
    this only plans.
    """
    start, target = architecture.remaining(config), (1 - ratio) * architecture.remaining(config)
    now, plans = dict(config), []
    for index, method in enumerate(methods):
        problem = method.obstacle(now) or method.obstacle_to_learning(now, config)
        if problem:
            reached = 1 - architecture.remaining(now) / start
            return Solution(now, reached, tuple(plans), f"{_name(method)}: {problem}")
        wanted = method.ratio or 0.0
        if method.removes and method.ratio is None:
            wanted = 1 - target / architecture.remaining(now)
            for later in methods[index + 1 :]:
                wanted = 1 - (1 - wanted) / (1 - (later.ratio or 0.0))
        plan = method.solve(now, max(0.0, wanted))
        plans.append(plan)
        now = dict(apply(method, plan) if apply else plan.config)
    reached = 1 - architecture.remaining(now) / start
    reason = None
    if abs(reached - ratio) > TOLERANCE:
        recipe = " → ".join(map(_name, methods))
        reason = f"{recipe} can remove {reached:.3f} of the parameters, not {ratio:g}"
    return Solution(now, reached, tuple(plans), reason)


def solve(steps: Sequence, config: Mapping, ratio: float) -> Solution:
    """Return where a recipe's steps lead, from the config alone."""
    return walk(make_all(steps), config, ratio)


def projection_heads(steps: Sequence, config: Mapping, ratio: float) -> int:
    """Return the parameters of the heads that a recipe's students are distilled with."""
    methods, total = make_all(steps), 0
    for method, plan in zip(methods, walk(methods, config, ratio).plans, strict=False):
        count = getattr(method, "head_parameters", None)
        if count and method.training_steps():
            total += count(config, plan.config)
        config = plan.config
    return total


def _name(method: Method) -> str:
    """Return the name of a method's file."""
    return type(method).__module__.rpartition(".")[2]
