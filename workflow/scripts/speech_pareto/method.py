"""The contract of a compression method, and walking a recipe; planning reads this: no torch.

A method is one file in `methods/`: a frozen dataclass of its settings that turns a ratio into its
own knobs from the config alone (`solve`) and cuts a model accordingly (`compress`). A ratio is the
fraction of the backbone's parameters that go.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from speech_pareto import architecture
from speech_pareto.bounds import PartOf, check, problems
from speech_pareto.catalogue import load as load
from speech_pareto.catalogue import names as names  # tests and benchmarks ask for both here

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Module

TOLERANCE = 0.01  # how far from the asked ratio a student may lie


@dataclass(frozen=True)
class Plan:
    """What a method will do: the config it leads to, and its own knobs (JSON values)."""

    config: dict
    knobs: dict


@dataclass(frozen=True)
class Context:
    """What a method may use: a seed and, if it `learns`, the teacher, training loop and audio.

    `teacher` is untouched and in eval mode. `train(student, loss, **settings)` trains in place
    with the settings of `settings.Training`; `loss(batch)` returns a scalar for a batch with
    `input_values` and `attention_mask`, both (batch, samples). It may be called on pieces of a
    batch; what counts steps is given as `follow(loss)`, called once after each. `batches(number,
    seconds)` returns a list of such batches, each of about so many seconds of audio. `units` are
    those on which a walk trains: a `Labeller` and the head that it trains, see `units.fit`.

    A `task_aware` method gets `tune(student, penalty, **settings)`, which trains student and head
    in place on the task's own loss, with the settings of `settings.FineTuning`. `penalty(step)` is
    called before the forward pass of each step and returns what is added to the loss.
    """

    seed: int
    teacher: "Module | None" = None
    train: Callable[..., None] | None = None
    batches: Callable[[int, float], list] | None = None
    tune: Callable[..., None] | None = None
    units: tuple | None = None

    def generator(self) -> "Generator":
        """Return a fresh random generator, the same for the same seed."""
        import torch

        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class Method:
    """One compression technique; its fields are its settings."""

    example: ClassVar[
        Mapping[str, Any]
    ] = {}  # settings for the contract tests: the smallest worth testing
    removes: ClassVar[bool] = True  # False: leaves every parameter, so it takes no ratio
    listens: ClassVar[bool] = False  # True: looks at audio, though it has no `loss` to train with
    task_aware: ClassVar[bool] = False  # True: fine-tunes on the task while it compresses
    takes_heads: ClassVar[bool] = False  # True: in any layer, so none may lend its map to the next
    full_rate: ClassVar[bool] = False  # True: takes frames of the layers for frames of the model
    # What its loss is a mean over: so much a piece of a batch weighs.
    averages: ClassVar[Literal["frames", "utterances"]] = "frames"
    # Fraction of what reaches this step that it removes; None: what is left to do.
    ratio: PartOf | None = None

    def __post_init__(self) -> None:
        check(self)

    def training_steps(self) -> int:
        """Return how many steps it trains for at most, so that plans can foretell the time."""
        return getattr(self, "steps", 0)

    def supports(self, config: Mapping) -> str | None:
        """Return why this method cannot serve a model with this config, else None."""
        if self.removes and architecture.section(config).get("zeros"):
            return "it would undo the zeros of the weight pruning before it"
        if self.takes_heads and architecture.reuses(config):
            return "a head whose attention map the next layer reuses cannot go"
        if self.full_rate and architecture.section(config).get("time_reduction"):
            return "the steps before it leave layers with fewer frames than the model has"
        return rounded(config)

    def follows(self, config: Mapping, teacher: Mapping) -> str | None:
        """Return why a model with `config` cannot learn from its teacher this way, else None."""
        return None

    def solve(self, config: Mapping, ratio: float) -> Plan:
        """Return the plan that removes as near to `ratio` of the parameters as this method can."""
        raise NotImplementedError

    def compress(self, model: "Module", plan: Plan, context: Context) -> "Module":
        """Return the student; `model` may be changed in place."""
        raise NotImplementedError

    def loss(self, student: "Module", teacher: "Module", batch: Mapping) -> "Tensor":
        """Return the loss of a batch; defining this, or `listens`, gives a method audio."""
        raise NotImplementedError


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


def learns(method: Method) -> bool:
    """Return whether a method needs audio, the teacher and the training loop."""
    return method.listens or type(method).loss is not Method.loss


def rounded(config: Mapping) -> str | None:
    """Return why nothing more can be done to weights that were rounded, None if they were not."""
    name = architecture.section(config).get("precision")
    return f"the weights before it are {name} already; that step comes last" if name else None


def unmaskable(config: Mapping) -> str | None:
    """Return why no frame of a model can be hidden, None if frames can."""
    if architecture.count(config)["masking"]:
        return None
    return "the model has no mask vector (mask_time_prob is 0)"


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
        problem = method.supports(now) or method.follows(now, config)
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
        if hasattr(method, "head_parameters") and method.steps:
            total += method.head_parameters(config, plan.config)
        config = plan.config
    return total


def _name(method: Method) -> str:
    """Return the name of a method's file."""
    return type(method).__module__.rpartition(".")[2]
