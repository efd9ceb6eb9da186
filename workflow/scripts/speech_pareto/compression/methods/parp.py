"""PARP: prune, fine-tune on the task with the pruned weights free to revive, prune again.

    every n steps:  w ← w · 1[|w| > θ],  θ such that as many as asked fall below it over all layers

No mask holds between two prunings: a zeroed weight gets its gradient, and stays if it has grown
enough by the next one. The number of zeros rises evenly from a share `first` of those asked (1:
PARP, less: its progressive form PARP-P) to all of them after the last step. What is pruned is that
of `weight_pruning`. Lai et al., NeurIPS 2021, https://arxiv.org/abs/2106.05933, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto.compression.method import Context, Sizing
from speech_pareto.compression.methods.weight_pruning import WeightPruning, zero_lowest
from speech_pareto.compression.parts.task_method import TaskMethod
from speech_pareto.runtime.bounds import BatchSeconds, LearningRate, Share, Steps

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class Parp(TaskMethod, WeightPruning):
    """Zeroes single weights again and again while they are fine-tuned."""

    example = {"steps": 2, "every": 1}
    steps: Steps = 60
    learning_rate: LearningRate = 4e-4
    batch_seconds: BatchSeconds = 24.0
    every: Steps = 5  # n
    first: Share = 0.5

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model`, fine-tuned, with exactly as many zeros as planned."""
        from speech_pareto.models.sparsity import prunable

        parameters = list(prunable(model).values())

        def prune(step: int) -> float:
            if step % self.every == 0:
                share = self.first + (1 - self.first) * step / self.steps
                scores = [parameter.detach().abs() for parameter in parameters]
                zero_lowest(parameters, scores, round(share * sizing.knobs["zeros"]))
            return 0.0

        context.tune(model, prune, **self.loop_settings())
        return super().compress(model, sizing, context)
