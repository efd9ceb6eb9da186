"""Half precision: every weight is stored in 16 bits, and the model computes in them.

Nothing is removed; half the bytes go. A log-mel stem, which has no weights, computes in fp32, and
outputs are fp32; recovery is as in Micikevicius et al., ICLR 2018, https://arxiv.org/abs/1710.03740.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from speech_pareto.compression.method import Context, Method, Sizing
from speech_pareto.models import architecture

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class HalfPrecision(Method):
    """Rounds all weights to 16 bits; the last step of a chain."""

    removes = False
    dtype: Literal["float16", "bfloat16"] = "float16"

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return the config with the number format, whatever `ratio` is."""
        return Sizing(architecture.with_number_format(config, self.dtype), {})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` in half precision."""
        from speech_pareto.models.quantisation import set_precision

        set_precision(model, self.dtype)
        model.config.compression = architecture.section(sizing.config)  # states the number format
        return model
