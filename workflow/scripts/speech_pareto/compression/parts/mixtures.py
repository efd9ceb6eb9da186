"""Weights as mixtures of their roundings to several widths, and the widths that a budget allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from speech_pareto.models.hidden_states import at_home, real_frames, states
from speech_pareto.models.hooks import removed_after

if TYPE_CHECKING:
    from speech_pareto.compression.methods.mixed_precision import MixedPrecision


class Mixture(nn.Module):
    """Mixes the roundings of a tensor of `number` weights to several widths; shares are learnt."""

    def __init__(self, settings: MixedPrecision, number: int) -> None:
        super().__init__()
        self.settings, self.number, self.mixes = settings, number, True
        widths = torch.tensor(settings.widths)
        self.logits = nn.Parameter(-(widths - settings.average).abs())
        self.optimiser = {"lr": settings.width_rate, "weight_decay": 0.0}

    def forward(self, weights: Tensor) -> Tensor:
        """Return a mixture, drawn anew, of the shape of `weights`; these if it does not mix."""
        if not self.mixes:
            return weights
        shares = functional.gumbel_softmax(self.logits.float(), self.settings.temperature)
        grids = [self.settings.grid(weights, bits) for bits in self.settings.widths]
        return sum(share * own.rounded(weights) for share, own in zip(shares, grids, strict=True))

    def expected(self) -> Tensor:
        """Return the expected bits of a weight."""
        return self.logits.softmax(0) @ self.logits.new_tensor(self.settings.widths)

    def costs(self) -> dict[int, float]:
        """Return −log of the share of each width."""
        costs = -self.logits.detach().double().log_softmax(0)
        return dict(zip(self.settings.widths, costs.tolist(), strict=True))


def without_bias(module: nn.Module, weights: Tensor, inputs: Tensor) -> Tensor:
    """Return what a linear or convolutional layer gives with other weights and no bias."""
    if isinstance(module, nn.Linear):
        return functional.linear(inputs, weights)
    assert isinstance(module, nn.Conv1d | nn.ConvTranspose1d)
    if isinstance(module, nn.ConvTranspose1d):
        return functional.conv_transpose1d(inputs, weights, None, module.stride)
    where = (module.stride, module.padding, module.dilation, module.groups)
    return functional.conv1d(inputs, weights, None, *where)


@torch.no_grad()
def damages(
    model: nn.Module,
    names: Iterable[str],
    settings: MixedPrecision,
    batches: Sequence[Mapping[str, Tensor]],
) -> dict[str, dict[int, float]]:
    """Return what rounding one tensor alone to a width does to the last hidden state.

    It is the mean squared difference over all real frames of `batches`, by tensor and width.
    """
    batches = [at_home(model, batch) for batch in batches]
    frames = [real_frames(model, batch) for batch in batches]
    plain = [states(model, batch)[-1] for batch in batches]

    def change(weights: Tensor) -> Callable:
        return lambda module, inputs, output: output + without_bias(module, weights, inputs[0])

    found: dict[str, dict[int, float]] = {}
    for name in names:
        module, found[name] = model.get_submodule(name), {}
        for bits in settings.widths:
            own, error = settings.grid(module.weight, bits), 0.0
            hook = change(own.rounded(module.weight) - module.weight)
            with removed_after([module.register_forward_hook(hook)]):
                for batch, real, before in zip(batches, frames, plain, strict=True):
                    after = states(model, batch)[-1]
                    error += float((after - before)[real].double().square().mean())
            found[name][bits] = error / len(batches)
    return found


def cheapest(
    damage: Mapping[str, Mapping[int, float]],
    sizes: Mapping[str, Mapping[int, float]],
    least: float,
    most: float,
) -> dict[str, int]:
    """Return the width of each tensor with the least damage in all, of sizes within both limits.

    A mixed integer program, solved to the end by HiGHS. ValueError if nothing fits.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    options = [(name, bits) for name in damage for bits in damage[name]]
    names = list(damage)
    one = np.zeros((len(names), len(options)))
    for column, (name, _) in enumerate(options):
        one[names.index(name), column] = 1
    room = np.array([[sizes[name][bits] / most for name, bits in options]])
    found = milp(
        [damage[name][bits] for name, bits in options],
        integrality=np.ones(len(options)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one, 1, 1), LinearConstraint(room, least / most, 1)],
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        raise ValueError(f"no choice of bits takes {least:.0f} to {most:.0f} bytes")
    return {name: bits for (name, bits), taken in zip(options, found.x, strict=True) if taken > 0.5}
