"""Iterative pruning: a little goes, the model trains on without labels, a little more goes.

    s_1 < s_2 < … ≤ ratio;  at s_k: prune to s_k by `method`, then train for `steps` steps

Scores and cuts are those of the one-shot methods; they are computed anew at each event. With
`patience`, an event waits for convergence: with e ← d e + (1 − d) loss, begun at the mean of the
first three losses after an event, the next one comes once e fell by no more than `improvement` over
the last `lookback` of the steps; until then it trains for `steps` more, `patience` times at most;
None waits without bound. The first event waits for nothing but `first_steps`.

Lin et al., ASRU 2025, https://arxiv.org/abs/2211.09949; their schedules are in config/recipes.yaml.
The optimiser begins anew after each event or, for single weights, keeps its moments, of zeros
none; then it keeps them while an event waits, too. A ratio between two entries ends
its walk with an event of its own. The walk is made inside one job: the units' head and the loss
that it waits for are in no student folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from itertools import count, pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from speech_pareto.compression.method import Context, Method, SelfSupervised, Sizing, cannot_mask
from speech_pareto.compression.methods.data_driven_ffn_pruning import DataDrivenFfnPruning
from speech_pareto.compression.methods.data_driven_head_pruning import DataDrivenHeadPruning
from speech_pareto.compression.methods.distillation import Distillation, cannot_compare
from speech_pareto.compression.methods.ffn_pruning import FfnPruning
from speech_pareto.compression.methods.head_pruning import HeadPruning, Keep
from speech_pareto.compression.methods.weight_pruning import WeightPruning
from speech_pareto.compression.parts.masked_units import UnitMethod
from speech_pareto.models import architecture
from speech_pareto.runtime import bounds

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Ratio = Annotated[float, bounds.Within(0, 1, above=True, below=True)]
SHOTS = {
    "weight_pruning": WeightPruning,
    "head_pruning": HeadPruning,
    "data_driven_head_pruning": DataDrivenHeadPruning,
    "ffn_pruning": FfnPruning,
    "data_driven_ffn_pruning": DataDrivenFfnPruning,
}


@dataclass(frozen=True, kw_only=True)
class IterativePruning(UnitMethod, SelfSupervised):
    """Walks a schedule of ratios, one pruning and one training at each."""

    example = {"steps": 1, "schedule": [0.1], "units": 4, "unit_seconds": 1.0}
    method: Literal[
        "weight_pruning",
        "head_pruning",
        "data_driven_head_pruning",
        "ffn_pruning",
        "data_driven_ffn_pruning",
    ] = "weight_pruning"
    schedule: tuple[Ratio, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of what reaches it
    # After each event; of a list, the last number stays.
    steps: bounds.Steps | tuple[bounds.Steps, ...] = 15
    # Before the first event.
    first_steps: Annotated[int, bounds.Within(0, 10**9, unit="steps")] = 0
    learning_rate: bounds.LearningRate = 2e-4  # constant
    warmup: bounds.Share = 0.0
    decay: bounds.Share | None = 0.0
    weight_decay: Annotated[float, bounds.Within(0, 10)] = 0.0
    batch_seconds: bounds.BatchSeconds = 24.0
    objective: Literal["masked_units", "layer_distillation"] = "masked_units"
    # None: without bound; plans then reckon that no event waits.
    patience: Annotated[int, bounds.Within(0, 10_000, unit="times")] | None = 0
    moments: Literal["forgotten", "kept"] = "forgotten"  # the optimiser's, at an event
    smoothing: bounds.PartOf = 0.9998  # d
    lookback: Ratio = 0.6  # share of `steps`
    improvement: Annotated[float, bounds.Within(-(10**6), 10**6)] = 0.001
    batches: bounds.Batches = 16  # over which data-driven scores are taken
    keep: Keep = 1  # heads that stay in each layer at least

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(a < b for a, b in pairwise(self.schedule)):
            raise ValueError("schedule must rise")
        if not self._steps():
            raise ValueError("steps must not be an empty list")
        if self.patience is None and self.improvement < 0:
            raise ValueError("patience: null and improvement below 0: an event would wait for ever")
        if self.moments == "kept" and self.method != "weight_pruning":
            raise ValueError("moments are kept by weight_pruning only: others change shapes")

    def steps_after(self, event: int) -> int:
        """Return how many steps follow an event, counted from 0, if it waits for nothing."""
        steps = self._steps()
        return steps[min(event, len(steps) - 1)]

    def training_steps(self) -> int:
        """Return the steps of a walk to the end of the schedule, bounded patience and all."""
        events = range(len(self.schedule) + 1)
        rounds = 1 + (self.patience or 0)
        return self.first_steps + rounds * sum(map(self.steps_after, events))

    def shot(self) -> Method:
        """Return the method that prunes at each event."""
        kind = SHOTS[self.method]
        names = (field.name for field in fields(kind) if hasattr(self, field.name))
        return kind(**{name: getattr(self, name) for name in names})

    def obstacle(self, config: Mapping) -> str | None:
        problem = cannot_mask(config) if self.objective == "masked_units" else None
        return problem or self.shot().obstacle(config)

    def obstacle_to_learning(self, config: Mapping, teacher: Mapping) -> str | None:
        """Return why hidden states cannot be compared with the teacher's, if that is the aim."""
        return cannot_compare(config, teacher) if self.objective == "layer_distillation" else None

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return where the walk ends, and how many parameters are left after each event."""
        shot = self.shot()
        sizings = [shot.solve(config, share) for share in (*self.schedule, ratio)]
        *walk, end = (architecture.remaining(sizing.config) for sizing in sizings)
        return Sizing(sizings[-1].config, {"left": [*(size for size in walk if size > end), end]})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` at the end of its walk."""
        from speech_pareto.models.backbone import describe
        from speech_pareto.models.sparsity import still

        shot = self.shot()
        if self.objective == "masked_units":
            context = replace(context, units=self.fit_units(context))
        moments: dict | None = {} if self.moments == "kept" else None
        if self.first_steps:
            self._train(model, self.first_steps, context, moments, patience=0)
        for event, left in enumerate(sizing.knobs["left"]):
            config = describe(model)
            cut = shot.solve(config, max(0.0, 1 - left / architecture.remaining(config)))
            model = shot.compress(model, cut, context)
            if moments:
                still(model, moments)
            self._train(model, self.steps_after(event), context, moments, self.patience)
        return model

    def loss(self, student: Module, teacher: Module, batch: Mapping) -> Tensor:
        """Return the objective: of a UnitPredictor and a Labeller, or of two backbones."""
        if self.objective == "masked_units":
            return self.masked_prediction(student, teacher, batch)
        return Distillation().loss(student, teacher, batch)

    def _steps(self) -> tuple[int, ...]:
        """Return `steps` as numbers, one or more."""
        return (self.steps,) if isinstance(self.steps, int) else tuple(self.steps)

    def _train(
        self,
        model: Module,
        steps: int,
        context: Context,
        moments: dict | None,
        patience: int | None,
    ) -> None:
        """Train until the next event; the units' head learns on from event to event."""
        from speech_pareto.compression.parts.convergence import Convergence
        from speech_pareto.training.hubert_units import UnitPredictor

        trained, teacher = model, context.teacher
        if context.units:
            teacher, head = context.units
            trained = UnitPredictor(model, head)
        gate = Convergence(self.smoothing, steps, round(self.lookback * steps))
        trained.convergence = gate
        for _ in count() if patience is None else range(1 + patience):
            context.train(
                trained,
                lambda batch: self.loss(trained, teacher, batch),
                **(self.loop_settings() | {"steps": steps}),
                follow=gate.follow,
                moments=moments,
            )
            if gate.reached(self.improvement):
                break
        del trained.convergence
