"""The parts of models whose times a table of latencies holds: real modules alone, on noise."""

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from speech_pareto.models import architecture
from speech_pareto.models.architecture import DATA2VEC, KERNEL, SAMPLE_RATE, STRIDE
from speech_pareto.models.backbone import new
from speech_pareto.models.latency import Piece
from speech_pareto.models.layers.pooled_frames import FramePooling
from speech_pareto.models.layers.reused_attention import Maps, ReusedAttention
from speech_pareto.models.layers.time_reduction import TimeReduction

CHANNELS = (16, 64, 192, 384, 768, 3072)
WAVE, STEM = [0], [16, 64, 256, 512]  # channels of convolutions
HIDDEN = (64, 192, 384, 768, 1024)
FRAMES = (12, 49, 199, 499)  # up to 10 s
HEADS, DIMS = (1, 4, 12), (8, 16, 64)
# (inputs, 0 for the wave; kernel, stride, norms, the fewest and the most samples to a frame)
CONVOLUTIONS = (
    (WAVE, 10, 5, ("group", "layer"), (5, 5)),
    (STEM, 3, 2, ("", "layer"), (10, 80)),
    (STEM, 2, 2, ("", "layer"), (160, 320)),
    (STEM, 1, 1, ("",), (5, 80)),  # of slim stems
    (WAVE, 40, 20, ("group", "layer"), (20, 20)),  # of stems of two layers
    (STEM, 19, 16, ("", "layer"), (320, 320)),
)
LENGTHS = (0.5, 10.0)  # the shortest and the longest audio in seconds
POSITIONS = (("hubert", 128, 16), ("hubert", 32, 4), (DATA2VEC, 19, 16))
FACTORS = (2,)  # of time reductions

Measurement = tuple[Piece, Callable[[], Callable[[], Any]]]


def piece(part: str, **sizes: int) -> Piece:
    """Return a part of these sizes."""
    return Piece(part, tuple(sizes.items()))


def small(**settings) -> nn.Module:
    """Return a model of one layer, small where nothing else is said."""
    least = {"layers": 1, "hidden": 16, "heads": 1, "ffn": 16, "pos_conv": 1}
    return new(architecture.tiny(**{**least, **settings}))


def grid(width: int, seconds: float) -> Iterator[Measurement]:
    """Yield each part that is measured, with what makes it; calling that is a pass of the part.

    `width` is the most channels or rows, `seconds` the longest audio, 1 s
    at least.
    """
    frames = FRAMES[: max(2, sum(count <= 50 * seconds for count in FRAMES))]
    widths = [size for size in CHANNELS if size <= width]
    for outputs in widths:
        for count in frames:
            yield piece("gelu", outputs=outputs, frames=count), partial(gelu, outputs, count)
            yield piece("norm", outputs=outputs, frames=count), partial(norm, outputs, count)
            for inputs in widths:
                sizes = {"inputs": inputs, "outputs": outputs, "frames": count}
                yield piece("linear", **sizes), partial(linear, **sizes)
    for count in frames:
        for stem in architecture.BANDS:
            yield piece(stem, frames=count), partial(bands, stem, count)
        for heads in HEADS:
            yield piece("position_bias", heads=heads, frames=count), partial(bias, heads, count)
            for dims in DIMS:
                sizes = {"heads": heads, "dims": dims, "frames": count}
                for part, kind in (("map", "hubert"), ("gated_map", "wavlm")):
                    yield piece(part, **sizes), partial(attention, kind, **sizes)
                for part, reuse in (("reused_map", "map"), ("reused_map_softmax", "softmax")):
                    yield piece(part, **sizes), partial(reused, reuse, **sizes)
        for hidden in (size for size in HIDDEN if size <= width):
            for kind, taps, groups in POSITIONS:
                part = "position_norm" if kind == DATA2VEC else "position"
                sizes = {"outputs": hidden, "kernel": taps, "groups": groups, "frames": count}
                yield piece(part, **sizes), partial(position, kind, hidden, taps, groups, count)
            for factor in FACTORS:
                sizes = {"outputs": hidden, "stride": factor, "frames": count}
                yield piece("reduction", **sizes), partial(fewer, True, **sizes)
                yield piece("reduced_layer", **sizes), partial(fewer, False, **sizes)
            sizes = {"outputs": hidden, "frames": count}
            yield piece("pooling", **sizes), partial(fewer, True, **sizes)
            yield piece("pooled_layer", **sizes), partial(fewer, False, **sizes)
    for entering, kernel, stride, norms, periods in CONVOLUTIONS:
        least = LENGTHS[0] * SAMPLE_RATE / periods[1]
        most = max(2 * LENGTHS[0], seconds) * SAMPLE_RATE / periods[0]
        for count in map(round, (least, (least * most) ** 0.5, most)):
            for inputs in (size for size in entering if size <= width):
                for outputs in (size for size in STEM if size <= width):
                    for own in norms:
                        part = f"convolution_{own}_norm" if own else "convolution"
                        sizes = {"inputs": inputs} if inputs else {}
                        sizes |= {"outputs": outputs, "kernel": kernel, "stride": stride}
                        made = partial(convolution, own, **sizes, frames=count)
                        yield piece(part, **sizes, frames=count), made


