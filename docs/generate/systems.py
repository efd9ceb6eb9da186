"""Published models: what they are made of, and the sizes and MACs that were published of them.

Each entry of `SYSTEMS` becomes rows of docs/sizes.md; a test compares all with what is built.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from speech_pareto.compression.methods.fithubert import FitHuBERT
from speech_pareto.compression.parts.nested import Subnet
from speech_pareto.compression.recipes import make
from speech_pareto.models.architecture import KERNEL, STRIDE, matrix_parameters
from speech_pareto.models.teachers import TEACHERS


@dataclass(frozen=True, kw_only=True)
class System:
    """A published model; numbers stand as they were printed: "94.70 M", "1,669,156,022,848".

    `config` is the backbone's, as in config.json. `heads` are parameters beside it by name:
    pretraining or projection heads, which some publications count and others do not.
    """

    name: str
    config: Mapping[str, Any]
    heads: Mapping[str, int] = field(default_factory=dict)
    backbone: str | None = None  # published parameters without heads
    whole: str | None = None  # ... and with them
    superb_macs: str | None = None  # published MACs over the clips of SUPERB's profiling tool
    macs_per_second: str | None = None  # ... and per second of audio
    source: str  # a key of `SOURCES`
    note: str = ""  # why the built model differs from the published number, where it does


# Lengths in samples of the recordings over which SUPERB adds MACs up: 32 of LibriSpeech's
# test-clean, listed in testing/s3prl_profiling_test.py of the profiling tool.
SUPERB_CLIPS = (
    *(20560, 34560, 38480, 42560, 45600, 48720, 52000, 55120),
    *(59120, 62720, 66400, 71200, 75200, 78640, 82800, 87520),
    *(92720, 98560, 104400, 111120, 118480, 125040, 132720, 142640),
    *(154000, 166720, 180880, 197920, 217920, 239280, 268160, 326000),
)
PROFILER, LEADERBOARD, FIGURE = "SUPERB tool", "SUPERB leaderboard", "Lin et al."
DISTIL, FIT, ARM, STAR = "DistilHuBERT", "FitHuBERT", "ARMHuBERT", "STaRHuBERT"
DP = "DPHuBERT"
SOURCES = {
    PROFILER: "README of SUPERB's profiling tool, github.com/B06901052/DeepSpeed, superb-challenge",
    LEADERBOARD: "superbbenchmark.org/leaderboard, as of 2023",
    FIGURE: "Lin et al., ASRU 2025, arXiv 2211.09949, figure of trade-offs, read to ±0.02 G",
    DISTIL: "Chang et al., ICASSP 2022, arXiv 2110.01900",
    FIT: "Lee et al., Interspeech 2022, arXiv 2207.00555",
    ARM: "Jang et al., Interspeech 2023, arXiv 2305.11685",
    DP: "Peng et al., Interspeech 2023, arXiv 2305.17651",
    STAR: "Jang et al., ICASSP 2024, arXiv 2312.09040",
}
HUBERT = {"model_type": "hubert", "attention_dropout": 0.1}
UNMASKED = {**HUBERT, "mask_time_prob": 0.0}  # students without a mask vector


def linear(inputs: int, outputs: int) -> int:
    """Return the parameters of a linear layer with biases."""
    return matrix_parameters((outputs, inputs))


def unit_heads(hidden: int, width: int) -> dict[str, int]:
    """Return what HuBERT predicts units with: 500 clusters and fairseq's four special symbols."""
    return {"projection": linear(hidden, width), "504 unit embeddings": 504 * width}


def mel_hubert(layers: int, whole: str, macs_per_second: str) -> System:
    """Return the first layers of MelHuBERT at 20 ms: two frames of 40 bands, no convolutions."""
    stem = {"conv_dim": [80], "conv_kernel": [KERNEL], "conv_stride": [STRIDE]}
    plain = {"feat_proj_layer_norm": False, "mask_time_prob": 0.0}  # it masks frames with zeros
    return System(
        name=f"MelHuBERT, {layers} layers",
        config={
            "model_type": "hubert",
            "num_hidden_layers": layers,
            "attention_dropout": 0.1,
            "compression": {"stem": "kaldi_fbank"},
            **stem,
            **plain,
        },
        heads={"projection to 512 units": linear(768, 512)},
        whole=whole,
        macs_per_second=macs_per_second,
        source=FIGURE,
        note="A figure, read to ±0.02 G; its features are counted, 0.002 G per second.",
    )


