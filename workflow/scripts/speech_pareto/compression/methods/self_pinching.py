"""Self-pinching gates: one learnt threshold per weight matrix prunes while the task is learnt.

    w̃ = w · 1[w² > t²],  gradients as if the gate were σ((w² − t²) / τ)
    loss = task's loss + λ r   if r, the share of the matrices' weights that is kept, is too large,
                       − λ r   if it is too small, else nothing is added

over the query, key, value, output and both feed-forward matrices, biases left out. τ falls from 0.5
to 0.01 along a cosine. r lies in [0, 1], so that λ means the same for any size of model. It counts
hard gates but has the gradient of the soft ones: a count without gradient would leave the sparsity
to the task's loss.

In the end as many weights are zero as asked: those with the lowest |w| / |t|, over all matrices
together. The gates keep what is above 1; the order continues their decision, as if all thresholds
were moved by one common factor until the number is met. Zeros count as in `weight_pruning`.
Xu et al., Interspeech 2025, https://arxiv.org/abs/2505.22608.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Context, Sizing
from speech_pareto.compression.methods.weight_pruning import zero_lowest
from speech_pareto.compression.parts.task_method import TaskMethod
from speech_pareto.models import architecture
from speech_pareto.runtime.bounds import BatchSeconds, LearningRate, Steps, Within

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear, Module

    from speech_pareto.compression.parts.channel_gates import PinchedChannels


@dataclass(frozen=True, kw_only=True)
class SelfPinching(TaskMethod):
    """Zeroes single weights below a threshold that is learnt with them."""

    example = {"steps": 2}
    steps: Steps = 60
    learning_rate: LearningRate = 4e-4
    batch_seconds: BatchSeconds = 24.0
    strength: Annotated[float, Within(0, 10**9, above=True)] = 10.0  # λ
    band: Annotated[float, Within(0, 1, above=True)] = 0.002  # r may lie this far below its goal
    # How far a threshold can go in a run, in root mean squares of its scores.
    reach: Annotated[float, Within(0, 1000, above=True)] = 4.0
    # Learning rate of the thresholds themselves; None: as `reach` asks.
    gate_rate: LearningRate | None = None

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return how many weights are zero in the end."""
        after = allocation.zeroed(config, ratio)
        return Sizing(after, {"removed": architecture.section(after).get("zeros", 0)})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model`, fine-tuned behind gates and pruned as planned."""
        linears = self.gated(model)
        penalty = self.penalty(linears, sizing.knobs["removed"])
        context.tune(model, penalty, **self.loop_settings())
        self.prune(model, linears, sizing)
        return model

    def gated(self, model: Module) -> list[Linear]:
        """Put gates on `model` and return the linear layers that carry them."""
        from speech_pareto.compression.parts.self_pinching_gates import gate_weights

        return gate_weights(model, self.pace, self.gate_rate)

    @property
    def pace(self) -> float:
        """`reach` for each step of AdamW at the full learning rate."""
        return self.reach / (self.steps * self.learning_rate)

    def penalty(
        self, linears: list[Linear], removed: int, stem: PinchedChannels | None = None
    ) -> Callable[[int], Tensor]:
        """Return the function that sets τ for a step and returns what is added to its loss."""
        from speech_pareto.compression.parts import self_pinching_gates as gates

        def penalty(step: int) -> Tensor:
            heat = self.temperature(step / self.steps)
            gates.set_temperature([*linears, *(stem.readers if stem else ())], heat)
            number, total = gates.kept(linears)
            if stem:
                number, total = number + stem.total - stem.expected_saving(), total + stem.total
            share, goal = number / total, 1 - removed / total
            return self.strength * gates.dead_band(share, goal, self.band)

        return penalty

    def temperature(self, progress: float) -> float:
        """Return τ after a share `progress` of the steps."""
        from speech_pareto.compression.parts.self_pinching_gates import temperature

        return temperature(progress)

    def prune(self, model: Module, linears: list[Linear], sizing: Sizing) -> None:
        """Take the gates off and zero the lowest weights, exactly as many as planned."""
        from speech_pareto.compression.parts.self_pinching_gates import release
        from speech_pareto.models.sparsity import state_zeros

        margins = [release(linear) for linear in linears]
        zero_lowest([linear.weight for linear in linears], margins, sizing.knobs["removed"])
        state_zeros(model, sizing.config)
