"""Data-driven head pruning: the attention heads go that the loss depends on least; one shot.

    score(l, h) = mean over batches of Σ_b Σ_t |⟨c, ∂L/∂c⟩|,  then divided by ‖score(l, ·)‖₂

where c is the context of head h in layer l, at utterance b and frame t, before the output matrix.
The lowest heads of the whole model go; the best `keep` of each layer stay. After Lin et al., ASRU
2025, https://arxiv.org/abs/2211.09949. L is masked prediction of units, see `masked_units`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto.compression.method import Context, cannot_mask
from speech_pareto.compression.methods.head_pruning import HeadPruning
from speech_pareto.compression.parts.masked_units import UnitMethod
from speech_pareto.runtime.bounds import Batches, BatchSeconds

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from speech_pareto.training.hubert_units import Labeller, UnitPredictor


def lowest_of_all(scores: Sequence[Tensor], amount: int, keep: int = 1) -> list[list[int]]:
    """Return for each layer which places go when the model's `amount` lowest heads go.

    `scores` (heads,) of each layer are compared as shares of their layer's norm; the `keep` highest
    of each stay.
    """
    shares = [(layer / (layer.norm() + 1e-20)).tolist() for layer in scores]
    best = [layer.argsort(descending=True, stable=True)[:keep].tolist() for layer in scores]
    spare = sorted(
        (share, index, place)
        for index, layer in enumerate(shares)
        for place, share in enumerate(layer)
        if place not in best[index]
    )
    gone = [[] for _ in shares]
    for _, index, place in spare[:amount]:
        gone[index].append(place)
    return gone


@dataclass(frozen=True, kw_only=True)
class DataDrivenHeadPruning(UnitMethod, HeadPruning):
    """Removes whole heads, physically, by what they give to masked prediction."""

    needs = "audio"
    example = {"units": 5, "unit_seconds": 1.0, "batches": 2, "batch_seconds": 0.4}
    batches: Batches = 16  # over which scores are taken
    batch_seconds: BatchSeconds = 24.0

    def obstacle(self, config: Mapping) -> str | None:
        """Return why not: frames must be maskable."""
        return cannot_mask(config) or super().obstacle(config)

    def lowest(self, model: Module, amount: int, context: Context) -> list[list[int]]:
        """Return for each layer which places go when `amount` heads go in all."""
        from speech_pareto.training.hubert_units import UnitPredictor

        labeller, head = context.units or self.fit_units(context)
        predictor = UnitPredictor(model, head).to(labeller.centres.device)
        batches = context.batches(self.batches, self.batch_seconds)
        return lowest_of_all(
            self.scores(predictor, labeller, batches, context.seed), amount, self.keep
        )

    def scores(
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
