"""Iterative pruning: a little goes, the model trains on without labels, a little more goes.

    s_1 < s_2 < … ≤ ratio;  at s_k: prune to s_k by `method`, then train for `steps` steps

Scores and cuts are those of the one-shot methods; they are computed anew at each event. With
`patience`, an event waits until training has converged: with e ← d e + (1 − d) loss, begun at the
mean of the first three losses after an event, the next one comes once e fell by no more than
`improvement` over the last `lookback` steps.

Lin et al., ASRU 2025, https://arxiv.org/abs/2211.09949, whose schedules, on HuBERT Base, are

    weights  schedule .2 .3 .4 .5 .55 .6 .65 .675 .7 .71 .72 … .9 (shares of the layers' matrices,
             which hold 0.9 of the backbone), steps 25000, patience without bound
    heads    one of each layer an event: schedule .025 .05 … .275, steps 25000 to 40000
    rows     128 of each layer an event: schedule .025 .05 … .5, steps 25000

all with `objective: masked_units`, learning_rate 1e-5 (constant, as here), four utterances in a
batch, smoothing 0.9998, lookback 0.6, improvement 0.001, 512 units, mask_share 0.7, mask_span 5.
They mask the features before the first projection; here, as in HuBERT, those after it. AdamW
begins anew after each event, as theirs does for heads and rows: kept moments would move zeros.
A ratio between two entries ends its walk with an event of its own. The walk is made inside one
job: the units' head and the losses that the gate looks at are in no student folder.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from speech_pareto import architecture
from speech_pareto.masked_units import UnitMethod
from speech_pareto.method import Context, Plan
from speech_pareto.methods.distillation import Distillation
from speech_pareto.methods.ffn_pruning import FfnPruning
from speech_pareto.methods.head_pruning import HeadPruning
from speech_pareto.methods.weight_pruning import WeightPruning

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

SHOTS = {
    "weight_pruning": WeightPruning,
    "head_pruning": HeadPruning,
    "ffn_pruning": FfnPruning,
}


@dataclass(frozen=True, kw_only=True)
class IterativePruning(UnitMethod):
    """Walks a schedule of ratios, one pruning and one training at each."""

    example = {"steps": 1, "schedule": [0.1], "units": 4, "unit_seconds": 1.0}
    method: Literal["weight_pruning", "head_pruning", "ffn_pruning"] = "weight_pruning"
    schedule: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of the backbone
    steps: int = 15  # after each event
    learning_rate: float = 2e-4
    batch_seconds: float = 24.0
    objective: Literal["masked_units", "layer_distillation"] = "masked_units"
    patience: int = 0  # how many times more `steps` an event may wait for convergence
    smoothing: float = 0.9998  # d
    lookback: float = 0.6  # share of `steps`
    improvement: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        ordered = all(a < b for a, b in pairwise([0, *self.schedule, 1]))
        if not ordered or self.steps < 1 or self.patience < 0:
            raise ValueError("schedule must rise between 0 and 1, steps be 1 or more, patience 0")

    def training_steps(self) -> int:
        """Return the steps of a walk to the end of the schedule, patience and all."""
        return self.steps * (1 + self.patience) * (len(self.schedule) + 1)

    def supports(self, config: Mapping) -> str | None:
        """Return why this cannot serve a model with this config, else None."""
        problem = self.unmasked(config) if self.objective == "masked_units" else None
        return problem or SHOTS[self.method]().supports(config)

    def solve(self, config: Mapping, ratio: float) -> Plan:
        """Return where the walk ends, and how many parameters are left after each event."""
        plan, start = SHOTS[self.method]().solve(config, ratio), architecture.remaining(config)
        end = architecture.remaining(plan.config)
        walk = [round((1 - share) * start) for share in self.schedule]
        return Plan(plan.config, {"left": [*(size for size in walk if size > end), end]})

    def compress(self, model: "Module", plan: Plan, context: Context) -> "Module":
        """Return `model` at the end of its walk."""
        from speech_pareto.model import describe

        shot, prepare = SHOTS[self.method](), self._objective(context)
        for left in plan.knobs["left"]:
            config = describe(model)
            event = shot.solve(config, max(0.0, 1 - left / architecture.remaining(config)))
            model = shot.compress(model, event, context)
            self._train(*prepare(model), context)
        return model

    def loss(self, student: "Module", teacher: "Module", batch: Mapping) -> "Tensor":
        """Return the objective: of a UnitPredictor and a Labeller, or of two backbones."""
        if self.objective == "masked_units":
            return self.masked_prediction(student, teacher, batch)
        return Distillation().loss(student, teacher, batch)

    def _objective(self, context: Context) -> "Callable[[Module], tuple[Module, Callable]]":
        """Return a function from a student to what is trained and its loss."""
        if self.objective == "layer_distillation":
            return lambda model: (model, partial(self.loss, model, context.teacher))
        from speech_pareto.units import UnitPredictor

        labeller, head = self.fit_units(context)  # the head learns on from event to event

        def prepare(model: "Module") -> "tuple[Module, Callable]":
            predictor = UnitPredictor(model, head)
            return predictor, partial(self.loss, predictor, labeller)

        return prepare

    def _train(self, trained: "Module", loss: Callable, context: Context) -> None:
        """Train until the next event."""
        names, losses = ("steps", "learning_rate", "batch_seconds"), []
        for _ in range(1 + self.patience):
            settings = {name: getattr(self, name) for name in names}
            settings |= {"warmup": 0.0, "decay": 0.0, "weight_decay": 0.0}
            curve = context.train(trained, loss, **settings)
            losses += windows(curve)
            if converged(losses, self.smoothing, self.lookback * self.steps, self.improvement):
                return


def windows(curve: Sequence[Mapping]) -> list[tuple[int, float]]:
    """Return (number of steps, mean loss over them) for each point of a training curve."""
    ends = [0, *(point["step"] for point in curve)]
    return [(b - a, point["loss"]) for (a, b), point in zip(pairwise(ends), curve, strict=True)]


def converged(
    losses: Sequence[tuple[int, float]], smoothing: float, lookback: float, improvement: float
) -> bool:
    """Return whether the smoothed loss fell by no more than `improvement` over `lookback` steps.

    `losses` are (number of steps, mean loss over them), all since an event; a mean counts as if
    each of its steps had that loss. Without a loss from so long ago, nothing has converged.
    """
    first = losses[:3]
    level = sum(loss for _, loss in first) / len(first)
    total, passed = sum(number for number, _ in losses), sum(number for number, _ in first)
    levels = [(passed, level)]
    for number, loss in losses[3:]:
        weight = smoothing**number
        level, passed = weight * level + (1 - weight) * loss, passed + number
        levels.append((passed, level))
    then = [value for passed, value in levels if passed <= total - lookback]
    return bool(then) and then[-1] - level <= improvement