def linear(inputs: int, outputs: int, frames: int) -> Callable[[], Any]:
    """Return a pass of a matrix."""
    module = nn.utils.skip_init(nn.Linear, inputs, outputs)
    for parameter in module.parameters():
        nn.init.constant_(parameter, 0.02)
    return partial(module, torch.randn(1, frames, inputs))


def gelu(outputs: int, frames: int) -> Callable[[], Any]:
    """Return a pass of the activation of a feed-forward part."""
    active = small().encoder.layers[0].feed_forward.intermediate_act_fn
    return partial(active, torch.randn(1, frames, outputs))


def norm(outputs: int, frames: int) -> Callable[[], Any]:
    """Return a pass of a norm, after a residual connection."""
    module, (one, other) = nn.LayerNorm(outputs), torch.randn(2, 1, frames, outputs)
    return lambda: module(one + other)


def bands(stem: str, frames: int) -> Callable[[], Any]:
    """Return a pass of a stem without convolutions."""
    width = architecture.BANDS[stem] * architecture.STACK
    model = small(conv_dim=[width], conv_kernel=[KERNEL], conv_stride=[STRIDE],
                  compression={"stem": stem})  # fmt: skip
    return partial(model.feature_extractor, torch.randn(1, KERNEL + (frames - 1) * STRIDE))


def attention(kind: str, heads: int, dims: int, frames: int) -> Callable[[], Any]:
    """Return a pass of attention without its matrices."""
    model = small(hidden=heads * dims, heads=heads, model_type=kind,
                  num_conv_pos_embedding_groups=1)  # fmt: skip
    module, hidden = model.encoder.layers[0].attention, torch.randn(1, frames, heads * dims)
    for name in architecture.ATTENTION:
        setattr(module, name, nn.Identity())
    if kind != "wavlm":
        return partial(module, hidden)
    return partial(module, hidden, position_bias=torch.randn(heads, frames, frames))


def bias(heads: int, frames: int) -> Callable[[], Any]:
    """Return a pass of WavLM's bias of relative positions."""
    model = small(hidden=8 * heads, heads=heads, model_type="wavlm",
                  num_conv_pos_embedding_groups=1)  # fmt: skip
    return partial(model.encoder.layers[0].attention.compute_bias, frames, frames)


def reused(reuse: str, heads: int, dims: int, frames: int) -> Callable[[], Any]:
    """Return a pass of attention with the map of another layer, without its matrices."""
    plain: Any = SimpleNamespace(v_proj=nn.Identity(), out_proj=nn.Identity(), head_dim=dims,
                            heads=tuple(range(heads)), num_heads=heads)  # fmt: skip
    maps = Maps()
    maps.last, maps.heads = torch.randn(1, heads, frames, frames).softmax(-1), plain.heads
    module: Any = ReusedAttention(plain, maps, reuse)
    return partial(module, torch.randn(1, frames, heads * dims))


def position(kind: str, hidden: int, taps: int, groups: int, frames: int) -> Callable[[], Any]:
    """Return a pass of a position convolution, of data2vec one of several with its norm."""
    own = {"num_conv_pos_embedding_groups": groups}
    if kind == DATA2VEC:
        model = small(hidden=hidden, model_type=kind, conv_pos_kernel_size=taps, **own)
    else:
        model = small(hidden=hidden, model_type=kind, pos_conv=taps, **own)
    return partial(model.encoder.pos_conv_embed, torch.randn(1, frames, hidden))


class Nothing(nn.Module):
    """A layer that gives back what it gets."""

    attention = None

    def forward(self, hidden: torch.Tensor, attention_mask=None) -> torch.Tensor:
        return hidden


def fewer(ends: bool, outputs: int, frames: int, stride: int = 0) -> Callable[[], Any]:
    """Return what layers on fewer frames add to a pass: where frames are joined, or in between.

    That is a time reduction by `stride`, with both its convolutions; without it frame pooling, of
    two frames: other factors take about as long.
    """
    encoder: Any = SimpleNamespace(layers=[Nothing() for _ in range(3)])
    if stride:  # either takes the place of the layers' forward
        TimeReduction(encoder, outputs, stride)
    else:
        FramePooling(encoder, 2.0, 0)
    first, inner, last = encoder.layers
    joining, hidden = [first, last] if stride else [first], torch.randn(1, frames, outputs)
    return lambda: [layer(hidden) for layer in (joining if ends else [inner])]


def convolution(
    norm: str, outputs: int, kernel: int, stride: int, frames: int, inputs: int = 0
) -> Callable[[], Any]:
    """Return a pass of a convolution of a stem, with its norm and activation.

    The first one reads the wave itself, no `inputs` channels.
    """
    stem: dict = {"conv_dim": [inputs, outputs] if inputs else [outputs], "compression": {}}
    stem |= {"conv_kernel": [1, kernel] if inputs else [kernel]}
    stem |= {"conv_stride": [1, stride] if inputs else [stride]}
    stem |= {"num_feat_extract_layers": len(stem["conv_dim"])}
    model = small(**stem, feat_extract_norm=norm or "group")
    samples = kernel + (frames - 1) * stride
    return partial(model.feature_extractor.conv_layers[-1], torch.randn(1, inputs or 1, samples))
