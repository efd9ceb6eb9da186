"""DPHuBERT: learn which heads, rows and channels to do without while distilling, then cut them.

    loss = mean over layers 0, L/3, 2L/3, L of ‖W h_l − t_l‖₁ / D − cos(W h_l, t_l)
           + λ1 (S − S*) + λ2 (S − S*)²

h are states of the student, whose heads and feed-forward rows pass through hard-concrete gates,
with `stem` the channels of its convolutions, too; t are those of the teacher. Layer 0 is the output
of the feature projection, before position convolution and norm. W begins as the identity, one for
layer 0 and one for the others. S is the expected share of parameters that the gates remove, S* its
target, which rises to the ratio. λ1 and λ2 ascend. Then the units of lowest log α go, physically,
until the ratio is hit, and the first line trains on alone. Peng et al.,
Interspeech 2023, https://arxiv.org/abs/2305.17651; their settings are in config/recipes.yaml.

With `clusters` both are compared in means over clusters of alike teacher layers instead of these
four layers: SKILL, https://arxiv.org/abs/2402.16830, see `parts.layer_clusters`.

Self-pinching gates with `grain: weights` stand on single weights, one threshold per matrix, and the
lowest become zero: unstructured SASPG without a task. With `steps: 0` no gate is trained: what has
the lowest scores goes first, which is pruning by magnitude, then the student is distilled. With
`gates: ladder` each layer chooses one of seven shares of its units, see `parts.ratio_ladder`.

log α and λ have a learning rate of their own, and λ ascends. What is planned before the gates have
decided: see `parts.gated_sizes`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Context, SelfSupervised, Sizing
from speech_pareto.compression.methods.weight_pruning import zero_lowest
from speech_pareto.compression.parts import gated_sizes
from speech_pareto.models import architecture
from speech_pareto.models.hidden_states import distance, mean_over, real_frames, states
from speech_pareto.models.hooks import removed_after
from speech_pareto.runtime.bounds import BatchSeconds, LearningRate, Share, Steps, Within

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from speech_pareto.compression.parts.hard_concrete_gates import MappedStudent

CALIBRATION = 4, 24.0  # batches, and seconds of audio in each, by which layers are alike
SPREAD = 4.0  # of one on weights, in their root mean squares; ours
Chance = Annotated[float, Within(0, 1, above=True, below=True)]
Read = Callable[["Module", Mapping], "list[Tensor]"]
log = logging.getLogger(__name__)


def four_states(model: Module, batch: Mapping) -> list[Tensor]:
    """Return the feature projection's output and those of layers L/3, 2L/3, L, (B, T, D) each."""
    projected = []

    def keep(module: Module, inputs: tuple, output: Tensor | tuple) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        projected.append(tensor.clone())  # the encoder writes zeros into its input

    with removed_after([model.feature_projection.register_forward_hook(keep)]):
        found = states(model, batch)
    return projected + [found[round(third * (len(found) - 1) / 3)] for third in (1, 2, 3)]


