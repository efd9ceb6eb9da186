"""STaRHuBERT: a thin student learns how the teacher's frames relate to each other in time.

    L = Σ_l MSE(F_l F_lᵀ / D, Y_l Y_lᵀ / D') + Σ_l MSE(F_(l-1) F_lᵀ / D, Y_(l-1) Y_lᵀ / D')

F_l (time, D) is student layer l, Y_l (time, D') the teacher's, F_0 what goes into the first layer;
the mean is over pairs of real frames of an utterance, then over utterances. Products of frames
have no width, so no heads are needed. Jang et al., ICASSP 2024, https://arxiv.org/abs/2312.09040.
Dividing by the widths, so that the two compare, is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto.compression.parts.thin_student import ThinStudent
from speech_pareto.models.hidden_states import real_frames, states

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class STaRHuBERT(ThinStudent):
    """Trains a thin student on temporal Gram matrices."""

    averages = "utterances"

    def loss(self, student: Module, teacher: Module, batch: Mapping) -> Tensor:
        """Return the distance between Gram matrices, within layers and across each."""
        import torch

        real = real_frames(teacher, batch)  # (B, T)
        pairs = real[:, :, None] & real[:, None]  # (B, T, T)
        weights = pairs / pairs.sum((1, 2), keepdim=True) / len(pairs)
        with torch.no_grad():
            theirs = states(teacher, batch)
        ours, total = states(student, batch), 0
        for index in range(1, len(ours)):
            for other in (index, index - 1):
                first, second = (
                    (x[other] @ x[index].mT).float() / x[index].shape[-1] for x in (ours, theirs)
                )
                total = total + ((first - second).square() * weights).sum()
        return total
