"""Measures the table of a device: how long each part of a pass takes, alone (`models.latency`).

Parts are the real modules, with random weights, on noise. What is around them is fitted at last:
some whole models are timed, and least squares, drawn towards 1 and 0, give a factor for each group
of parts g and what each layer and each pass takes beside them,

    min over f, l, p  Σ_m ((Σ_g f_g x_mg + l n_m + p) / y_m − 1)² + λ (Σ_g (f_g − 1)² + l² + p²)

with y_m the seconds of model m, x_mg the sum of its parts of a group, n_m its layers, l in ms and
p in units of 5 ms. The table's times hold these factors, so that sums of them need nothing else.
"""

import copy
import csv
import io
import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from speech_pareto.models import architecture
from speech_pareto.models.architecture import DATA2VEC, KERNEL, SAMPLE_RATE, STRIDE, Layer
from speech_pareto.models.backbone import build, new, stored
from speech_pareto.models.latency import COLUMNS, NotInTable, Piece, Table, pieces
from speech_pareto.models.layers.pooled_frames import FramePooling
from speech_pareto.models.layers.reused_attention import Maps, ReusedAttention
from speech_pareto.models.layers.time_reduction import TimeReduction
from speech_pareto.profiling.allocator import keep_freed_memory
from speech_pareto.profiling.cost import noise, using
from speech_pareto.runtime import provenance
from speech_pareto.runtime.result import write_json, write_text

ROUNDS, LEAST, SECONDS = 2, 3, 0.03  # rounds over the grid; passes in each, and how long at least
CACHE, LARGE = 1 << 26, 1 << 20  # bytes of weights that are gone through, of large modules alone
RIDGE = 0.003  # λ; with it and these units, a model that was left out is foretold best
CHANNELS = (16, 64, 192, 768, 3072)
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
GROUPS = {  # of parts, for the factors
    "convolution": "stem",
    "log_mel": "stem",
    "kaldi_fbank": "stem",
    "linear": "products",
    "position": "positions",
    "map": "maps",
    "gated": "maps",
    "reused": "maps",
}
OTHERS = "others"  # group of all other parts
UNITS = {"layer": 1e-3, "pass": 5e-3}  # seconds that 1 stands for in the fit

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


def measure(
    device: str,
    folder: str | Path,
    threads: int = 1,
    width: int = CHANNELS[-1],
    seconds: float = LENGTHS[-1],
) -> Path:
    """Write the table of this machine, under the name `device`, to `folder`; return its file.

    `width` is the most channels that are measured, `seconds` the longest audio. Beside the CSV file
    stands a JSON file with processor, versions, date and how the table was fitted.
    """
    keep_freed_memory()
    with torch.inference_mode(), using(threads):
        todo = list(grid(width, seconds))
        times: dict[Piece, list[float]] = {own: [] for own, _ in todo}
        checks = [(config, length) for config, length in models() if length <= seconds]
        with tqdm(
            total=ROUNDS * len(todo) + len(checks), desc="measure", unit="part", mininterval=1
        ) as bar:
            for number in range(ROUNDS):
                order = random.Random(number).sample(todo, len(todo))  # time left is told evenly
                for own, make in order:
                    times[own].append(timed(make()))
                    bar.update()
            table = {own: min(found) for own, found in times.items()}
            sums, whole = [], []
            known = Table(rows(table, UNITS))
            for config, length in checks:
                with suppress(NotInTable):  # of a small table
                    sums.append(by_group(known, config, length))
                    whole.append(timed(partial(random_model(config), noise(length)), 5))
                bar.update()
    factors = fit(sums, whole)
    file = Path(folder) / f"{device}-{threads}-threads.csv"
    table = {own: factors[group_of(own.part)] * taken for own, taken in table.items()}
    beside = {part: factors[part] * unit for part, unit in UNITS.items()}
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(table, beside))
    write_text(file, text.getvalue())
    about = {"device": device, "threads": threads, "date": time.strftime("%Y-%m-%d")}
    about |= {"hardware": provenance.hardware(), "versions": provenance.versions()}
    told = [sum(factors[name] * taken for name, taken in own.items()) for own in sums]
    about |= {"factors": factors, "models": {"seconds": whole, "fitted": told}}
    write_json(file.with_suffix(".json"), about)
    return file


