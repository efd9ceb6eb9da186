"""Weight pruning by global magnitude: the smallest weights of all layers become zero.

    w ← w · 1[|w| > θ],  θ such that as many as asked fall below it over all layers at once

over weights and biases of the query, key, value, output and both feed-forward matrices. The
tensors keep their size: zeros count as removed, but save neither time nor memory. One shot of the
iterative method of Lin et al., ASRU 2025, https://arxiv.org/abs/2211.09949; training afterwards
leaves zeros at zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto import architecture
from speech_pareto.method import Context, Method, Plan, rounded

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class WeightPruning(Method):
    """Zeroes single weights."""

    def supports(self, config: Mapping) -> str | None:
        """Return why not; zeros may be added to zeros."""
        return rounded(config)

    def solve(self, config: Mapping, ratio: float) -> Plan:
        """Return how many weights are zero in the end."""
        parts = architecture.count(config)
        matrices = [
            architecture.matrix_parameters(shape, layer.ranks.get(name))
            for layer in architecture.layers_of(config)
            for name, shape in architecture.matrices(config, layer).items()
        ]
        wanted = parts["removed"] + round(ratio * (parts["total"] - parts["removed"]))
        zeros = min(wanted, sum(matrices))
        after = architecture.with_layers(config, architecture.layers_of(config), zeros)
        return Plan(after, {"zeros": zeros})

    def compress(self, model: "Module", plan: Plan, context: Context) -> "Module":
        """Return `model` with its smallest weights at zero, exactly as many as planned."""
        import torch

        from speech_pareto.model import hold_zeros, prunable

        parameters = list(prunable(model).values())
        magnitudes = torch.cat([parameter.detach().abs().flatten() for parameter in parameters])
        keep = torch.ones_like(magnitudes)
        if zeros := plan.knobs["zeros"]:
            threshold = magnitudes.kthvalue(zeros).values
            ties = (magnitudes == threshold).nonzero()[:, 0]  # the first of them, to hit the number
            keep[magnitudes < threshold] = 0
            keep[ties[: zeros - int((magnitudes < threshold).sum())]] = 0
        for parameter, mask in zip(
            parameters, keep.split([p.numel() for p in parameters]), strict=True
        ):
            parameter.data.mul_(mask.view_as(parameter))
        model.config.compression = architecture.section(plan.config)  # states the zeros
        hold_zeros(model)
        return model
