"""Masked prediction of the teacher's units: what HuBERT was pretrained with, for students.

    loss = − mean over masked frames t of log softmax(z_t)[u_t],  z = W h_L + b

The units u are k-means clusters of one layer of the teacher, Hsu et al., TASLP 2021,
https://arxiv.org/abs/2106.07447; as in Lin et al., ASRU 2025, https://arxiv.org/abs/2211.09949,
only masked frames count. Units and the map to them are fitted anew, with the recipe's seed, in each
job that needs them: published backbones come without those of their pretraining. Planning reads
this: no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from speech_pareto.compression.method import Context, Method
from speech_pareto.models import architecture
from speech_pareto.models.hidden_states import mean_over, real_frames
from speech_pareto.runtime.bounds import MaskShare, MaskSpan, Within

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear, Module

    from speech_pareto.training.hubert_units import Labeller, UnitPredictor


@dataclass(frozen=True, kw_only=True)
class Units(Method):
    """A method that looks at units; its fields say which."""

    units: Annotated[int, Within(3, 100_000, unit="clusters")] = 100  # HuBERT: 500
    # Counted from 1; None: two thirds up, HuBERT Base's eighth.
    unit_layer: Annotated[int, Within(1, 1000)] | None = None
    # Audio that they are fitted to.
    unit_seconds: Annotated[float, Within(0.1, 10**7, unit="seconds of audio")] = 300.0

    def obstacle(self, config: Mapping) -> str | None:
        depth = len(architecture.layers_of(config))
        if (self.unit_layer or 0) > depth:
            return f"unit_layer is {self.unit_layer}, the model has {depth} layers"
        return super().obstacle(config)

    def fit_units(self, context: Context) -> tuple[Labeller, Linear]:
        """Return the teacher's units, and a head on its last layer that predicts them.

        A job that goes on has those that it had: on other hardware k-means may number them
        otherwise, and a head that was trained names them by number.
        """
        from speech_pareto.training.hubert_units import fit

        depth, seconds = len(context.teacher.encoder.layers), min(24.0, self.unit_seconds)
        batches = context.batches(round(self.unit_seconds / seconds), seconds)
        layer = self.unit_layer or max(1, round(2 * depth / 3))
        own = context.teacher, batches, layer, self.units
        return fit(*own, context.seed, context.remember)


@dataclass(frozen=True, kw_only=True)
class UnitMethod(Units):
    """A method that predicts units of masked frames; its fields say what is masked."""

    mask_share: MaskShare = 0.52  # Lin et al.: 0.7
    mask_span: MaskSpan = 8  # frames; Lin et al.: 5 (of 20 ms)

    def mask(self, model: Module, batch: Mapping) -> Tensor:
        """Return which frames to hide, bool (batch, frames), never padding."""
        from speech_pareto.training.masking import span_mask

        real = real_frames(model, batch)
        return span_mask(real.sum(1), self.mask_share, self.mask_span, real.shape[1])

    def masked_prediction(
        self, predictor: UnitPredictor, labeller: Labeller, batch: Mapping
    ) -> Tensor:
        """Return the mean cross-entropy over masked frames; 0 if none was drawn."""
        from torch.nn import functional

        mask = self.mask(predictor.backbone, batch)
        logits = predictor(batch["input_values"], batch["attention_mask"], mask)
        flat, units = logits.flatten(0, 1).float(), labeller(batch).flatten()  # (B T, C), (B T,)
        errors = functional.cross_entropy(flat, units, reduction="none")
        return mean_over(errors.view_as(mask), mask)