def student(
    name: str, step: dict, width: int, ffn: int, source: str, whole: str | None = None, **others
) -> System:
    """Return a thin student of HuBERT Base, in the shape that a method gives it."""
    method: Any = make(step)
    config = method.shape(HUBERT, width, ffn)
    count = method.projection_parameters(HUBERT, config)
    heads = {"projections of all layers": count} if count else {}
    return System(name=name, config=config, heads=heads, source=source, whole=whole, **others)


def star_hubert(name: str, width: int, ffn: int, backbone: str) -> System:
    """Return a STaRHuBERT."""
    note = "The shape is one that has the published size."
    return student(name, {"starhubert": {}}, width, ffn, STAR, backbone=backbone, note=note)


SYSTEMS = (
    System(
        name="HuBERT Base",
        config=HUBERT,
        heads=unit_heads(768, 256),
        whole="94,697,600",
        superb_macs="1,669,156,022,848",
        source=PROFILER,
    ),
    System(
        name="HuBERT Large",
        config=TEACHERS["hubert-large"].config,
        heads=unit_heads(1024, 768),
        whole="316.6 M",
        superb_macs="4324 G",
        source=LEADERBOARD,
    ),
    System(
        name="wav2vec 2.0 Base",
        config={"model_type": "wav2vec2", "attention_dropout": 0.1},
        heads={
            "codebooks (2 × 320 of 128)": 2 * 320 * 128,
            "their logits": linear(512, 640),
            "projection of codes": linear(256, 256),
            "projection of frames": linear(768, 256),
        },
        whole="95.04 M",
        superb_macs="1669 G",
        source=LEADERBOARD,
    ),
    System(
        name="WavLM Base+",
        config={"model_type": "wavlm", "attention_dropout": 0.1},
        heads=unit_heads(768, 256),
        whole="94.70 M",
        superb_macs="1670 G",
        source=LEADERBOARD,
        note="The release holds no heads; with those of HuBERT 0.01 M remain unexplained.",
    ),
    mel_hubert(12, "90.2 M", "4.94 G"),
    mel_hubert(6, "47.7 M", "2.58 G"),
    mel_hubert(2, "19.35 M", "1.03 G"),
    System(
        name="DistilHuBERT",
        config=UNMASKED | {"num_hidden_layers": 2, "feat_proj_layer_norm": False},
        heads={"three heads of two layers": 3 * 2 * linear(768, 768)},
        backbone="23.49 M",
        source=DISTIL,
    ),
    System(
        name="FitHuBERT",
        config=FitHuBERT().shape(UNMASKED, 480, 480),
        heads={"last projection": linear(480, 768), "its upsampling": 2 * 480 * 480 + 480},
        whole="22.49 M",
        source=FIT,
        note="Of its heads only the last counts; with all it has 31,629,632 parameters.",
    ),
    student("MaskHuBERT", {"masking_distillation": {"reuse": "none"}}, 480, 640, ARM, "26.64 M"),
    student("ARMHuBERT", {"masking_distillation": {}}, 480, 864, ARM, "26.45 M"),
    student("ARMHuBERT-S", {"masking_distillation": {}}, 432, 816, ARM, "22.39 M"),
    star_hubert("STaRHuBERT", 432, 976, "22.31 M"),
    star_hubert("STaRHuBERT-L", 480, 1024, "26.63 M"),
    System(
        name="DPHuBERT",
        config=make({"dphubert": {"stem": True}}).solve(HUBERT, 0.75).config,
        backbone="23,585,946",
        superb_macs="654.1 G",
        source=DP,
        note="The asked ratio, 0.75, with the same share of channels, heads and rows from every "
        "layer; which ones theirs lost is not published. How many channels a plan takes was "
        "chosen to come near its MACs. Its weights of the last channels, about 440, are not "
        "here; the mask vector, 768, is.",
    ),
    System(
        name="LightHuBERT Small",
        config=Subnet(384, range(12), [6] * 12, [1536] * 12).shape(HUBERT),
        heads={"prediction, without biases": 384 * 768},
        backbone="27.0 M",
        superb_macs="860.7 G",
        source=LEADERBOARD,
        note="Its code counts in whole millions: 27. It pads to an even number of frames, which "
        "adds 0.4 G here; 1.5 G remain unexplained.",
    ),
)
