"""GPTQ: few bits, where weights not yet rounded make up for the error of those that are.

    Ŵ = argmin ‖W X − Ŵ X‖²  over the numbers of the grid, greedily, column after column

The grid is that of `intx`, fixed before. Layers are rounded in order, each seeing what the rounded
ones before it give of some calibration audio, padding left out. Frantar et al., ICLR 2023,
https://arxiv.org/abs/2210.17323; the update is in `parts/compensation.py`.

Ours: columns are taken as they stand; convolutions and the projection are rounded to nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from speech_pareto.compression.method import Calibrated, Context, Sizing
from speech_pareto.compression.parts.few_bits import Bits, OnGrid

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from speech_pareto.models.packed import Grid

LAYERS = "encoder.layers."


def rounding(own: Grid, columns: int, block: Tensor, diagonal: Tensor, start: int) -> Callable:
    """Return what rounds column `start` + i (rows,) of a matrix of so many columns to its grid."""
    return lambda index, column: own.column(start + index, columns, column)


@dataclass(frozen=True, kw_only=True)
class Gptq(Calibrated, OnGrid):
    """Rounds all weights to the same number of bits, after some audio."""

    full_rate = True
    bits: Bits = 4

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return the config with few bits, whatever `ratio` is."""
        return self.sizing(config, self.bits)

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` with weights of few bits."""
        from speech_pareto.compression.calibration import input_products
        from speech_pareto.compression.parts.compensation import compensated

        grids = self.grids(model, sizing.config)
        batches = self.audio(context)
        before = {name: own for name, own in grids.items() if not name.startswith(LAYERS)}
        self.round(model, sizing.config, before)
        for index in range(len(model.encoder.layers)):
            place = f"{LAYERS}{index}."
            modules = {name: model.get_submodule(name) for name in grids if name.startswith(place)}
            if not modules:  # another layer, applied again
                continue
            products = input_products(model, modules, batches)
            for name, module in modules.items():
                choose = partial(rounding, grids[name], module.weight.shape[1])
                found = compensated(module.weight, products[name], choose)
                module.weight.data.copy_(found)
        layers = {name: own for name, own in grids.items() if name.startswith(LAYERS)}
        return self.round(model, sizing.config, layers)
