"""Distillation of units: a smaller student learns the teacher's distribution over units.

    loss = KL(softmax(z_T / τ) ‖ softmax(z_S / τ)),  averaged over frames

z is a linear map of the last layer. By default nothing is masked and all real frames count; with
`masked`, both models miss the same frames and only these count. The teacher's map is a logistic
regression on its k-means units, of which the student's begins as a copy. Lin et al., ASRU 2025,
https://arxiv.org/abs/2211.09949, whose student is random at first (`start: random`).

With `learn: units` the student takes its teacher's place in HuBERT's own iteration: it recognises
the units of masked frames, and nothing of the teacher but its units is used. DiceHuBERT,
Interspeech 2025, https://arxiv.org/abs/2507.02911.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from speech_pareto.compression.method import Context, SelfSupervised, Sizing, cannot_mask
from speech_pareto.compression.methods.distillation import Distillation, cut, dropout
from speech_pareto.compression.parts.masked_units import UnitMethod
from speech_pareto.models import architecture
from speech_pareto.models.hidden_states import mean_over, real_frames
from speech_pareto.runtime.bounds import BatchSeconds, LearningRate, Steps, Within

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class UnitDistillation(UnitMethod, SelfSupervised):
    """Trains a student of fewer or thinner layers on the teacher's distribution over units."""

    takes_heads = True
    example = {"steps": 2, "units": 4, "unit_seconds": 1.0}
    steps: Steps = 60
    learning_rate: LearningRate = 5e-4
    batch_seconds: BatchSeconds = 24.0
    # None: as few as the ratio allows.
    layers: Annotated[int, Within(1, 1000, unit="layers")] | None = None
    start: Literal["spaced", "first", "random"] = "spaced"  # as in distillation, or new weights
    learn: Literal["distribution", "units"] = "distribution"
    masked: bool = False  # units are always learnt on masked frames
    temperature: Annotated[float, Within(0, 1000, above=True)] = 1.0  # τ
    teacher_dropout: bool = False  # True: the teacher's is on, as in the code of Lin et al.

    def obstacle(self, config: Mapping) -> str | None:
        if self.start == "random" and "layers" in architecture.section(config):
            return "only a model of whole layers can begin anew with random weights"
        masks = self.masked or self.learn == "units"
        problem = cannot_mask(config) if masks else None
        return problem or self._shape().obstacle(config) or super().obstacle(config)

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return which layers stay, and the heads and feed-forward rows that each keeps."""
        return self._shape().solve(config, ratio)

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return the student, trained for `steps`."""
        import copy

        import torch

        from speech_pareto.models.backbone import describe, new
        from speech_pareto.training.hubert_units import UnitPredictor

        if self.start == "random":
            usual = model.preprocessor
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(context.seed)
                model = new(describe(model))
            model.preprocessor = usual
        cut(model, sizing.knobs)
        labeller, head = self.fit_units(context)
        student = UnitPredictor(model, head)
        loss = partial(self.masked_prediction, student, labeller)
        if self.learn == "distribution":
            loss = partial(self.loss, student, UnitPredictor(context.teacher, copy.deepcopy(head)))
        with dropout(context.teacher, self.teacher_dropout):
            context.train(student, loss, **self.loop_settings())
        return model

    def loss(self, student: Module, teacher: Module, batch: Mapping) -> Tensor:
        """Return the divergence of two `UnitPredictor`s; 0 if no frame was drawn for masking."""
        import torch
        from torch.nn import functional

        inputs = batch["input_values"], batch["attention_mask"]
        mask = self.mask(student.backbone, batch) if self.masked else None
        counted = real_frames(student.backbone, batch) if mask is None else mask
        with torch.no_grad():
            theirs = teacher(*inputs, mask)  # (batch, frames, units)
        ours, theirs = (
            (logits.float() / self.temperature).log_softmax(-1)
            for logits in (student(*inputs, mask), theirs)
        )
        divergence = functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1)
        return mean_over(divergence, counted)  # of (B, T)

    def _shape(self) -> Distillation:
        """Return the method that decides the student's shape."""
        start = "first" if self.start == "random" else self.start  # new layers have no origin
        return Distillation(layers=self.layers, start=start)
