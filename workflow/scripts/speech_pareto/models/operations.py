"""Multiply-accumulates of a model, from its config alone."""

import math
from collections.abc import Mapping

from speech_pareto.models import architecture
from speech_pareto.models.frame_counts import frames_of_layers


def layer_macs(config: Mapping, layer: architecture.Layer, frames: int) -> dict[str, int]:
    """Return a layer's multiply-accumulates over `frames`: of its `matrices` and attention `maps`.

    `maps` are the products of queries with keys and of attention maps with values.
    """
    config, (keys, values) = architecture.complete(config), architecture.widths(config, layer)
    weights = sum(
        architecture.matrix_parameters(shape, layer.ranks.get(name)) - shape[0]  # less the biases
        for name, shape in architecture.matrices(config, layer).items()
    )
    gated = config["model_type"] == "wavlm" and not layer.reuse
    # Of the relative position bias, which reads whole slices of the input.
    gate = 8 * architecture.head_dim(config) * len(layer.heads) if gated else 0
    products = values if layer.reuse else keys + values
    return {"matrices": frames * (weights + gate), "maps": products * frames * frames}


def macs(config: Mapping, seconds: float, depth: int | None = None) -> dict:
    """Return the multiply-accumulates of one recording in each part of a backbone, and in `total`.

    Products of matrices, convolutions and Fourier transforms count, zeros in them too: what
    `cost.macs` measures on the module. `layers` is a list of `layer_macs`; `frames` is how many
    there are, and `depth` how many layers are run: all, unless it leaves early. ValueError for a
    recording that is too short for one frame.
    """
    config = architecture.complete(config)
    hidden, dims = config["hidden_size"], config["conv_dim"]
    frames, stem = round(seconds * architecture.SAMPLE_RATE), 0
    for inputs, outputs, kernel, stride in zip(
        (1, *dims[:-1]), dims, config["conv_kernel"], config["conv_stride"], strict=True
    ):
        frames = (frames - kernel) // stride + 1
        stem += frames * inputs * outputs * kernel
    if frames < 1:
        raise ValueError(f"{seconds} s are too short for one frame")
    if bands := architecture.BANDS.get(architecture.section(config).get("stem", "")):
        bins = architecture.BINS
        transform = round(2.5 * bins * math.log2(bins)) // 2  # operations, two of them a MAC
        stem = frames * architecture.STACK * (transform + (bins // 2 + 1) * bands)
    (number, taps), groups = architecture.positions(config), config["num_conv_pos_embedding_groups"]
    places = frames + 1 - taps % 2  # an even kernel makes one too many, which is thrown away
    direct = architecture.section(config).get("projection") == "none"
    factor = architecture.section(config).get("time_reduction") or 1
    inner = frames_of_layers(config, frames)
    layers = list(zip(architecture.layers_of(config), inner, strict=True))[:depth]
    branches, units = 0, 0
    if exits := architecture.section(config).get("early_exit"):
        asked, units = min(len(layers), len(inner) - 1), exits["units"]
        branches = max(0, asked - exits["first"] + 1)
    parts = {
        "stem": stem,
        "projection": 0 if direct else frames * dims[-1] * hidden,
        "position": number * places * hidden * (hidden // groups) * taps,
        "time_reduction": 2 * inner[0] * hidden * hidden * factor if factor > 1 else 0,
        "exits": branches * frames * units * hidden,
        "layers": [layer_macs(config, layer, own) for layer, own in layers],
    }
    total = sum(value for name, value in parts.items() if name != "layers")
    total += sum(sum(layer.values()) for layer in parts["layers"])
    return {"frames": frames, **parts, "total": total}
