"""Few bits: weights as whole numbers of 2 to 8 bits with a scale for each group of a row.

    W[i, j] ≈ s (q[i, j] − z),  q in 0 … 2^b − 1

`nearest` takes the grid from the least to the greatest weight and rounds to it. `hqq` then moves
the zero point so that the error is sparse, which outliers weigh less in, without any data:

    E ← shrink(W − Ŵ),  z ← mean(q − (W − E) / s),  shrink(x) = sign(x) max(0, |x| − |x|^(p−1) / β)

with p = 0.7, β = 10 that grows by a hundredth in each of 20 steps; a group keeps the best z.
Badri and Shaji, Half-Quadratic Quantization, 2023, and their code. Nothing is removed; biases and
norms stay in fp32. Recovery trains through the rounding, see `models/packed.py`.

Ours: convolutions, the stem's too, are rounded like matrices, with groups of input times tap; the
weight norm of the position convolution is multiplied out first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from speech_pareto.compression.method import Context, Sizing
from speech_pareto.compression.parts.few_bits import Bits, OnGrid
from speech_pareto.models import storage

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from speech_pareto.models.packed import Grid

POWER, BETA, GROWTH, ROUNDS = 0.7, 10.0, 1.01, 20  # of hqq, as in the authors' code


def half_quadratic(weights: Tensor, own: Grid) -> Grid:
    """Return a grid with zero points that make the errors of `weights` sparse."""
    import torch

    from speech_pareto.models.packed import grouped

    assert own.zero is not None
    rows, scale, beta = grouped(weights, own.scale.shape[1]), own.scale.float()[..., None], BETA
    best, least = own, torch.full_like(own.zero, torch.inf, dtype=torch.float32)
    for _ in range(ROUNDS):
        numbers = own.nearest(weights)  # (rows, groups, columns), as all here
        error = rows - (numbers - own.zero.float()[..., None]) * scale
        loss = error.abs().pow(POWER).mean(-1)
        best = best._replace(zero=torch.where(loss < least, own.zero, best.zero))
        least = torch.minimum(loss, least)
        size = error.abs().clamp_min(1e-8)
        sparse = error.sign() * (size - size.pow(POWER - 1) / beta).clamp_min(0)
        own = own._replace(zero=(numbers - (rows - sparse) / scale).mean(-1).half())
        beta *= GROWTH
    return best


@dataclass(frozen=True, kw_only=True)
class Intx(OnGrid):
    """Rounds all weights to the same number of bits, without data."""

    bits: Bits = 4
    stem: Bits | None = None  # bits of the stem's convolutions; None: as all others
    rounding: Literal["nearest", "hqq"] = "nearest"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounding == "hqq" and not self.zero_point:
            raise ValueError("hqq moves zero points: with zero_point: false there are none")

    def keeps_zeros(self) -> bool:
        return self.rounding != "hqq"

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return the config with few bits, whatever `ratio` is."""
        bits: Any = self.bits
        if self.stem is not None:
            bits = {
                name: self.stem if name.startswith("feature_extractor.") else self.bits
                for name in storage.weights(config)
            }
        return self.sizing(config, bits)

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` with weights of few bits."""
        grids = self.grids(model, sizing.config)
        if self.rounding == "hqq":
            for name, own in grids.items():
                grids[name] = half_quadratic(model.get_submodule(name).weight.detach(), own)
        return self.round(model, sizing.config, grids)
