"""FitHuBERT: a thin, deep student at half the frame rate learns each of the teacher's layers.

    L = MSE(p_L(F_L), Y_L) + λ Σ_(l < L) MSE(p_l(F_l), Y_l),  over real frames of whole pairs

F_l is student layer l, Y_l the teacher's, p_l a transposed convolution back to the full frame rate
and a matrix to the teacher's width. The last convolution stays with the student, so that it gives
the teacher's frames. Lee et al., Interspeech 2022, https://arxiv.org/abs/2207.00555.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto.compression.parts.thin_student import ThinStudent, thin
from speech_pareto.models import architecture
from speech_pareto.models.hidden_states import mean_over, real_frames, states
from speech_pareto.runtime.bounds import Weight

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

FACTOR = 2  # frames that become one
STEM = 512  # channels in which the slim stem ends


@dataclass(frozen=True, kw_only=True)
class FitHuBERT(ThinStudent):
    """Trains a thin student whose layers see every two frames as one."""

    hints = True
    hint: Weight = 0.1  # λ

    def shape(self, config: Mapping, width: int, ffn: int) -> dict:
        """Return the student's config."""
        student = thin(config, width, ffn, STEM)
        section = architecture.section(student) | {"time_reduction": FACTOR}
        return {**student, "compression": section}

    def projection_parameters(self, teacher: Mapping, student: Mapping) -> int:
        """Return the parameters of all p, but for the convolution that stays with the student."""
        convolutions = (self.projections(student) - 1) * architecture.resampling_parameters(student)
        return super().projection_parameters(teacher, student) + convolutions

    def loss(self, student: Module, teacher: Module, batch: Mapping) -> Tensor:
        """Return the weighted sum of the layers' errors."""
        import torch

        real = real_frames(teacher, batch)  # (B, T)
        joined = real.sum(1, keepdim=True) // FACTOR * FACTOR  # frames of whole groups, (B, 1)
        real = real & (torch.arange(real.shape[1], device=real.device) < joined)
        with torch.no_grad():
            targets = states(teacher, batch)
        ours, total = states(student, batch), 0
        for index, project in enumerate(student.projections, 1):
            last = index == len(student.projections)
            predicted = project(ours[index] if last else ours[index][:, ::FACTOR])
            errors = predicted[:, : real.shape[1]] - targets[index]  # (B, T, D)
            errors = errors.float().square().mean(-1)  # (B, T)
            total = total + mean_over(errors, real) * (1 if last else self.hint)
        return total
