"""Settings of trainings; planning reads this: no torch."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from speech_pareto.runtime import bounds


@dataclass(frozen=True)
class Training:
    """Settings of a run: what `teacher:`, `student:` and `pretrain:` of a config hold."""

    steps: Annotated[int, bounds.Within(0, 10**9, unit="steps")]
    learning_rate: bounds.LearningRate
    batch_seconds: bounds.BatchSeconds = 24.0  # audio in a batch
    warmup: bounds.Share = 0.1  # share of the steps in which the learning rate rises
    decay: bounds.Share = 0.5  # share of the steps in which it falls to zero at the end
    weight_decay: Annotated[float, bounds.Within(0, 10)] = 0.01
    clip: Annotated[float, bounds.Within(0, 10**6, above=True)] = 1.0  # norm of the gradient
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    # Time between checkpoints.
    checkpoint_seconds: Annotated[float, bounds.Within(0, 10**6, unit="seconds")] = 60.0
    # Pieces that a batch is cut into, so that less is in memory at a time.
    accumulate: Annotated[int, bounds.Within(1, 10_000, unit="pieces")] = 1

    def __post_init__(self) -> None:
        bounds.check(self)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: warm-up, plateau, cosine decay."""
        rise = (step + 1) / max(1, round(self.warmup * self.steps))
        left = (self.steps - step) / max(1, round(self.decay * self.steps))
        return self.learning_rate * min(1.0, rise) * (1 - math.cos(math.pi * min(1.0, left))) / 2


@dataclass(frozen=True)
class FineTuning(Training):
    """Settings of a fine-tuning: the loop's, and what keeps a corpus from being learnt by heart."""

    dropout: bounds.PartOf = 0.0  # before the first layer and before the head
    mask_share: bounds.PartOf = 0.0  # share of the frames that SpecAugment hides
    mask_span: bounds.MaskSpan = 10  # frames that it hides in a row
    mask_channels: bounds.PartOf = 0.0  # share of the channels that it hides
    # Recordings play up to this much slower or faster.
    speed: Annotated[float, bounds.Within(0, 0.5)] = 0.0
    clean: bounds.Share = 0.0  # last share of the steps, without masks and changes of speed

    def augmented(self, step: int) -> bool:
        """Return whether a step has masks and changes of speed."""
        return step < round((1 - self.clean) * self.steps)


Width = Annotated[int, bounds.Within(1, 100_000)]


@dataclass(frozen=True)
class TinyModel:
    """The model that a pretraining makes: sizes, and keys of its transformers config.

    None leaves a key at the value of `architecture.tiny`, else of transformers.  There is no
    `layerdrop`: no training here drops layers.
    """

    hidden: Width = 192
    layers: Annotated[int, bounds.Within(1, 1000)] = 6
    heads: Annotated[int, bounds.Within(1, 1000)] = 6
    ffn: Width = 768
    pos_conv: Annotated[int, bounds.Within(1, 10_000, unit="frames")] = 32
    model_type: Literal["hubert", "wav2vec2", "wavlm", "data2vec-audio"] = "hubert"
    num_conv_pos_embedding_groups: Width = 4
    hidden_act: Literal["gelu", "relu", "silu"] | None = None
    hidden_dropout: bounds.PartOf | None = None
    activation_dropout: bounds.PartOf | None = None
    attention_dropout: bounds.PartOf | None = None
    feat_proj_dropout: bounds.PartOf | None = None
    final_dropout: bounds.PartOf | None = None
    initializer_range: Annotated[float, bounds.Within(0, 10, above=True)] | None = None
    layer_norm_eps: Annotated[float, bounds.Within(0, 1, above=True)] | None = None
    do_stable_layer_norm: bool | None = None
    feat_proj_layer_norm: bool | None = None
    feat_extract_norm: Literal["group", "layer"] | None = None
    conv_dim: tuple[Width, ...] | None = None
    conv_kernel: tuple[Width, ...] | None = None
    conv_stride: tuple[Width, ...] | None = None
    conv_bias: bool | None = None
    conv_pos_batch_norm: bool | None = None
    conv_pos_kernel_size: Width | None = None
    num_buckets: Width | None = None
    max_bucket_distance: Width | None = None
    mask_time_prob: bounds.Share | None = None

    def __post_init__(self) -> None:
        bounds.check(self)
        for name, parts in (
            ("heads", self.heads),
            ("num_conv_pos_embedding_groups", self.num_conv_pos_embedding_groups),
        ):
            if self.hidden % parts:
                raise ValueError(f"hidden {self.hidden} is no multiple of {name} {parts}")
        stem = [self.conv_dim, self.conv_kernel, self.conv_stride]
        if any(stem) and len({len(part or ()) for part in stem}) > 1:
            raise ValueError("conv_dim, conv_kernel and conv_stride need a number for each layer")
