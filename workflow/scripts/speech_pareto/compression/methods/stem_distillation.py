"""Stem distillation: a small stem learns what the layers behind it read; these stay as they are.

    loss = ‖f(x) − t(x)‖₁ / D − λ cos(f(x), t(x)),  averaged over real frames

t(x) (frames, D) is the output of the feature projection, before position convolution and norm, of
the model that reaches this step; f(x) is that of the new stem and its new projection, which alone
are trained. `form` says what the new stem is:

    two_layer  two convolutions with the total stride and the receptive field of the old ones: the
               first has a stride of about the root of the total and a kernel of about twice that
    slim       the old convolutions with the same share of their channels, those of largest filters
    log_mel    80 log-mel bands, two frames stacked: no convolution at all, so the size is given

The ratio picks the number of channels. At HuBERT Base, 0.0335 leaves a two-layer stem of 3 % of the
multiply-accumulates of the old one. That two layers can learn the input of HuBERT, data2vec and
WavLM at this cost is a result of "Universal local feature extractor", MSLD 2026,
https://openreview.net/forum?id=mDfpv2tPgi, of which only the abstract is known here: kernels,
strides and loss are ours, the loss that of DPHuBERT, https://arxiv.org/abs/2305.17651, layer 0.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from speech_pareto.compression import allocation
from speech_pareto.compression.method import Context, SelfSupervised, Sizing
from speech_pareto.compression.methods.channel_pruning import ChannelPruning
from speech_pareto.models import architecture
from speech_pareto.models.architecture import KERNEL, STRIDE, WIDTH
from speech_pareto.models.hidden_states import distance, inputs, mean_over, real_frames
from speech_pareto.runtime.bounds import BatchSeconds, LearningRate, Weight, Within

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def with_convolutions(config: Mapping, channels: int) -> dict:
    """Return `config` with a stem of two layers of `channels`, which makes the same frames."""
    field, total = architecture.reach(config)
    first = min(n for n in range(1, total + 1) if total % n == 0 and n * n >= total)
    second = max(1, (field - 2 * first) // first + 1)
    stem = {
        "conv_dim": [channels, channels],
        "conv_kernel": [field - (second - 1) * first, second],
        "conv_stride": [first, total // first],
        "num_feat_extract_layers": 2,
    }
    return {**config, **stem}


def with_bands(config: Mapping) -> dict:
    """Return `config` with a log-mel stem, which makes the same frames."""
    stem = {
        "conv_dim": [WIDTH],
        "conv_kernel": [architecture.reach(config)[0]],
        "conv_stride": [STRIDE],
        "conv_bias": False,
        "num_feat_extract_layers": 1,
    }
    return {**config, **stem, "compression": architecture.section(config) | {"stem": "log_mel"}}


@dataclass(frozen=True, kw_only=True)
class StemDistillation(SelfSupervised):
    """Puts a smaller stem in the place of the convolutional one and trains it alone."""

    example = {"steps": 2}
    steps: Annotated[int, Within(0, 10**9, unit="steps")] = 60
    learning_rate: LearningRate = 1e-3
    batch_seconds: BatchSeconds = 24.0
    form: Literal["two_layer", "slim", "log_mel"] = "two_layer"
    cosine: Weight = 1.0  # λ

    def obstacle(self, config: Mapping) -> str | None:
        """Return why not, for a stem without convolutions or without a projection behind it."""
        if not architecture.convolutional(config):
            return "the model's stem has no convolutions that a smaller one could stand in for"
        if architecture.section(config).get("projection") == "none":
            return "no projection follows the stem: its channels are the model's width"
        (field, total), hop, window = architecture.reach(config), STRIDE, KERNEL
        if self.form == "log_mel" and (total != hop or field > window):
            theirs = f"the stem's own each {total}, of {field}"
            return f"log-mel frames come each {hop} samples, of {window}, and {theirs}"
        return super().obstacle(config)

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return the stem that brings the ratio nearest, by its channels."""
        if self.form == "slim":
            return ChannelPruning().solve(config, ratio)
        if self.form == "log_mel":
            return Sizing(with_bands(config), {"channels": [WIDTH]})
        target = (1 - ratio) * architecture.remaining(config)
        widest = max(architecture.complete(config)["conv_dim"])

        def excess(channels: int) -> float:
            return architecture.remaining(with_convolutions(config, channels)) - target

        channels = allocation.nearest(range(widest, -(-widest // allocation.LEAST) - 1, -1), excess)
        return Sizing(with_convolutions(config, channels), {"channels": [channels, channels]})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return the student, its stem trained for `steps`."""
        import torch

        from speech_pareto.models.stem import Stem, with_stem

        teacher = copy.deepcopy(Stem(model)).requires_grad_(False).eval()
        if self.form == "slim":
            model = ChannelPruning().compress(model, sizing, context)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(context.seed)
                model = with_stem(model, sizing.config)
        if self.steps:
            stem, home = Stem(model), next(context.teacher.parameters()).device
            loss = partial(self.loss, stem, teacher.to(home))
            context.train(stem, loss, **self.loop_settings())
            model.to(home)  # what was not trained did not move
        return model

    def loss(self, student: Module, teacher: Module, batch: Mapping) -> Tensor:
        """Return the distance of what two stems give for a batch, padding left out."""
        import torch

        with torch.no_grad():
            target = teacher(**inputs(batch))
        errors = distance(
            student(**inputs(batch)).float(), target.float(), self.cosine, log=False
        )  # (B, T)
        return mean_over(errors, real_frames(student, batch))
