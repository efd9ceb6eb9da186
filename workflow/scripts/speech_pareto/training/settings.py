"""Settings of trainings; planning reads this: no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from speech_pareto.runtime import bounds


@dataclass(frozen=True, kw_only=True)
class Optimisation(bounds.Checked):
    """Optimiser, schedule and batches: what every training has, that of a method too."""

    batch_seconds: bounds.BatchSeconds = 24.0  # audio in a batch
    # Utterances in a batch (in a pretraining, windows), in the place of `batch_seconds`.
    batch_utterances: Annotated[int, bounds.Within(1, 100_000, unit="utterances")] | None = None
    optimiser: Literal["adamw", "adam"] = "adamw"
    betas: tuple[bounds.PartOf, ...] = (0.9, 0.98)
    epsilon: Annotated[float, bounds.Within(0, 1)] = 1e-8
    weight_decay: Annotated[float, bounds.Within(0, 10)] = 0.01
    decay_biases: bool = True  # False: weight decay leaves biases alone
    # Norm of the gradient; None: it is not clipped.
    clip: Annotated[float, bounds.Within(0, 10**6, above=True)] | None = 1.0
    warmup: bounds.Share = 0.1  # share of the steps in which the learning rate rises
    # Share of the steps in which it falls at the end; None: all after the warm-up.
    decay: bounds.Share | None = 0.5
    fall: Literal["cosine", "linear", "exponential"] = "cosine"
    first_rate: bounds.Share = 0.0  # share of the learning rate where it begins to rise
    last_rate: bounds.Share = 0.0  # ... and where it ends
    # Which step has the rate of an end. `first`: the schedule counts steps that are done, as in
    # transformers. `last`: also the one at hand, as in s3prl and torchaudio. `neither`: also the
    # one at hand while the rate rises, but not while it falls.
    end_step: Literal["neither", "first", "last"] = "neither"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.betas) != 2:
            raise ValueError("betas must be two numbers")
        self.check_rise("warmup", self.warmup)
        if self.fall == "exponential" and not self.last_rate:
            raise ValueError("an exponential fall needs a last_rate above 0")

    def check_rise(self, name: str, rise: float) -> None:
        """Raise a ValueError if the learning rate has to fall before the `rise` is over."""
        if rise + (self.decay or 0.0) > 1 + 1e-9:
            said = f"{name} {rise:g} and decay {self.decay:g} are more than all steps"
            raise ValueError(f"{said}; `decay: null` falls from the end of the rise on")

    def factor(self, step: int, steps: int) -> float:
        """Return the share of the learning rate that step `step`, from 0, of `steps` has."""
        warmup = round(self.warmup * steps)
        decay = steps - warmup if self.decay is None else round(self.decay * steps)
        done = (step + (self.end_step != "first")) / max(1, warmup)
        left = (steps - step - (self.end_step == "last")) / max(1, decay)
        left = min(1.0, max(0.0, left)) if decay else 1.0
        rise = self.first_rate + (1 - self.first_rate) * min(1.0, done) if warmup else 1.0
        if self.fall == "exponential":
            return rise * self.last_rate ** (1 - left)
        share = left if self.fall == "linear" else (1 - math.cos(math.pi * left)) / 2
        return rise * (self.last_rate + (1 - self.last_rate) * share)


UTTERANCE = 12.3  # seconds; the mean of LibriSpeech's 960 h


def batch_audio(settings: Mapping) -> float:
    """Return about how many seconds of audio a batch has, by the settings of a training."""
    if number := settings.get("batch_utterances"):
        return number * min(UTTERANCE, settings.get("crop_seconds") or UTTERANCE)
    return settings.get("batch_seconds", Optimisation.batch_seconds)


@dataclass(frozen=True, kw_only=True)
class Training(Optimisation):
    """Settings of a run: what each of the `iterations:` of a pretraining holds."""

    steps: Annotated[int, bounds.Within(0, 10**9, unit="steps")]
    learning_rate: bounds.LearningRate
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    # Time between checkpoints; see `pause`.
    checkpoint_seconds: Annotated[float, bounds.Within(0, 10**6, unit="seconds")] = 60.0
    # Pieces that a batch is cut into, so that less is in memory at a time.
    accumulate: Annotated[int, bounds.Within(1, 10_000, unit="pieces")] = 1

    def pause(self, took: float) -> float:
        """Return the seconds from a checkpoint to the next, if writing the last one `took` some.

        Writing may take a twentieth of the time: HuBERT Large has 4 GB, some 20 s of a minute.
        """
        return min(max(self.checkpoint_seconds, 20 * took), 10 * self.checkpoint_seconds)


Seconds = Annotated[float, bounds.Within(0, 100_000, unit="seconds")]


@dataclass(frozen=True, kw_only=True)
class Selection(bounds.Checked):
    """Which recordings a training reads."""

    min_seconds: Seconds = 0.0  # shorter utterances are left out
    max_seconds: Seconds | None = None  # longer ones, too

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_seconds is not None and self.max_seconds < self.min_seconds:
            raise ValueError("max_seconds must be at least min_seconds")


@dataclass(frozen=True, kw_only=True)
class Crops(Selection):
    """Which parts of recordings a training without labels reads."""

    # Longer utterances are cut to this, at a place that each step draws.
    crop_seconds: Annotated[float, bounds.Within(0.1, 100_000, unit="seconds")] | None = None
    crop_to_shortest: bool = False  # all of a batch are cut to its shortest


@dataclass(frozen=True, kw_only=True)
class Unlabelled(Training, Crops):
    """Settings of a training on recordings alone, as methods have it."""


@dataclass(frozen=True, kw_only=True)
class Regularisation(Selection):
    """What keeps a fine-tuning from learning its corpus by heart."""

    freeze_stem: bool = False  # True: the convolutions keep their weights
    dropout: bounds.PartOf = 0.0  # before the first layer and before the head
    mask_share: bounds.PartOf = 0.0  # share of the frames that SpecAugment hides
    mask_span: bounds.MaskSpan = 10  # frames that it hides in a row
    mask_channels: bounds.PartOf = 0.0  # share of the channels that it hides
    # Recordings play up to this much slower or faster.
    speed: Annotated[float, bounds.Within(0, 0.5)] = 0.0
    clean: bounds.Share = 0.0  # last share of the steps, without masks and changes of speed


@dataclass(frozen=True, kw_only=True)
class FineTuning(Training, Regularisation):
    """Settings of a fine-tuning: what `teacher:` and `student:` of a task hold."""

    # Recordings get mean 0 and variance 1 before the model hears them, a stem without convolutions
    # all of them equally loud; None: as before.
    do_normalize: bool | None = None

    def augmented(self, step: int) -> bool:
        """Return whether a step has masks and changes of speed."""
        return step < round((1 - self.clean) * self.steps)


Width = Annotated[int, bounds.Within(1, 100_000)]


@dataclass(frozen=True)
class TinyModel(bounds.Checked):
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
        super().__post_init__()
        for name, parts in (
            ("heads", self.heads),
            ("num_conv_pos_embedding_groups", self.num_conv_pos_embedding_groups),
        ):
            if self.hidden % parts:
                raise ValueError(f"hidden {self.hidden} is no multiple of {name} {parts}")
        stem = [self.conv_dim, self.conv_kernel, self.conv_stride]
        if any(stem) and len({len(part or ()) for part in stem}) > 1:
            raise ValueError("conv_dim, conv_kernel and conv_stride need a number for each layer")