@dataclass(frozen=True, kw_only=True)
class DPHuBERT(SelfSupervised):
    """Distils and prunes at once, then distils."""

    takes_heads = True
    example = {"steps": 2, "final_steps": 1}
    steps: Annotated[int, Within(0, 10**9, unit="steps")] = 40
    final_steps: Steps = 20
    learning_rate: LearningRate = 5e-4
    final_rate: LearningRate = 5e-4
    gate_rate: Annotated[float, Within(0, 100, above=True)] = 0.1
    batch_seconds: BatchSeconds = 24.0
    final_warmup: Share | None = None  # `warmup` of the final steps; None: the same
    weight_decay: Annotated[float, Within(0, 10)] = 0.0  # of weights; gates have none
    ramp: Share = 0.5  # share of the steps in which the target rises
    head_drop: Chance = 0.01  # chance of a head, and of a row, to be closed at the start
    row_drop: Chance = 0.5
    stem: bool = False  # True: channels of the stem have gates, too, as published
    channel_drop: Chance = 0.01
    gates: Literal["hard_concrete", "self_pinching", "ladder"] = "hard_concrete"
    grain: Literal["units", "weights"] = "units"  # what gates stand on
    # Learning rate of self-pinching thresholds; None: so that they can cross all scores.
    threshold_rate: LearningRate | None = None
    # Of alike layers, whose means are learnt as in SKILL; None: four layers, as in DPHuBERT.
    clusters: Annotated[int, Within(1, 1000, unit="clusters")] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rise("final_warmup", self.final_warmup or 0.0)
        if self.gates != "self_pinching" and (not self.steps or self.grain == "weights"):
            raise ValueError("only self-pinching gates do without steps, or stand on weights")
        if self.gates != "self_pinching" and self.threshold_rate is not None:
            raise ValueError("threshold_rate: only self-pinching gates have thresholds")
        if self.stem and (self.gates == "ladder" or self.grain == "weights"):
            raise ValueError("stem: ladders, and gates on single weights, leave the stem alone")

    def training_steps(self) -> int:
        """Return the steps with gates and those after."""
        return self.steps + self.final_steps

    def obstacle(self, config: Mapping) -> str | None:
        """Return why not, for gates on what is not there."""
        units = self.grain == "units" and gated_sizes.obstacle(config, self.stem)
        return units or super().obstacle(config)

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return how many parameters go; which layers lose how much, the gates will say."""
        if self.grain == "units":
            return gated_sizes.sizing(config, ratio, self.stem)
        after = allocation.zeroed(config, ratio)
        return Sizing(after, {"removed": architecture.section(after).get("zeros", 0)})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return the student, within half a row of the planned size."""
        from speech_pareto.compression.parts.hard_concrete_gates import MappedStudent

        gating = self._gating(model, context)
        student = MappedStudent(model, gating)
        removed, read = sizing.knobs["removed"], self._read(context)
        if self.steps:
            self._train(student, context, read, removed / gating.total)
        gating.detach(model)
        student.gating = None
        self._cut(model, gating, removed)
        if self.grain == "weights":
            from speech_pareto.models.sparsity import state_zeros

            state_zeros(model, sizing.config)
        final = self.warmup if self.final_warmup is None else self.final_warmup
        later = {"steps": self.final_steps, "learning_rate": self.final_rate, "warmup": final}
        self._train(student, context, read, **later)
        return model

    def loss(
        self,
        student: MappedStudent,
        teacher: Module,
        batch: Mapping,
        target: float = 0.0,
        read: Read = four_states,
    ) -> Tensor:
        """Return the distance of the states read, and the penalty if the student has gates."""
        import torch

        if student.gating is not None:
            student.gating.prepare()
        with torch.no_grad():
            targets = read(teacher, batch)
        ours, real, total = read(student.backbone, batch), real_frames(teacher, batch), 0.0
        for place, (own, theirs) in enumerate(zip(ours, targets, strict=True)):
            mapped = student.maps[min(place, 1)](own)
            errors = distance(mapped.float(), theirs.float(), 1.0, log=False)  # (B, T)
            total = total + mean_over(errors, real) / len(targets)
        if student.gating is not None:
            total = total + student.gating.penalty(target, self.ramp * self.steps)
        return total

    def _cut(self, model: Module, gating: Any, removed: int) -> None:
        """Remove the lowest units, or zero the lowest weights, `removed` parameters in all."""
        from speech_pareto.compression.parts.self_pinching_gates import remove_lowest

        if self.grain == "weights":
            zero_lowest([x.weight for x in gating.linears], gating.margins, removed)
            return
        heads, rows = gating.ranks()
        if gating.stem:
            removed -= gating.stem.cut(model, heads, rows, gating.sizes, removed)
        remove_lowest(model, heads, rows, gating.sizes, removed)

    def _gating(self, model: Module, context: Context) -> Any:
        """Return the gates, put on `model`."""
        if self.gates == "self_pinching":
            from speech_pareto.compression.parts.pinched_units import Pinched, pinched_units
            from speech_pareto.compression.parts.self_pinching_gates import gate_weights

            steps, own = max(1, self.steps), self.threshold_rate
            if self.grain == "units":
                return pinched_units(model, own, self.gate_rate, steps, self.stem)
            pace = SPREAD / (steps * max(self.learning_rate, 1e-9))
            return Pinched(model, gate_weights(model, pace, own), self.gate_rate, steps)
        from speech_pareto.compression.parts.channel_gates import ChannelGates
        from speech_pareto.compression.parts.hard_concrete_gates import Gates, Gating
        from speech_pareto.compression.parts.ratio_ladder import Ladder

        if self.gates == "ladder":
            return Gating(model, partial(Ladder, rate=self.gate_rate), self.gate_rate)
        generator, stem = context.generator(), None
        if self.stem:
            stem = ChannelGates(model, self.channel_drop, self.gate_rate, generator)
        drops = self.head_drop, self.row_drop

        def gates(layer: Module, kind: int, count: int) -> Gates:
            return Gates(count, drops[kind], self.gate_rate, generator)

        return Gating(model, gates, self.gate_rate, stem)

    def _read(self, context: Context) -> Read:
        """Return what reads the states that are compared."""
        if not self.clusters:
            return four_states
        from speech_pareto.compression.parts import layer_clusters

        batches = context.batches(*CALIBRATION)
        found = layer_clusters.cluster_layers(context.teacher, batches, self.clusters)
        log.info("clusters of layers: %s", found)
        return partial(layer_clusters.means, found)

    def _train(
        self,
        student: MappedStudent,
        context: Context,
        read: Read,
        target: float = 0.0,
        **later: Any,
    ) -> None:
        """Train `student`, its maps and its gates; `later` are other settings than those first."""
        context.train(
            student,
            partial(self.loss, student, context.teacher, target=target, read=read),
            **(self.loop_settings() | later),
            follow=student.gating and student.gating.follow,
        )
