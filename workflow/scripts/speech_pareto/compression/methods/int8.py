"""int8: the layers' matrices in 8 bits, multiplied as integers with inputs rounded on the fly.

    W_j ≈ s_j q_j,  s_j = max|W_j| / 127,  q_j = round(W_j / s_j)   for each row j

Nothing is removed; the matrices take a quarter of the bytes. Inputs get one scale per frame
(dynamic quantisation). Recovery trains fp32 copies through the rounding, straight-through as in
Jacob et al., CVPR 2018, https://arxiv.org/abs/1712.05877.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto.compression.method import Context, Method, Sizing
from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class Int8(Method):
    """Rounds the layers' matrices to 8 bits; the last step of a chain."""

    removes = False

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return the config with the number format, whatever `ratio` is."""
        return Sizing(architecture.with_number_format(config, "int8"), {})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` with int8 matrices."""
        from speech_pareto.models.quantisation import set_precision

        set_precision(model, "int8")
        model.config.compression = architecture.section(sizing.config)  # states the number format
        return model
