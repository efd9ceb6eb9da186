"""Clustering: the weights of a row become a few levels of its own, without data or training.

    min Σ_j (W[i, j] − c[i, q[i, j]])²  over 2^b levels c and numbers q, for each row i

by Lloyd's iterations, begun at even steps from the least to the greatest weight, which keeps levels
for large weights. All weights take b bits and a row its levels; recovery trains the levels (Han et
al., Deep Compression, ICLR 2016, https://arxiv.org/abs/1510.00149, section 3). Clustering by
channel, without data or training, is that of https://arxiv.org/abs/2606.11836 (HuBERT Large), whose
abstract alone is known here.

Ours: how many levels there are, the same number in all rows; convolutions are clustered, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto.compression.method import Context, Sizing
from speech_pareto.compression.parts.few_bits import Bits, FewBits
from speech_pareto.models import architecture, storage

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

ROUNDS = 50  # of Lloyd's iterations, at most


def clusters(weights: Tensor, bits: int) -> Tensor:
    """Return the levels (rows, 2^bits), ascending, of weights (rows, …); in fp16."""
    import torch

    rows = weights.detach().float().flatten(1).sort(1).values.double()
    sums = torch.nn.functional.pad(rows.cumsum(1), (1, 0))  # of the first weights of each row
    low, high, number = rows[:, :1], rows[:, -1:], 2**bits
    levels = low + (torch.arange(number, device=rows.device) + 0.5) / number * (high - low)
    ends = torch.tensor([[0, rows.shape[1]]], device=rows.device).expand(len(rows), 2)
    for _ in range(ROUNDS):
        # Rows are sorted, so a level's weights lie together: between two of these places.
        places = torch.searchsorted(rows, (levels[:, 1:] + levels[:, :-1]) / 2)
        places = torch.cat([ends[:, :1], places, ends[:, 1:]], 1)
        sizes, totals = places.diff(dim=1), sums.gather(1, places).diff(dim=1)
        found = torch.where(sizes > 0, totals / sizes.clamp_min(1), levels).sort(1).values
        if torch.equal(found, levels):
            break
        levels = found
    return levels.half()


@dataclass(frozen=True, kw_only=True)
class WeightClustering(FewBits):
    """Gives each row of weights a few levels."""

    bits: Bits = 4

    def keeps_zeros(self) -> bool:
        return False

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return the config with few bits, whatever `ratio` is."""
        own = {"weights": self.bits, "levels": True}
        return Sizing(architecture.with_number_format(config, "intx", bits=own), {})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` with clustered weights."""
        from speech_pareto.models.packed import Codebook

        own = storage.bits_of(sizing.config).items()
        levels = {name: clusters(model.get_submodule(name).weight, bits) for name, bits in own}
        books = {name: Codebook(bits, levels[name]) for name, bits in own}
        return self.round(model, sizing.config, books)
