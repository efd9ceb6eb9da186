"""Layer tying: a few blocks, each applied several times in a row, learn to be a whole teacher.

    loss = distillation's of all L layers, applied with n distinct blocks
           + λ d(h_n, sg(h_L)),  d as in `distillation`, averaged over real frames

h_L is the last state of the deepest unfolding, h_n that of the seed, in which each block runs once;
sg passes no gradient. Layer l of L, from 0, is block ⌊l n / L⌋. Blocks begin as those layers of the
teacher that `distillation` keeps, thinner if whole blocks miss the ratio. Parameters count once,
multiply-accumulates each time. Li et al., Interspeech 2025, https://arxiv.org/abs/2505.21237,
train a seed and many unfoldings of it on a task's loss, with the divergence of the outputs of the
deepest and the seed. Ours, where only their abstract is known: the order of the blocks, two
unfoldings, and hidden states in the place of a task's outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from speech_pareto.compression.method import Sizing
from speech_pareto.compression.methods.distillation import Distillation
from speech_pareto.models import architecture
from speech_pareto.models.hidden_states import distance, mean_over, real_frames, states
from speech_pareto.runtime.bounds import Weight

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@contextmanager
def folded(model: Module) -> Iterator[None]:
    """Let each distinct layer of `model` run once for a while."""
    from torch.nn import ModuleList

    whole = model.encoder.layers
    model.encoder.layers = ModuleList(dict.fromkeys(whole))
    try:
        yield
    finally:
        model.encoder.layers = whole


@dataclass(frozen=True, kw_only=True)
class LayerTying(Distillation):
    """Trains a student as deep as the teacher, of fewer distinct layers."""

    self_distillation: Weight = 1.0  # λ

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return the blocks as `distillation` does its layers, and the block of each layer."""
        sizing, depth = super().solve(config, ratio), len(architecture.layers_of(config))
        seed = architecture.layers_of(sizing.config)
        blocks = [layer * len(seed) // depth for layer in range(depth)]
        firsts = [blocks.index(block) for block in blocks]
        after = [
            replace(seed[block], shared=None if first == index else first)
            for index, (block, first) in enumerate(zip(blocks, firsts, strict=True))
        ]
        knobs = sizing.knobs | {"blocks": blocks}
        return Sizing(architecture.with_layers(config, after), knobs)

    def prepare(self, model: Module, knobs: Mapping) -> None:
        """Cut the blocks out of `model` and unfold them."""
        from speech_pareto.models.surgery import keep_layers

        super().prepare(model, knobs)
        keep_layers(model, knobs["blocks"])

    def loss(self, student: Module, teacher: Module, batch: Mapping) -> Tensor:
        """Return the loss of the deepest unfolding, and how far the seed is from it."""
        deep = states(student, batch)
        with folded(student):
            last = states(student, batch)[-1]
        errors = distance(last.float(), deep[-1].detach().float(), self.cosine)  # (B, T)
        own = mean_over(errors, real_frames(teacher, batch))
        return self.compare(deep, teacher, batch) + self.self_distillation * own
