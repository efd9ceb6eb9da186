"""Masking distillation: a thin student under the teacher's mask, with two loss terms per layer.

    L_l = 1/T Σ_(t masked) ‖p_l(t) − y_l(t)‖² / D + 1/T Σ_(t not masked) ‖p_l(t) − ỹ_l(t)‖² / D
    L   = L_L + λ Σ_(l < L) L_l

p_l is a linear projection of student layer l, y_l the teacher's layer l without a mask, ỹ_l with
the same mask as the student, T the number of real frames of the batch, D the teacher's width. With
`reuse` every second layer has no queries and keys and applies the map of the one before. ARMHuBERT
and, without reuse, MaskHuBERT: Jang et al., Interspeech 2023, https://arxiv.org/abs/2305.11685,
sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from speech_pareto.compression.method import cannot_mask
from speech_pareto.compression.parts.gradients import layers_scaled, own_share
from speech_pareto.compression.parts.thin_student import ThinStudent, thin, with_reuse
from speech_pareto.models.hidden_states import mean_over, real_frames, states, without_and_with
from speech_pareto.runtime.bounds import MaskShare, MaskSpan, Weight

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class MaskingDistillation(ThinStudent):
    """Trains a thin student to fill in what a mask hides."""

    hints = True
    reuse: Literal["none", "map", "softmax", "released"] = "map"  # see attention_reuse
    mask_share: MaskShare = 0.8  # share of the frames to mask if no spans overlapped
    mask_span: MaskSpan = 10  # frames masked in a row
    hint: Weight = 0.1  # λ
    scale_gradients: bool = False  # True: by layer, as in ARMHuBERT's code, see `layers_scaled`

    def obstacle(self, config: Mapping) -> str | None:
        """Return why not, for a teacher that cannot mask."""
        return cannot_mask(config) or super().obstacle(config)

    def shape(self, config: Mapping, width: int, ffn: int) -> dict:
        """Return the student's config."""
        student = thin(config, width, ffn)
        return student if self.reuse == "none" else with_reuse(student, self.reuse)

    @contextmanager
    def scaled(self, student: Module) -> Iterator[None]:
        """Scale gradients that reach the stem and, if asked, each layer."""
        layers = student.encoder.layers if self.scale_gradients else []
        with super().scaled(student), layers_scaled(layers):
            yield

    def loss(self, student: Module, teacher: Module, batch: Mapping) -> Tensor:
        """Return both terms, of all layers, under a mask drawn anew."""
        import torch

        from speech_pareto.training.masking import span_mask

        real = real_frames(teacher, batch)  # (B, T)
        mask = span_mask(real.sum(1), self.mask_share, self.mask_span, real.shape[1])
        with torch.no_grad():
            clean, masked = without_and_with(teacher, batch, mask)
        ours, total = states(student, batch, mask), 0
        layers = len(student.projections)
        for index, project in enumerate(student.projections, 1):
            state = ours[index]
            if self.scale_gradients:
                state = own_share(state, index - 1, layers)
            target = torch.where(mask[..., None], clean[index], masked[index])
            errors = (project(state) - target).float().square().mean(-1)  # (B, T)
            weight = 1 if index == layers else self.hint
            total = total + mean_over(errors, real) * weight
        return total
