"""Data-driven head pruning: the attention heads go that the loss depends on least; one shot.

    score(l, h) = mean over batches of Σ_b Σ_t |⟨c, ∂L/∂c⟩|,  then divided by ‖score(l, ·)‖₂

where c is the context of head h in layer l, at utterance b and frame t, before the output matrix.
The lowest heads of the whole model go (`allocation: global`); the best `keep` of each layer stay.
After Lin et al., ASRU 2025, https://arxiv.org/abs/2211.09949. L is masked prediction of units, see
`masked_units`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from speech_pareto.compression.method import Calibrated, Context, cannot_mask
from speech_pareto.compression.methods.head_pruning import HeadPruning
from speech_pareto.compression.parts.masked_units import UnitMethod

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from speech_pareto.training.hubert_units import Labeller, UnitPredictor


@dataclass(frozen=True, kw_only=True)
class DataDrivenHeadPruning(Calibrated, UnitMethod, HeadPruning):
    """Removes whole heads, physically, by what they give to masked prediction."""

    example = {"units": 5, "unit_seconds": 1.0, "batches": 2, "batch_seconds": 0.4}
    allocation: Literal["uniform", "global", "sensitivity"] = "global"

    def obstacle(self, config: Mapping) -> str | None:
        """Return why not: frames must be maskable."""
        return cannot_mask(config) or super().obstacle(config)

    def scores(self, model: Module, context: Context) -> list[Tensor]:
        """Return the score of each head (heads,) of each layer."""
        from speech_pareto.training.hubert_units import UnitPredictor

        labeller, head = context.units or self.fit_units(context)
        predictor = UnitPredictor(model, head).to(labeller.centres.device)
        own = predictor, labeller, self.audio(context), context.seed
        return context.remember(lambda: self.gradients(*own))

    def gradients(
        self, predictor: UnitPredictor, labeller: Labeller, batches: Sequence[Mapping], seed: int
    ) -> list[Tensor]:
        """Return the score of each head (heads,) of each layer, in float64, not yet divided."""
        import torch

        from speech_pareto.models.hidden_states import at_home
        from speech_pareto.models.hooks import removed_after
        from speech_pareto.models.surgery import matrix

        layers, contexts = predictor.backbone.encoder.layers, []
        totals = [torch.zeros(len(layer.attention.heads)).double() for layer in layers]
        handles = (
            matrix(layer, "out_proj").register_forward_pre_hook(
                lambda module, inputs: contexts.append(inputs[0])  # (batch, time, inner)
            )
            for layer in layers
            if layer.attention.heads
        )
        with torch.random.fork_rng(), removed_after(handles):
            torch.manual_seed(seed)  # of the masks
            for batch in batches:
                contexts.clear()
                loss = self.masked_prediction(predictor, labeller, at_home(predictor, batch))
                gradients = torch.autograd.grad(loss, contexts)
                those = (total for total in totals if len(total))
                for total, c, gradient in zip(those, contexts, gradients, strict=True):
                    product = (c * gradient).detach().double().unflatten(2, (len(total), -1))
                    total += product.sum(3).abs().sum((0, 1)).cpu() / len(batches)
        return totals
