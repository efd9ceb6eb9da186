"""Early exit: an utterance leaves behind the first layer whose branch is sure of its units.

    L = Σ_k −1/T Σ_t ln softmax(W_k h_kt + b_k)[y_t],   E_k = −1/T Σ_t Σ_c p_ktc ln p_ktc ≤ τ

Branch k, one linear map, learns from the states h_k behind layer k what the whole teacher makes of
frame t, while the backbone is frozen; an utterance leaves behind the first layer at which the mean
entropy E_k is at most `threshold` τ, the knob of speed against errors. Lin et al. (DAISY),
Interspeech 2024, https://arxiv.org/abs/2406.05464. Nothing is removed; what an utterance costs is
known when it was heard, so that profiles measure it on the task's test split.

Ours, where what is published does not say, or ties it to HuBERT's own pretraining: y_t is the most
likely of `units` of the teacher, by a map from its last layer to k-means units, since published
backbones come without theirs. Each utterance decides for itself, where their code decides for a
batch; the layers that it does not run repeat its last state, for a task's head and for a weighted
sum of layers. Recovery trains with exits as inference takes them, the branches as they are. Their
code asks at inference only the branches next to the mean exit in training; here all are asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

from speech_pareto.compression.method import Context, SelfSupervised, Sizing
from speech_pareto.compression.parts.masked_units import Units
from speech_pareto.models import architecture
from speech_pareto.models.hidden_states import mean_over, real_frames, states
from speech_pareto.runtime.bounds import BatchSeconds, LearningRate, Steps, Within

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True, kw_only=True)
class EarlyExit(Units, SelfSupervised):
    """Adds branches, at which an utterance can leave, and trains them."""

    removes = False
    dynamic = True
    example = {"steps": 2, "units": 4, "unit_seconds": 1.0, "threshold": 0.1}
    steps: Steps = 200
    learning_rate: LearningRate = 0.01
    batch_seconds: BatchSeconds = 24.0
    threshold: Annotated[float, Within(0, 20, unit="nats")] = 0.7  # τ
    first: Annotated[int, Within(1, 1000, unit="layers")] = 1  # that each utterance runs at least

    def obstacle(self, config: Mapping) -> str | None:
        section, depth = architecture.section(config), len(architecture.layers_of(config))
        if self.first >= depth:
            return f"first is {self.first}, and behind the last of {depth} layers all leave"
        if architecture.reuses(config):
            return (
                "a layer that reuses the attention map of the one before needs all its utterances"
            )
        if "time_reduction" in section:
            return "the last layer of the methods before it brings back the frames"
        return super().obstacle(config)

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return the config of the model with exits, whatever `ratio` is."""
        exits = {"threshold": float(self.threshold), "units": self.units, "first": self.first}
        section = architecture.section(config) | {"early_exit": exits}
        return Sizing({**config, "compression": section}, {})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return `model` with trained branches; its weights stay as they are."""
        import torch
        from torch.nn import Linear, ModuleList

        from speech_pareto.models.layers.exit_branches import add_exits

        _, head = self.fit_units(context)
        depth, width = len(model.encoder.layers), model.config.hidden_size
        units = head.out_features  # fewer than were asked for, if the audio has no more
        branches = ModuleList(Linear(width, units) for _ in range(self.first, depth))
        branches.config, branches.preprocessor = model.config, model.preprocessor
        for parameter in branches.parameters():
            torch.nn.init.zeros_(parameter)  # a convex problem: it may begin anywhere
        frozen = model.to(head.weight.device).eval()
        loss = partial(self.loss, branches, frozen, context.teacher, head)
        context.train(branches, loss, **self.loop_settings())
        exits = architecture.section(sizing.config)["early_exit"] | {"units": units}
        model.config.compression = architecture.section(sizing.config) | {"early_exit": exits}
        add_exits(model, **exits)
        weights = [torch.stack([getattr(x, name) for x in branches]) for name in ("weight", "bias")]
        for buffer, own in zip(model.encoder.early_exit.buffers(), weights, strict=True):
            buffer.copy_(own.detach())
        return model

    def loss(
        self, branches: Module, model: Module, teacher: Module, head: Module, batch: Mapping
    ) -> Tensor:
        """Return the sum over branches of the mean cross-entropy of all real frames."""
        import torch
        from torch.nn import functional

        with torch.no_grad():
            found = states(model, batch)
            wanted = head(states(teacher, batch)[-1].float()).argmax(-1)  # y, (B, T)
        real, total = real_frames(model, batch), 0
        for branch, hidden in zip(branches, found[self.first : -1], strict=True):
            logits = branch(hidden.float()).float().transpose(1, 2)  # (B, units, T)
            errors = functional.cross_entropy(logits, wanted, reduction="none")  # (B, T)
            total = total + mean_over(errors, real)
        return total
