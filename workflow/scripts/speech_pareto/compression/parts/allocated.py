"""What methods share whose units may go from some layers more than from others.

    uniform       every layer loses as much
    global        the lowest scores of the whole model go, as shares of their layer's norm
    sensitivity   minimise Σ_l d_l(n_l)  such that  Σ_l n_l = n

n_l is how many units layer l loses, d_l(n) what the loss of its n lowest, alone, does to the last
hidden state of some audio (`sensitivity.damages`), at up to `LEVELS` numbers. That damages add up
is taken for granted, as by HAWQ-V3 (Yao et al., ICML 2021, https://arxiv.org/abs/2011.10680), whose
integer program chooses bits, and SPDY (Frantar & Alistarh, ICML 2022,
https://arxiv.org/abs/2201.13096), which chooses sparsities by layer. A unit of one kind has as many
parameters and multiply-accumulates in one layer as in another: what `uniform` saves of either, the
others save, too. Ours: hidden states, where they know a task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Context, Method
from speech_pareto.runtime.bounds import Batches, BatchSeconds

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

LEVELS = 12  # numbers of units of a layer whose loss is measured


@dataclass(frozen=True, kw_only=True)
class Allocated(Method):
    """A method that takes units from all layers alike, or from where they are needed least."""

    allocation: Literal["uniform", "global", "sensitivity"] = "uniform"
    sensitivity_batches: Batches = 2  # on which damages are measured
    sensitivity_seconds: BatchSeconds = 24.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.allocation == "sensitivity" and self.needs == "nothing":
            object.__setattr__(self, "needs", "audio")

    def lowest_units(
        self,
        model: Module,
        scores: Sequence[Tensor],
        amount: int,
        keep: int,
        cut: Callable[..., None],
        context: Context,
    ) -> list[list[int]]:
        """Return for each layer which places go when `amount` units go in all, not `uniform`.

        `scores` (units,) are those of each layer, of which `keep` stay at least; `cut(layer,
        gone=places)` removes some of them.
        """
        if self.allocation == "global":
            return allocation.lowest_of_all(scores, amount, keep)
        from speech_pareto.compression import sensitivity

        orders = [own.argsort(stable=True).tolist() for own in scores]
        asked = [
            (index, number)
            for index, order in enumerate(orders)
            for number in allocation.steps_to(max(0, len(order) - keep), LEVELS)
        ]
        changes = (
            sensitivity.in_layer(index, partial(cut, gone=orders[index][:number]))
            for index, number in asked
        )
        found = sensitivity.damages(model, changes, self.heard(context), beside=context.teacher)
        levels: list[dict[int, float]] = [{} for _ in orders]
        for (index, number), damage in zip(asked, found, strict=True):
            levels[index][number] = damage
        numbers = allocation.least_damage(levels, amount)
        return [order[:number] for order, number in zip(orders, numbers, strict=True)]

    def heard(self, context: Context) -> Sequence:
        """Return the audio on which damages are measured."""
        return context.batches(self.sensitivity_batches, self.sensitivity_seconds)
