"""Distillation: fewer or thinner layers learn to give the teacher's hidden states.

    loss = ‖h_l − t_l‖₁ / D − λ log σ(cos(h_l, t_l)),  averaged over layers l and real frames

The student starts from the teacher's own layers, spaced evenly or the first ones, with the heads
and feed-forward rows of largest weight; student layer l learns the output of the last teacher layer
of its stretch. The loss is that of DistilHuBERT, Chang et al., ICASSP 2022,
https://arxiv.org/abs/2110.01900, layer by layer and without its heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Context, SelfSupervised, Sizing
from speech_pareto.models import architecture
from speech_pareto.models.frame_counts import fewer_frames
from speech_pareto.models.hidden_states import distance, mean_over, real_frames, states
from speech_pareto.runtime.bounds import BatchSeconds, LearningRate, Weight, Within

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def cannot_compare(config: Mapping, teacher: Mapping) -> str | None:
    """Return why hidden states of a model and its teacher cannot be compared, None if they can."""
    ours, theirs = (architecture.complete(one)["hidden_size"] for one in (config, teacher))
    if ours != theirs:
        return f"the methods before it leave states of {ours} values, the teacher's have {theirs}"
    if fewer_frames(config):
        return "the methods before it leave fewer frames than the teacher has"
    return None


def cut(model: Module, knobs: Mapping) -> None:
    """Leave in `model` the layers that `knobs` names, and of each the best heads and rows."""
    from speech_pareto.compression.parts.units import keep_best
    from speech_pareto.models.surgery import keep_layers

    keep_layers(model, knobs["layers"])
    for layer, heads, rows in zip(model.encoder.layers, knobs["heads"], knobs["rows"], strict=True):
        keep_best(layer, heads, rows)


@contextmanager
def dropout(teacher: Module, on: bool) -> Iterator[None]:
    """Switch a teacher's dropout on for a while; it still skips no layer and hides no frame."""
    parts = (teacher.feature_projection, teacher.encoder.dropout, teacher.encoder.layers)
    for part in parts:
        part.train(on)
    try:
        yield
    finally:
        teacher.eval()


@dataclass(frozen=True, kw_only=True)
class Distillation(SelfSupervised):
    """Trains a student of fewer layers on the teacher's hidden states."""

    takes_heads = True
    example = {"steps": 2}
    steps: Annotated[int, Within(0, 10**9, unit="steps")] = 60
    learning_rate: LearningRate = 5e-4
    batch_seconds: BatchSeconds = 48.0
    # None: as few as the ratio allows.
    layers: Annotated[int, Within(1, 1000, unit="layers")] | None = None
    start: Literal["spaced", "first"] = "spaced"
    cosine: Weight = 1.0  # λ
    teacher_dropout: bool = False  # True: the teacher's is on, as in the code of Lin et al.

    def obstacle(self, config: Mapping) -> str | None:
        depth = len(architecture.layers_of(config))
        if (self.layers or 0) > depth:
            return f"layers is {self.layers}, the model has {depth}"
        return super().obstacle(config)

    def obstacle_to_learning(self, config: Mapping, teacher: Mapping) -> str | None:
        """Return why hidden states of student and teacher cannot be compared, else None."""
        return cannot_compare(config, teacher) if self.steps else None

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return which layers stay, and the heads and feed-forward rows that each keeps."""
        layers = architecture.layers_of(config)
        target = (1 - ratio) * architecture.remaining(config)
        fits = (n for n in range(1, len(layers)) if self._size(config, n) >= target)
        number = self.layers or next(fits, len(layers))
        chosen = self._chosen(number, len(layers))
        kept = [layers[i] for i in chosen]
        size = architecture.remaining(architecture.with_layers(config, kept))
        after = allocation.thin(config, kept, size - target)
        knobs = {"layers": chosen, **allocation.kept(after)}
        return Sizing(architecture.with_layers(config, after), knobs)

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return the student, trained for `steps`."""
        self.prepare(model, sizing.knobs)
        if self.steps:
            loss = partial(self.loss, model, context.teacher)
            with dropout(context.teacher, self.teacher_dropout):
                context.train(model, loss, **self.loop_settings())
        return model

    def prepare(self, model: Module, knobs: Mapping) -> None:
        """Make `model` the student that is trained."""
        cut(model, knobs)

    def loss(self, student: Module, teacher: Module, batch: Mapping) -> Tensor:
        """Return the distance between hidden states of student and teacher, padding left out."""
        return self.compare(states(student, batch), teacher, batch)

    def compare(self, ours: Sequence[Tensor], teacher: Module, batch: Mapping) -> Tensor:
        """Return the loss of a student's hidden states, one more than layers, of (B, T, D) each."""
        import torch

        with torch.no_grad():
            targets = states(teacher, batch)  # L + 1 of (batch, time, dim)
        real = real_frames(teacher, batch)
        number, total = len(ours) - 1, 0
        for index in range(1, number + 1):
            place = index * (len(targets) - 1) // number
            errors = distance(ours[index].float(), targets[place].float(), self.cosine)  # (B, T)
            total = total + mean_over(errors, real)
        return total / number

    def _chosen(self, number: int, layers: int) -> list[int]:
        """Return the teacher's layers that the student starts from; the first is always one."""
        return [i * layers // number if self.start == "spaced" else i for i in range(number)]

    def _size(self, config: Mapping, number: int) -> int:
        """Return the parameters with `number` layers, none of them thinner."""
        layers = architecture.layers_of(config)
        kept = [layers[i] for i in self._chosen(number, len(layers))]
        return architecture.remaining(architecture.with_layers(config, kept))
