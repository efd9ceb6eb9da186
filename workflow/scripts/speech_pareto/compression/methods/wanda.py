"""Wanda: weights go that are small and see little; one shot, no training.

    score(i, j) = |W[i, j]| · ‖X_j‖₂,  compared within each output row i

where X_j is input feature j over all frames of some calibration audio, padding left out. Every row
of every matrix loses the same share; biases stay. Layers are pruned in order, each seeing what the
pruned ones before it give. Tensors keep their size: zeros count as removed, as in weight pruning.
Sun et al., ICLR 2024, https://arxiv.org/abs/2306.11695, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Calibrated, Context, Sizing
from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def zeros_of_rows(config: Mapping, zeros: int) -> list[list[int]]:
    """Return how many zeros each row of each linear layer bears when `zeros` are spread evenly."""
    shapes = architecture.linear_shapes(config)
    shares = allocation.proportional(zeros, [outputs * inputs for outputs, inputs in shapes])
    pairs = zip(shapes, shares, strict=True)
    return [allocation.spread(own, [inputs] * outputs) for (outputs, inputs), own in pairs]


def smallest(scores: Tensor, amounts: Tensor) -> Tensor:
    """Return a mask of the `amounts` (rows,) lowest scores in each row of (rows, columns).

    Of equal scores the first are the lowest.
    """
    import torch

    ranks = torch.arange(scores.shape[1], device=scores.device)
    lowest = ranks < amounts.to(scores.device)[:, None]
    return torch.zeros_like(lowest).scatter_(1, scores.argsort(dim=1, stable=True), lowest)


def zero_out(model: Module, batches: Sequence, choose: Callable[[Tensor], Tensor]) -> None:
    """Zero the weights that `choose` masks given their scores (outputs, inputs), in place.

    It is called for one linear layer after the other; without `batches`, scores are |W|.
    """
    from speech_pareto.compression.calibration import input_norms
    from speech_pareto.models.surgery import linears

    for layer in model.encoder.layers:
        modules = linears(layer)
        norms = input_norms(model, modules, batches)
        for name, module in modules.items():
            scores = module.weight.detach().double().abs() * norms.get(name, 1.0)
            module.weight.data.masked_fill_(choose(scores), 0.0)


@dataclass(frozen=True, kw_only=True)
class Wanda(Calibrated):
    """Zeroes single weights by magnitude times activation."""

    full_rate = True

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return how many weights are zero in the end."""
        after = allocation.zeroed(config, ratio)
        return Sizing(after, {"zeros": architecture.section(after).get("zeros", 0)})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` with zeros, exactly as many as planned."""
        import torch

        from speech_pareto.models.sparsity import state_zeros

        shares = map(torch.tensor, zeros_of_rows(sizing.config, sizing.knobs["zeros"]))
        batches = self.audio(context)
        zero_out(model, batches, lambda scores: smallest(scores, next(shares)))
        state_zeros(model, sizing.config)
        return model
