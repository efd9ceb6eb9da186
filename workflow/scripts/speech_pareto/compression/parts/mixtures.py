"""Weights as mixtures of their roundings to several widths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

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
        # Computed again for the gradients: all roundings of HuBERT Base's weights take gigabytes.
        again = {"use_reentrant": False, "preserve_rng_state": False}  # nothing in it is drawn
        return checkpoint(self._mixed, weights, shares, **again)

    def _mixed(self, weights: Tensor, shares: Tensor) -> Tensor:
        """Return the sum of the roundings, each times its share."""
        grids = [self.settings.grid(weights, bits) for bits in self.settings.widths]
        return sum(share * own.rounded(weights) for share, own in zip(shares, grids, strict=True))

    def expected(self) -> Tensor:
        """Return the expected bits of a weight."""
        # Not `@`: that would be bf16 under autocast, and a matrix has a million weights.
        return (self.logits.softmax(0) * self.logits.new_tensor(self.settings.widths)).sum()

    def costs(self) -> dict[int, float]:
        """Return −log of the share of each width."""
        costs = -self.logits.detach().double().log_softmax(0)
        return dict(zip(self.settings.widths, costs.tolist(), strict=True))
