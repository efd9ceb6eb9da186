"""What methods share whose units may go from some layers more than from others.

    uniform       every layer loses as much
    global        the lowest scores of the whole model go, as shares of their part's norm, squared,
                  for what a unit costs
    sensitivity   minimise Σ_p d_p(n_p)  such that  Σ_p c_p(n_p) ≥ C

n_p is how many units part p loses, one kind of unit in one layer, and d_p(n) what the loss of its n
lowest, alone, does to the last hidden state of some audio (`sensitivity.damages`), at up to
`LEVELS` numbers. c_p(n) is what that saves of the cost that a ratio is of, parameters or another
(`targets`), and C what `uniform` saves of it. That damages add up is taken for granted, as by
HAWQ-V3 (Yao et al., ICML 2021, https://arxiv.org/abs/2011.10680), whose integer program chooses
bits, and SPDY (Frantar & Alistarh, ICML 2022, https://arxiv.org/abs/2201.13096), which chooses
sparsities by layer. What neighbouring convolutions save does not add up, so the program has a term
for each two of them. Ours: hidden states, where they know a task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Context, Method, Sizing
from speech_pareto.models import architecture
from speech_pareto.runtime.bounds import Batches, BatchSeconds

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from speech_pareto.compression.sensitivity import Change

LEVELS = 12  # numbers of units of a part whose loss is measured
ROUNDING = 1e-9  # share of a cost by which sums of the same terms may differ


@dataclass(frozen=True, kw_only=True)
class Allocated(Method):
    """A method that takes from all layers alike, or from where it is needed least."""

    allocation: Literal["uniform", "global", "sensitivity"] = "uniform"
    sensitivity_batches: Batches = 2  # on which damages are measured
    sensitivity_seconds: BatchSeconds = 24.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.allocation == "sensitivity" and self.needs == "nothing":
            object.__setattr__(self, "needs", "audio")

    def heard(self, context: Context) -> Sequence:
        """Return the audio on which damages are measured."""
        return context.batches(self.sensitivity_batches, self.sensitivity_seconds)


@dataclass(frozen=True)
class Part:
    """Units of one kind of a layer, or of the stem: `scores` (units,), and what cuts them.

    `cut(layer, number=n)`, or `cut(model, number=n)` in the stem, removes the n lowest in place.
    """

    scores: Tensor
    cut: Callable[..., None]
    layer: int | None = None

    def change(self, number: int) -> Change:
        """Return the change that removes the `number` lowest units."""
        from speech_pareto.compression.sensitivity import Change, in_layer

        cut = partial(self.cut, number=number)
        return Change("", cut) if self.layer is None else in_layer(self.layer, cut)


@dataclass(frozen=True, kw_only=True)
class UnitPruning(Allocated):
    """A method that removes units of some parts of a model, physically."""

    chained: ClassVar[bool] = False  # True: what a unit costs depends on the parts next to its own

    def spare(self, config: Mapping) -> list[int]:
        """Return how many units each part can lose."""
        raise NotImplementedError

    def without(self, config: Mapping, gone: Sequence[int]) -> dict:
        """Return the config of a model whose parts have lost so many units each."""
        raise NotImplementedError

    def parts(self, model: Module, context: Context) -> list[Part]:
        """Return the parts of a model, in the order of `spare`."""
        raise NotImplementedError

    def share(self, config: Mapping, amount: int) -> list[int]:
        """Return how many units each part loses if `amount` go in all, from all alike."""
        return allocation.spread(amount, self.spare(config))

    def alike(self, config: Mapping, ratio: float) -> list[int]:
        """Return how many units each part loses if all lose alike, nearest to a ratio."""
        target = (1 - ratio) * architecture.remaining(config)

        def excess(amount: int) -> float:
            return architecture.remaining(self.without(config, self.share(config, amount))) - target

        amounts = range(sum(self.spare(config)) + 1)
        return self.share(config, allocation.nearest(amounts, excess))

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return where it leads if all parts lose alike; other students cost as much."""
        gone = self.alike(config, ratio)
        return Sizing(self.without(config, gone), {"alike": gone})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` without its lowest units."""
        parts = self.parts(model, context)
        if self.allocation == "uniform":
            gone = self.uniform(parts, sizing.knobs["alike"])
        else:
            gone = self.chosen(model, parts, sizing, context)
        for part, number in zip(parts, gone, strict=True):
            if number:
                part.change(number).apply(model)
        return model

    def uniform(self, parts: Sequence[Part], alike: list[int]) -> list[int]:
        """Return how many units each part loses, by their scores, where all lose `alike`."""
        return alike

    def chosen(
        self, model: Module, parts: Sequence[Part], sizing: Sizing, context: Context
    ) -> list[int]:
        """Return how many units each part loses where some lose more, for what `sizing` costs."""
        from speech_pareto.compression import sensitivity
        from speech_pareto.models.backbone import describe

        config, room = describe(model), context.cost(sizing.config) * (1 + ROUNDING)
        spare = self.spare(config)

        def cost(gone: Sequence[int]) -> float:
            return context.cost(self.without(config, gone))

        if self.allocation == "global":
            return allocation.lowest_of_all([part.scores for part in parts], spare, cost, room)
        asked = [
            (index, number)
            for index, most in enumerate(spare)
            for number in allocation.steps_to(most, LEVELS)
        ]
        changes = (parts[index].change(number) for index, number in asked)
        found = sensitivity.damages(model, changes, self.heard(context), beside=context.teacher)
        levels: list[dict[int, float]] = [{} for _ in parts]
        for (index, number), damage in zip(asked, found, strict=True):
            levels[index][number] = damage
        return allocation.least_damage(
            levels, cost, room, pairwise(range(len(parts))) if self.chained else ()
        )
