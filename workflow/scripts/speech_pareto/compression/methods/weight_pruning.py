"""Weight pruning by global magnitude: the smallest weights of all layers become zero.

    w ← w · 1[|w| > θ],  θ such that as many as asked fall below it over all layers at once

over weights and biases of the query, key, value, output and both feed-forward matrices. The
tensors keep their size; training afterwards leaves zeros at zero. One shot of the iterative method
of Lin et al., ASRU 2025, https://arxiv.org/abs/2211.09949.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto.compression.method import Context, Method, Sizing, finished
from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def zero_lowest(parameters: Sequence[Tensor], scores: Sequence[Tensor], amount: int) -> None:
    """Zero in place the `amount` entries of lowest score of all `parameters` together.

    A parameter and its scores are of one shape; of equal scores the first ones go.
    """
    import numpy as np
    import torch

    joined = torch.cat([score.flatten() for score in scores])
    keep = torch.ones_like(joined, dtype=torch.bool)
    if amount:
        if joined.is_cuda:
            threshold = joined.kthvalue(amount).values
        else:  # torch would need four times the room
            threshold = np.partition(joined.numpy(), amount - 1)[amount - 1].item()
        ties = (joined == threshold).nonzero()[:, 0]
        keep[joined < threshold] = False
        keep[ties[: amount - int((joined < threshold).sum())]] = False
    masks = keep.split([parameter.numel() for parameter in parameters])
    for parameter, mask in zip(parameters, masks, strict=True):
        parameter.data.mul_(mask.view_as(parameter))


@dataclass(frozen=True, kw_only=True)
class WeightPruning(Method):
    """Zeroes single weights."""

    def obstacle(self, config: Mapping) -> str | None:
        """Return why not; zeros may be added to zeros."""
        return finished(config)

    def solve(self, config: Mapping, ratio: float) -> Sizing:
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
        return Sizing(after, {"zeros": zeros})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` with its smallest weights at zero, exactly as many as planned."""
        from speech_pareto.models.sparsity import prunable, state_zeros

        parameters = list(prunable(model).values())
        scores = [parameter.detach().abs() for parameter in parameters]
        zero_lowest(parameters, scores, sizing.knobs["zeros"])
        state_zeros(model, sizing.config)
        return model
