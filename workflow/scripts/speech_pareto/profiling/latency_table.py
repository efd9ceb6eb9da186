"""Measures the table of a device: how long each part of a pass takes, alone (`models.latency`).

The parts are those of `latency_parts`. What is around them is fitted at last: some whole models are
timed, and least squares, drawn towards 1 and 0, give a factor for each group of parts g and what
each layer and each pass takes beside them,

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
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from speech_pareto.models import architecture
from speech_pareto.models.architecture import KERNEL, STRIDE, Layer
from speech_pareto.models.backbone import build, stored
from speech_pareto.models.latency import COLUMNS, NotInTable, Piece, Table, pieces
from speech_pareto.profiling.allocator import keep_freed_memory
from speech_pareto.profiling.cost import noise, using
from speech_pareto.profiling.latency_parts import CHANNELS, LENGTHS, grid
from speech_pareto.runtime import provenance
from speech_pareto.runtime.result import write_json, write_text

ROUNDS, LEAST, SECONDS = 2, 3, 0.03  # rounds over the grid; passes in each, and how long at least
CACHE, LARGE = 1 << 26, 1 << 20  # bytes of weights that are gone through, of large modules alone
RIDGE = 0.003  # λ; with it and these units, a model that was left out is foretold best
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
