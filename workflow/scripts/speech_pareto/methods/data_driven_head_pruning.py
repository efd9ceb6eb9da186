"""Data-driven head pruning: the attention heads go that the loss depends on least; one shot.

    score(l, h) = mean over batches of Σ_b Σ_t |⟨c, ∂L/∂c⟩|,  then divided by ‖score(l, ·)‖₂

where c is the context of head h in layer l, at utterance b and frame t, before the output matrix.
The lowest heads of the whole model go; the best head of each layer stays. After Lin et al., ASRU
2025, https://arxiv.org/abs/2211.09949. L is masked prediction: cross-entropy on masked frames
against units, k-means clusters of the teacher's own layer on the same audio. The output layer of
the pretraining is in no backbone's folder; in its place Gaussians of one variance around the means
of the last layer's unmasked frames tell a frame's unit,

    log p(k | h) = (⟨h, μ_k⟩ − ‖μ_k‖² / 2) / σ² + constant

Unlike there, dropout is off while scores are taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speech_pareto import architecture
from speech_pareto.method import Context
from speech_pareto.methods.head_pruning import HeadPruning

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def lowest_of_all(scores: "Sequence[Tensor]", amount: int) -> list[list[int]]:
    """Return for each layer which places go when the model's `amount` lowest heads go.

    `scores` (heads,) of each layer are compared as shares of their layer's norm.
    """
    shares = [(layer / (layer.norm() + 1e-20)).tolist() for layer in scores]
    best = [layer.index(max(layer)) for layer in shares]
    spare = sorted(
        (share, index, place)
        for index, layer in enumerate(shares)
        for place, share in enumerate(layer)
        if place != best[index]
    )
    gone = [[] for _ in shares]
    for _, index, place in spare[:amount]:
        gone[index].append(place)
    return gone


def unit_logits(states: "Tensor", means: "Tensor", variance: "Tensor") -> "Tensor":
    """Return log-probabilities (frames, units), up to a constant, of states (frames, dim)."""
    return (states @ means.T - means.square().sum(1) / 2) / variance


@dataclass(frozen=True, kw_only=True)
class DataDrivenHeadPruning(HeadPruning):
    """Removes whole heads, physically, by what they give to masked prediction."""

    listens = True
    example = {"units": 5, "batches": 2, "batch_seconds": 0.4}
    units: int = 100
    layer: int | None = None  # whose states become units, from 1; None: two thirds up
    mask_share: float = 0.52
    mask_span: int = 8
    batches: int = 16
    batch_seconds: float = 24.0

    def __post_init__(self) -> None:
        if self.batches < 1 or self.units < 2:
            raise ValueError("batches must be 1 or more, units 2 or more")

    def supports(self, config: Mapping) -> str | None:
        """Return why not: frames must be maskable."""
        full = architecture.complete(config)
        if not full["mask_time_prob"] + full["mask_feature_prob"]:
            return "the model has no vector to mask frames with (mask_time_prob is 0)"
        return super().supports(config)

    def lowest(self, model: "Module", amount: int, context: Context) -> list[list[int]]:
        """Return for each layer which places go when `amount` heads go in all."""
        batches = context.batches(self.batches, self.batch_seconds)
        return lowest_of_all(self.scores(model, context.teacher, batches, context.seed), amount)

    def scores(
        self, model: "Module", teacher: "Module", batches: Sequence[Mapping], seed: int
    ) -> "list[Tensor]":
        """Return the score of each head (heads,) of each layer, in float64, not yet divided."""
        import torch

        units = self.units_of(teacher, batches, seed)
        means, variance = self.gaussians(model, batches, units)
        totals = [torch.zeros(len(x.attention.heads)).double() for x in model.encoder.layers]
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # of the masks
            for batch, labels in zip(batches, units, strict=True):
                loss, contexts = self.masked_loss(model, batch, labels, means, variance)
                gradients = torch.autograd.grad(loss, contexts)
                for total, c, gradient in zip(totals, contexts, gradients, strict=True):
                    product = (c * gradient).detach().double().unflatten(2, (len(total), -1))
                    total += product.sum(3).abs().sum((0, 1)).cpu() / len(batches)
        return totals

    def units_of(self, teacher: "Module", batches: Sequence[Mapping], seed: int) -> "list[Tensor]":
        """Return the unit of each real frame (frames,) of each batch."""
        import torch

        from speech_pareto.units import cluster

        layer = self.layer or max(1, round(2 * len(teacher.encoder.layers) / 3))
        features = [states.cpu().numpy() for states in _states(teacher, batches, layer)]
        return [torch.from_numpy(x).long() for x in cluster(features, self.units, seed)]

    def gaussians(
        self, model: "Module", batches: Sequence[Mapping], units: "list[Tensor]"
    ) -> "tuple[Tensor, Tensor]":
        """Return the mean of each unit's last states (units, dim) and their variance ()."""
        import torch

        states = torch.cat(list(_states(model, batches, -1)))  # (frames, dim)
        labels = torch.cat(units).to(states.device)
        counts = labels.bincount(minlength=self.units).clamp_min(1)
        means = states.new_zeros(self.units, states.shape[1]).index_add(0, labels, states)
        means = means / counts[:, None]
        return means, (states - means[labels]).square().mean().clamp_min(1e-6)

    def masked_loss(
        self, model: "Module", batch: Mapping, labels: "Tensor", means: "Tensor", variance: "Tensor"
    ) -> "tuple[Tensor, list[Tensor]]":
        """Return the cross-entropy on masked frames and each layer's contexts (B, T, inner)."""
        import torch

        from speech_pareto.calibration import at_home, called, real_frames
        from speech_pareto.surgery import matrix
        from speech_pareto.training import span_mask

        batch, contexts = at_home(model, batch), []
        frames = real_frames(model, batch)
        mask = span_mask(frames.sum(1), self.mask_share, self.mask_span, frames.shape[1])
        mask[:, 0] |= ~mask.any(1)  # no utterance without a masked frame
        units = frames.long()
        units[frames] = labels.to(units.device)
        handles = [
            matrix(layer, "out_proj").register_forward_pre_hook(
                lambda module, inputs: contexts.append(inputs[0])
            )
            for layer in model.encoder.layers
        ]
        with called(model):
            states = model(**batch, mask_time_indices=mask).last_hidden_state
        for handle in handles:
            handle.remove()
        logits = unit_logits(states[mask], means, variance)
        return torch.nn.functional.cross_entropy(logits, units[mask]), contexts


def _states(model: "Module", batches: Sequence[Mapping], layer: int):
    """Yield the states (frames, dim) after `layer` of the real frames of each batch."""
    import torch

    from speech_pareto.calibration import at_home, real_frames

    for batch in batches:
        batch = at_home(model, batch)
        with torch.no_grad():
            states = model(**batch, output_hidden_states=True).hidden_states
        yield states[layer][real_frames(model, batch)]
