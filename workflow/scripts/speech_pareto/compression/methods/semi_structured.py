"""2:4 sparsity: of each four neighbouring inputs of a row, the two that matter least become zero.

    score(i, j) = |W[i, j]|, or |W[i, j]| · ‖X_j‖₂ as in Wanda (`score: wanda`)

over all matrices of the layers; biases stay, and so does what is left over when the inputs are no
multiple of four. The structure fixes the ratio: half of those weights. Beside a method that fills
up the ratio, name that share (`ratio: 0.45` for HuBERT Base), which is then checked.
Mishra et al., 2021, https://arxiv.org/abs/2104.08378.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from speech_pareto.compression.method import Calibrated, Context, Sizing
from speech_pareto.compression.methods.wanda import zero_out
from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def two_of_four(scores: Tensor) -> Tensor:
    """Return a mask (outputs, inputs) of the two lowest scores in each four inputs of a row."""
    import torch

    whole = scores.shape[1] // 4 * 4
    groups = scores[:, :whole].unflatten(1, (-1, 4))
    mask = torch.zeros_like(scores, dtype=torch.bool)
    mask[:, :whole] = (groups.argsort(dim=2, stable=True).argsort(dim=2) < 2).flatten(1)
    return mask


@dataclass(frozen=True, kw_only=True)
class SemiStructured(Calibrated):
    """Zeroes two weights of each four."""

    score: Literal["magnitude", "wanda"] = "magnitude"

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return half of the weights as zeros, whatever `ratio` is."""
        shapes = architecture.linear_shapes(config)
        zeros = sum(2 * outputs * (inputs // 4) for outputs, inputs in shapes)
        after = architecture.with_layers(config, architecture.layers_of(config), zeros)
        return Sizing(after, {"zeros": zeros})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` with zeros."""
        from speech_pareto.models.sparsity import state_zeros

        wanda = self.score == "wanda"
        batches = self.audio(context) if wanda else []
        zero_out(model, batches, two_of_four)
        state_zeros(model, sizing.config)
        return model