def timed(run: Callable[[], Any], least: int = LEAST) -> float:
    """Return the lower quartile of the seconds of passes, after one to warm up.

    There are at least `least`. Whatever else runs makes passes longer, never shorter. On one thread
    the seconds are those of the processor: waiting for a core does not count.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    runs = itertools.cycle(cold(run))
    next(runs)()
    found: list[float] = []
    while len(found) < least or sum(found) < SECONDS:
        run = next(runs)
        began = clock()
        run()
        found.append(clock() - began)
    return sorted(found)[len(found) // 4]


def cold(run: Callable[[], Any]) -> list[Callable[[], Any]]:
    """Return a pass of a large module on as many copies of it as leave no weight in a cache.

    In a pass of a model, too, weights come from memory: all others were used since.
    """
    if not isinstance(run, partial) or not isinstance(run.func, nn.Module):
        return [run]
    size = 4 * sum(p.numel() for p in run.func.parameters())
    copies = -(-CACHE // size) if size >= LARGE else 1
    passes = [
        partial(copy.deepcopy(run.func), *run.args, **run.keywords) for _ in range(copies - 1)
    ]
    return [run, *passes]


def models() -> Iterator[tuple[dict, float]]:
    """Yield configs of ten models, of many depths, widths and stems, and seconds of audio."""
    base = {"model_type": "hubert"}
    thin = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
    narrow = {"conv_dim": [256] * 7}
    short: dict = {"conv_dim": [512, 512], "conv_kernel": [40, 19], "conv_stride": [20, 16]}
    short |= {"num_feat_extract_layers": 2}
    mel: dict = {
        "conv_dim": [2 * architecture.MELS],
        "conv_kernel": [KERNEL],
        "conv_stride": [STRIDE],
    }
    mel |= {"num_feat_extract_layers": 1, "compression": {"stem": "log_mel"}}
    ranks = dict.fromkeys((*architecture.ATTENTION, *architecture.FFN), 128)
    for own, layers, heads, rows, rank, seconds in (
        ({}, 12, 12, 3072, None, 4.0),
        ({}, 4, 12, 3072, None, 10.0),
        ({}, 12, 3, 512, None, 4.0),
        ({}, 12, 12, 3072, ranks, 4.0),
        (narrow, 12, 6, 2048, None, 10.0),
        (narrow, 2, 8, 1024, None, 1.0),
        (thin, 12, 6, 1536, None, 4.0),
        (mel, 12, 8, 3072, None, 4.0),
        (mel | thin, 6, 6, 768, None, 1.0),
        (short, 8, 4, 1536, None, 4.0),
    ):
        layer = Layer(tuple(range(heads)), rows, rank or {})
        yield architecture.with_layers(base | own, [layer] * layers), seconds


def random_model(config: Mapping) -> nn.Module:
    """Return the model of a config with small random weights: time does not depend on them."""
    model = build(config)
    weights = {name: x for name, x in stored(model).items() if x.is_meta}
    drawn = {name: 0.02 * torch.randn(x.shape) for name, x in weights.items()}
    model.load_state_dict(drawn, strict=False, assign=True)
    return model.eval()


def rows(table: Mapping[Piece, float], beside: Mapping[str, float]) -> Iterator[dict[str, str]]:
    """Yield the rows of a table's file; `beside` is what a layer and a pass take beside parts."""
    for part, seconds in beside.items():
        yield dict.fromkeys(COLUMNS, "") | {"part": part, "seconds": f"{seconds:.4g}"}
    for own, seconds in sorted(table.items()):
        sizes = {column: str(size) for column, size in own.sizes}
        yield dict.fromkeys(COLUMNS, "") | sizes | {"part": own.part, "seconds": f"{seconds:.4g}"}


def group_of(part: str) -> str:
    """Return the group of a part, whose times have one factor; layer and pass have their own."""
    named = [group for start, group in GROUPS.items() if part.startswith(start)]
    return part if part in UNITS else named[0] if named else OTHERS


def by_group(table: Table, config: Mapping, seconds: float) -> dict[str, float]:
    """Return the seconds of a pass in each group of parts."""
    found = dict.fromkeys([*GROUPS.values(), OTHERS, *UNITS], 0.0)
    for own, times in pieces(config, seconds).items():
        found[group_of(own.part)] += times * table.of(own)
    return found


def fit(sums: Sequence[Mapping[str, float]], whole: Sequence[float]) -> dict[str, float]:
    """Return the factor of each group: `sums` of groups times factors are nearly `whole`."""
    names = [*dict.fromkeys([*GROUPS.values(), OTHERS]), *UNITS]
    prior = np.array([0.0 if name in UNITS else 1.0 for name in names])
    shares = np.array(
        [[one[name] / y for name in names] for one, y in zip(sums, whole, strict=True)]
    )
    shares = shares.reshape(-1, len(names))
    left = np.vstack([shares, RIDGE**0.5 * np.eye(len(names))])
    right = np.concatenate([np.ones(len(shares)), RIDGE**0.5 * prior])
    found = np.linalg.lstsq(left, right, rcond=None)[0]
    return {name: max(float(factor), 1e-3) for name, factor in zip(names, found, strict=True)}
