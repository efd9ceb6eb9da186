"""Thin students: as deep as the teacher, narrower, random at first, trained on its hidden states.

What the methods of this kind share; planning needs no torch. The ratio picks the width D, of which
heads and groups of the position convolution want a multiple, so that the feed-forward layers come
near 4/3 D as in MaskHuBERT; their rows then make up the ratio. Settings can fix either. The
convolutional stem is slimmed as published; any other, and the log-mel one, stays as the teacher's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar

from speech_pareto.compression.method import Context, SelfSupervised, Sizing
from speech_pareto.compression.parts.gradients import damped
from speech_pareto.models import architecture
from speech_pareto.runtime.bounds import BatchSeconds, LearningRate, Share, Within

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

# The stem of FitHuBERT (arXiv 2207.00555) and ARMHuBERT (arXiv 2305.11685): same frames, thinner.
SLIM = {"conv_kernel": [10, 1, 3, 3, 3, 3, 1, 2, 2], "conv_stride": [5, 1, 2, 2, 2, 2, 1, 2, 2]}
EXPANSION = 4 / 3  # rows of the feed-forward layers per width


def thin(config: Mapping, width: int, ffn: int, stem_width: int | None = None) -> dict:
    """Return the config of a student of `width` and `ffn` rows, all else as in `config`.

    The slim stem ends in `stem_width` channels; if these are `width`, the default, no matrix
    stands between stem and encoder. WavLM's position bias goes: published students have none.
    """
    full, stem = architecture.complete(config), {}
    section = {k: v for k, v in architecture.section(config).items() if k in architecture.FRONT}
    convolutions = ("conv_dim", "conv_kernel", "conv_stride")
    standard = all(tuple(full[key]) == architecture.DEFAULTS[key] for key in convolutions)
    if standard and not section:
        last = stem_width or width
        stem = SLIM | {"conv_dim": [128, *[256] * 5, *[last] * 3], "num_feat_extract_layers": 9}
        section = {"projection": "none"} if last == width else {}
    shape = {
        "model_type": "hubert" if full["model_type"] == "wavlm" else full["model_type"],
        "hidden_size": width,
        "intermediate_size": ffn,
        "layerdrop": 0.0,  # each layer has something to learn in each step
        "compression": section,
    }
    return {k: v for k, v in {**config, **shape, **stem}.items() if k != "compression" or v}


def with_reuse(config: Mapping, reuse: str) -> dict:
    """Return `config` with every second layer reusing the map of the one before."""
    layers = architecture.layers_of(config)
    layers[1::2] = [replace(layer, reuse=reuse) for layer in layers[1::2]]
    return architecture.with_layers(config, layers)


def rows_for(shape: Callable[[int], dict], target: float) -> int:
    """Return how many feed-forward rows bring `shape(rows)` nearest to `target` parameters."""
    least, more = (architecture.remaining(shape(rows)) for rows in (1, 2))
    return max(1, 1 + round((target - least) / (more - least)))


@dataclass(frozen=True, kw_only=True)
class ThinStudent(SelfSupervised):
    """Base of the methods that train a thin student; they define `loss` and may change `shape`."""

    hints: ClassVar[bool] = False  # True: each layer is trained through a projection of its own
    example = {"steps": 2}
    steps: Annotated[int, Within(0, 10**9, unit="steps")] = 60
    learning_rate: LearningRate = 5e-4
    batch_seconds: BatchSeconds = 48.0
    width: Annotated[int, Within(1, 100_000)] | None = None  # None: as the ratio asks
    # Rows of each feed-forward layer; None: as the ratio asks.
    ffn: Annotated[int, Within(1, 1_000_000)] | None = None
    stem_gradient: Share = 1.0  # factor of the gradients that reach the stem

    def obstacle(self, config: Mapping) -> str | None:
        """Return why not, for a width that the teacher's heads and groups do not divide."""
        step = _step(config)
        if self.width and self.width % step:
            return f"width {self.width} is not a multiple of {step}, for its heads and groups"
        return super().obstacle(config)

    def shape(self, config: Mapping, width: int, ffn: int) -> dict:
        """Return the student's config."""
        return thin(config, width, ffn)

    def loss(self, student: Module, teacher: Module, batch: Mapping) -> Tensor:
        """Return the loss of a batch, a scalar."""
        raise NotImplementedError

    def scaled(self, student: Module) -> AbstractContextManager:
        """Return a block in which gradients are scaled while the student trains."""
        return damped(student.feature_extractor, self.stem_gradient)

    def projections(self, config: Mapping) -> int:
        """Return how many projections a student with this config is trained with."""
        return len(architecture.layers_of(config)) if self.hints else 0

    def projection_parameters(self, teacher: Mapping, student: Mapping) -> int:
        """Return the parameters of all projections, which no folder and no ratio counts."""
        widths = [architecture.complete(config)["hidden_size"] for config in (teacher, student)]
        return self.projections(student) * architecture.matrix_parameters((widths[0], widths[1]))

    def solve(self, config: Mapping, ratio: float) -> Sizing:
        """Return the student's width and feed-forward rows."""
        target = (1 - ratio) * architecture.remaining(config)
        width = self.width or self._width(config, target)
        shape = partial(self.shape, config, width)
        ffn = self.ffn or rows_for(shape, target)
        return Sizing(shape(ffn), {"width": width, "ffn": ffn})

    def compress(self, model: Module, sizing: Sizing, context: Context) -> Module:
        """Return the student, trained for `steps`."""
        import torch

        from speech_pareto.models.backbone import new

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            student = new(sizing.config)
        student.preprocessor = model.preprocessor  # its input is the teacher's
        if self.steps:
            add_projections(student, context.teacher, self.projections(sizing.config), context.seed)
            loss = partial(self.loss, student, context.teacher)
            with self.scaled(student):
                context.train(student, loss, **self.loop_settings())
            fold(student)
        return student

    def _width(self, config: Mapping, target: float) -> int:
        """Return the width, from a quarter of the teacher's up, that suits the target best."""
        step, full = _step(config), architecture.complete(config)["hidden_size"]

        def miss(width: int) -> float:
            if self.ffn:
                return abs(architecture.remaining(self.shape(config, width, self.ffn)) - target)
            return abs(math.log(rows_for(partial(thin, config, width), target) / width / EXPANSION))

        return min(range(-(-full // 4 // step) * step, full + 1, step), key=miss)


def _step(config: Mapping) -> int:
    """Return what a width must be a multiple of."""
    config = architecture.complete(config)
    return math.lcm(config["num_attention_heads"], config["num_conv_pos_embedding_groups"])


def add_projections(student: Module, teacher: Module, number: int, seed: int) -> None:
    """Give `student` linear projections to the teacher's width, which are trained, not saved.

    If its layers run at a lower frame rate, all but the last one bring this back before.
    """
    import torch
    from torch.nn import Linear, ModuleList, Sequential

    sizes = student.config.hidden_size, teacher.config.hidden_size
    factor = architecture.section(student.config.to_dict()).get("time_reduction")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student.projections = ModuleList(Linear(*sizes) for _ in range(number))
        if factor:
            from speech_pareto.models.layers.time_reduction import Upsample

            for index, linear in enumerate(student.projections[:-1]):
                student.projections[index] = Sequential(Upsample(sizes[0], factor), linear)


def fold(student: Module) -> None:
    """Take the projections from a trained student; the last one stays as its `readout`.

    That is the map (weight, bias) from the last layer to the teacher's last layer. A task head of
    the teacher times this map is a head of the student, without any further parameter.
    """
    if len(student.projections):
        last = student.projections[-1]
        student.readout = tuple(x.detach().cpu().clone() for x in (last.weight, last.bias))
    del student.projections
