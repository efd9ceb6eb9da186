"""Mixed precision: each weight tensor has bits of its own, learnt or chosen, within a budget.

    W̃ = Σ_b p_b Q_b(W),  p = softmax((α + G) / τ),  G Gumbel noise
    loss = distance of hidden states to those of the full model + λ (E[bits] / average − 1)²

`learnt`: weights and logits α train together, in one stage; each step draws its mixture of all
widths b (Wu et al., https://arxiv.org/abs/1812.00090; for HuBERT https://arxiv.org/abs/2501.03643,
whose full text is not known here). Then the widths of largest Σ log softmax(α)_b win that fill the
budget. `sensitivity`: no training; those of least Σ d_b, where d_b is what rounding this tensor
alone does to the last hidden state of some audio. Both are solved exactly, as a mixed integer
program. With `second_steps`, training goes on through the rounding that was chosen.

Ours: the distance of hidden states, since no task is known yet, the penalty, α = −|b − average| to
begin with, and all numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product, starmap
from typing import TYPE_CHECKING, Annotated, Literal

from speech_pareto.compression.allocation import cheapest
from speech_pareto.compression.method import Context, SelfSupervised, Sizing
from speech_pareto.compression.methods.distillation import Distillation
from speech_pareto.compression.parts.few_bits import Bits, OnGrid
from speech_pareto.models import storage
from speech_pareto.runtime import bounds

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Steps = Annotated[int, bounds.Within(0, 10**9, unit="steps")]


@dataclass(frozen=True, kw_only=True)
class MixedPrecision(OnGrid, SelfSupervised):
    """Rounds every weight tensor to bits of its own."""

    example = {"steps": 2, "second_steps": 1}
    average: Annotated[float, bounds.Within(2, 8, unit="bits")] = 3.5
    widths: tuple[Bits, ...] = (2, 3, 4, 6, 8)
    choice: Literal["learnt", "sensitivity"] = "learnt"
    steps: Steps = 200
    second_steps: Steps = 0  # once widths are chosen
    learning_rate: bounds.LearningRate = 1e-4
    batch_seconds: bounds.BatchSeconds = 24.0
    width_rate: bounds.LearningRate = 0.05  # learning rate of the logits
    penalty: bounds.Weight = 10.0  # λ
    temperature: Annotated[float, bounds.Within(0, 100, above=True)] = 1.0  # τ
    batches: bounds.Batches = 2  # on which `sensitivity` is measured

    def __post_init__(self) -> None:
        super().__post_init__()
        if sorted(set(self.widths)) != list(self.widths):
            raise ValueError("widths must rise")
        if not self.widths or not self.widths[0] <= self.average <= self.widths[-1]:
            raise ValueError("average must lie between the least and the largest of the widths")

    def training_steps(self) -> int:
        """Return the steps of both trainings."""
        return (self.steps if self.choice == "learnt" else 0) + self.second_steps

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return a config of the budget's bytes; which tensor has which bits is learnt later."""
        sizes, left = self.sizes(config), self.budget(config)
        bits = dict.fromkeys(sizes, self.widths[0])
        left -= sum(own[self.widths[0]] for own in sizes.values())
        for before, width in pairwise(self.widths):
            for name, own in sizes.items():
                if bits[name] == before and own[width] - own[before] <= left:
                    bits[name], left = width, left - own[width] + own[before]
        return self.sizing(config, bits)

    def budget(self, config: Mapping) -> float:
        """Return the bytes that all numbers may take."""
        shapes = storage.weights(config).values()
        return self.average / 8 * sum(rows * columns for rows, columns in shapes)

    def sizes(self, config: Mapping) -> dict[str, dict[int, int]]:
        """Return the bytes that the numbers of each tensor take at each width."""
        return {
            name: {bits: storage.packed_bytes(rows * columns, bits) for bits in self.widths}
            for name, (rows, columns) in storage.weights(config).items()
        }

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` with weights of few bits, within the budget."""
        from speech_pareto.models.backbone import describe
        from speech_pareto.models.packed import hold_in_fp32, pack_again

        config, full = describe(model), copy.deepcopy(model).eval().requires_grad_(False)
        full.to(next(context.teacher.parameters()).device)  # where the training will be
        if self.choice == "learnt":
            damage = self.learn(model, full, config, context)
        else:
            damage = self.measure(model, config, context)
        sizes = self.sizes(config)
        least = sum(sizes[name][bits] for name, bits in storage.bits_of(sizing.config).items())
        bits = cheapest(damage, sizes, least, self.budget(config))
        chosen = self.sizing(config, bits).config
        model = self.round(model, chosen, self.grids(model, chosen))
        if self.second_steps:
            held = hold_in_fp32(model)
            self.train(model, full, {}, self.second_steps, context)
            pack_again(held)
        return model

    def measure(self, model: Module, config: Mapping, context: Context) -> dict:
        """Return what rounding one tensor alone to each width does to the last hidden state."""
        from speech_pareto.compression.sensitivity import Change, damages
        from speech_pareto.models.packed import round_weights

        def rounding(name: str, bits: int) -> Change:
            def apply(changed: Module) -> None:
                module = changed.get_submodule(name)
                round_weights(module, self.grid(module.weight, bits))

            return Change(name, apply)

        asked = list(product(storage.weights(config), self.widths))
        batches = context.batches(self.batches, self.batch_seconds)
        changes = starmap(rounding, asked)
        found = iter(damages(model, changes, batches, beside=context.teacher))
        return {
            name: {bits: next(found) for bits in self.widths} for name in storage.weights(config)
        }

    def learn(self, model: Module, full: Module, config: Mapping, context: Context) -> dict:
        """Train weights and widths; return −log of the share of each width, by tensor."""
        from torch.nn.utils import parametrize

        from speech_pareto.compression.parts.mixtures import Mixture

        mixtures = {}
        for name, (rows, columns) in storage.weights(config).items():
            mixtures[name] = Mixture(self, rows * columns)
            module = model.get_submodule(name)
            parametrize.register_parametrization(module, "weight", mixtures[name], unsafe=True)
        if self.steps:
            self.train(model, full, mixtures, self.steps, context)
        for mixture in mixtures.values():
            mixture.mixes = False  # the weights are those that were trained
        return {name: mixture.costs() for name, mixture in mixtures.items()}

    def train(
        self, model: Module, full: Module, mixtures: Mapping, steps: int, context: Context
    ) -> None:
        """Train a model on what the full one gives; its mixtures on the budget, too."""
        loss = partial(self.loss, model, full, mixtures)
        context.train(model, loss, **(self.loop_settings() | {"steps": steps}))

    def loss(self, model: Module, full: Module, mixtures: Mapping, batch: Mapping) -> Tensor:
        """Return the distance to the full model, and how far the bits are from the budget."""
        distance = Distillation().loss(model, full, batch)
        if not mixtures:
            return distance
        bits = sum(own.expected() * own.number for own in mixtures.values())
        mean = bits / sum(own.number for own in mixtures.values())
        return distance + self.penalty * (mean / self.average - 1) ** 2
