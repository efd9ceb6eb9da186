"""What methods share that round weights to few bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from speech_pareto.compression.method import Method, Sizing, already_rounded
from speech_pareto.models import architecture, storage
from speech_pareto.runtime.bounds import Within

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from speech_pareto.models.packed import Codebook, Grid

Bits = Annotated[int, Within(2, 8, unit="bits")]


@dataclass(frozen=True, kw_only=True)
class FewBits(Method):
    """Rounds weights to few bits; the last step of a chain."""

    removes = False

    def obstacle(self, config: Mapping) -> str | None:
        if not self.keeps_zeros() and architecture.section(config).get("zeros"):
            return "no number stands for zero, so it would undo the zeros of the pruning before it"
        return self.misses_frames(config) or already_rounded(config)

    def keeps_zeros(self) -> bool:
        """Return whether weights that are zero stay zero."""
        return True

    def round(self, model: Module, config: Mapping, grids: Mapping[str, Grid | Codebook]) -> Module:
        """Return `model` with its weights rounded to `grids`, by layer."""
        from speech_pareto.models.packed import round_weights

        for name, own in grids.items():
            round_weights(model.get_submodule(name), own)
        model.config.compression = architecture.section(config)
        return model


@dataclass(frozen=True, kw_only=True)
class OnGrid(FewBits):
    """Rounds weights to even steps, between the least and the greatest of each group."""

    group: Annotated[int, Within(8, 1024, unit="weights")] | None = 64  # None: a whole row
    zero_point: bool = True

    def sizing(self, config: Mapping, weights: int | Mapping[str, int]) -> Sizing:
        """Return the config with weights of so many bits."""
        own = {"weights": weights, "group": self.group, "zero_point": self.zero_point}
        return Sizing(architecture.with_number_format(config, "intx", bits=own), {})

    def grid(self, weights: Tensor, bits: int) -> Grid:
        """Return the grid of `bits` bits of one weight tensor."""
        from speech_pareto.models.packed import grid

        return grid(weights, bits, self.group, self.zero_point)

    def grids(self, model: Module, config: Mapping) -> dict[str, Grid]:
        """Return the grid of each weight tensor of a model, by layer."""
        own = storage.bits_of(config).items()
        return {name: self.grid(model.get_submodule(name).weight, bits) for name, bits in own}
