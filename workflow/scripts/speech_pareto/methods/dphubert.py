"""DPHuBERT: learn which heads and rows to do without while distilling, cut them, distil on.

    loss = mean over layers 0, L/3, 2L/3, L of ‖W h_l − t_l‖₁ / D − cos(W h_l, t_l)
           + λ1 (S − S*) + λ2 (S − S*)²

h are states of the student, whose heads and feed-forward rows pass through hard-concrete gates, t
those of the teacher. W begins as the identity, one for layer 0 and one for the others. S is the
expected share of parameters that the gates remove, S* its target, which rises to the ratio. λ1 and
λ2 ascend. Then the units of lowest log α go, physically, until the ratio is hit exactly, and the
first line trains on alone. Peng et al., Interspeech 2023, https://arxiv.org/abs/2305.17651, whose
settings are steps 50000 and final_steps 25000, learning_rate 2e-4 and final_rate 1e-4, gate_rate
0.02, warmup 0.3, ramp 0.1.

There is one AdamW with one rate: log α and λ are parameters divided by gate_rate / learning_rate,
so they move that much faster, and λ climbs because its gradient is turned round. What differs from
theirs: channels of the convolutions stay, at least one head and one row of each layer stay, and
the ratio is hit whatever the gates came to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from speech_pareto import architecture
from speech_pareto.method import Context, Method, Plan
from speech_pareto.methods.distillation import distance, hidden_states

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from speech_pareto.hard_concrete import Gating, MappedStudent


@dataclass(frozen=True, kw_only=True)
class DPHuBERT(Method):
    """Distils and prunes at once, then distils."""

    takes_heads = True
    example = {"steps": 2, "final_steps": 1}
    steps: int = 40
    final_steps: int = 20
    learning_rate: float = 5e-4
    final_rate: float = 5e-4
    gate_rate: float = 0.1
    batch_seconds: float = 24.0
    warmup: float = 0.1  # share of the steps in which the learning rate rises
    ramp: float = 0.5  # share of the steps in which the target rises
    head_drop: float = 0.01  # chance of a head, and of a row, to be closed at the start
    row_drop: float = 0.5

    def __post_init__(self) -> None:
        if min(self.steps, self.final_steps) < 1 or min(self.learning_rate, self.gate_rate) <= 0:
            raise ValueError("steps must be 1 or more, rates above 0")
        if not (0 < self.head_drop < 1 and 0 < self.row_drop < 1 and 0 <= self.ramp <= 1):
            raise ValueError("head_drop and row_drop must lie between 0 and 1, ramp from 0 to 1")

    def training_steps(self) -> int:
        """Return the steps with gates and those after."""
        return self.steps + self.final_steps

    def solve(self, config: Mapping, ratio: float) -> Plan:
        """Return how many parameters go; which layers lose how much, the gates will say."""
        layers = architecture.layers_of(config)
        before = architecture.remaining(config)
        after = architecture.with_layers(config, architecture.thin(config, layers, ratio * before))
        return Plan(after, {"gone": before - architecture.remaining(after)})

    def compress(self, model: "Module", plan: Plan, context: Context) -> "Module":
        """Return the student, within half a row of the planned size."""
        from speech_pareto.hard_concrete import Gating, MappedStudent

        scale, drops = self.gate_rate / self.learning_rate, (self.head_drop, self.row_drop)
        gating = Gating(model, drops, scale, context.generator())
        student = MappedStudent(model, gating)
        target = plan.knobs["gone"] / gating.total
        self._train(student, context, self.steps, self.learning_rate, target)
        gating.detach(model)
        student.gating = None
        self._cut(model, gating, plan.knobs["gone"])
        self._train(student, context, self.final_steps, self.final_rate)
        return model

    def loss(
        self, student: "MappedStudent", teacher: "Module", batch: Mapping, target: float = 0.0
    ) -> "Tensor":
        """Return the distance of four layers, and the penalty if the student has gates."""
        states, targets, frames = hidden_states(student.backbone, teacher, batch)
        total = 0.0
        for third in range(4):
            ours, theirs = (
                layers[round(third * (len(layers) - 1) / 3)][frames] for layers in (states, targets)
            )
            mapped = student.maps[min(third, 1)](ours)
            total = total + distance(mapped.float(), theirs.float(), 1.0, log=False) / 4
        if student.gating is not None:
            total = total + student.gating.penalty(target, self.ramp * self.steps)
        return total

    def _train(
        self,
        student: "MappedStudent",
        context: Context,
        steps: int,
        learning_rate: float,
        target: float = 0.0,
    ) -> None:
        """Train `student`, its maps and its gates."""
        context.train(
            student,
            partial(self.loss, student, context.teacher, target=target),
            steps=steps,
            learning_rate=learning_rate,
            batch_seconds=self.batch_seconds,
            warmup=self.warmup,
            weight_decay=0.0,  # it would pull log α towards a coin's toss
        )

    def _cut(self, model: "Module", gating: "Gating", amount: int) -> None:
        """Remove the units of lowest log α until `amount` parameters are gone."""
        import torch

        from speech_pareto.surgery import keep_heads, keep_rows

        groups, depth = [*gating.heads, *gating.rows], len(gating.heads)
        values = [gates.log_alpha.tolist() for gates in groups]
        kept = survivors(values, [*gating.head_sizes, *gating.row_sizes], amount)
        for index, layer in enumerate(model.encoder.layers):
            keep_heads(layer, [layer.attention.heads[place] for place in kept[index]])
            keep_rows(layer, torch.tensor(kept[depth + index]))


def survivors(
    values: Sequence[Sequence[float]], sizes: Sequence[int], amount: int
) -> list[list[int]]:
    """Return which places of each group stay when the lowest values go, all groups together.

    A place of group g holds `sizes[g]` parameters. Places go until `amount` parameters are gone,
    within half the smallest size; what would go too far is passed over, the last of a group stays.
    """
    order = sorted(
        (value, g, place) for g, row in enumerate(values) for place, value in enumerate(row)
    )
    kept, slack = [set(range(len(row))) for row in values], min(sizes) / 2
    for _, g, place in order:
        if sizes[g] <= amount + slack and len(kept[g]) > 1:
            kept[g].remove(place)
            amount -= sizes[g]
    return [sorted(places) for places in kept]
