"""What a backbone is made of, from its config alone: no torch, no weights, milliseconds.

A config is the content of `config.json`: transformers' keys plus, where transformers cannot say
it, a section `compression`:

    stem     "log_mel" when `log_mel.LogMel` stands in the place of the convolutions
    layers   one dict per layer, holding only what differs from the plain model:
             heads (kept heads, numbered as in the teacher), ffn (rows), ranks ({matrix: rank})
    zeros    weights of the layers' matrices that are zero and stay so; they count as removed
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

# Matrices of a layer and where they stand; everything that is pruned or factorised lies in these.
ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
FFN = ("intermediate_dense", "output_dense")
MODEL_TYPES = ("hubert", "wav2vec2", "wavlm")
# transformers' defaults, the same in all three: config.json may leave them out.
DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "feat_proj_layer_norm": True,
    "feat_extract_norm": "group",
    "conv_dim": (512,) * 7,
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_bias": False,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "conv_pos_batch_norm": False,
    "mask_time_prob": 0.05,
    "mask_feature_prob": 0.0,
    "num_buckets": 320,
}


@dataclass(frozen=True)
class Layer:
    """One layer's shape: kept heads, feed-forward rows, ranks of factorised matrices."""

    heads: tuple[int, ...]
    ffn: int
    ranks: Mapping[str, int] = field(default_factory=dict)


def read(folder: str | Path) -> dict:
    """Return the config in a model folder."""
    file = Path(folder) / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"{folder}: no config.json here, so this is not a model folder")
    return json.loads(file.read_text(encoding="utf-8"))


def complete(config: Mapping) -> dict:
    """Return `config` with transformers' defaults; ValueError for what cannot be rebuilt."""
    if config.get("model_type") not in MODEL_TYPES:
        kinds = ", ".join(MODEL_TYPES)
        raise ValueError(f"model_type {config.get('model_type')!r} is not one of {kinds}")
    if config.get("add_adapter") or config.get("adapter_attn_dim"):
        raise ValueError("adapters (add_adapter, adapter_attn_dim) are not supported")
    return {**DEFAULTS, **config}


def layers_of(config: Mapping) -> list[Layer]:
    """Return the shape of each layer."""
    config = complete(config)
    plain = Layer(tuple(range(config["num_attention_heads"])), config["intermediate_size"])
    special = section(config).get("layers") or [{}] * config["num_hidden_layers"]
    if len(special) != config["num_hidden_layers"]:
        raise ValueError(
            f"compression.layers: {len(special)} for {config['num_hidden_layers']} layers"
        )
    heads = (tuple(layer.get("heads", plain.heads)) for layer in special)
    return [
        Layer(kept, layer.get("ffn", plain.ffn), dict(layer.get("ranks", {})))
        for kept, layer in zip(heads, special, strict=True)
    ]


def section(config: Mapping) -> dict:
    """Return the `compression` section, empty for a plain model."""
    return dict(config.get("compression") or {})


def with_layers(config: Mapping, layers: Sequence[Layer], zeros: int = 0) -> dict:
    """Return `config` with these layers; `compression` says only what transformers cannot."""
    full = complete(config)
    every = tuple(range(full["num_attention_heads"]))
    widths = {layer.ffn for layer in layers}
    width = widths.pop() if len(widths) == 1 else full["intermediate_size"]
    special = []
    for layer in layers:
        heads = {} if layer.heads == every else {"heads": list(layer.heads)}
        ffn = {} if layer.ffn == width else {"ffn": layer.ffn}
        ranks = {"ranks": dict(layer.ranks)} if layer.ranks else {}
        special.append({**heads, **ffn, **ranks})
    stem = {key: value for key, value in section(config).items() if key == "stem"}
    parts = (
        stem | ({"layers": special} if any(special) else {}) | ({"zeros": zeros} if zeros else {})
    )
    changed = {"num_hidden_layers": len(layers), "intermediate_size": width, "compression": parts}
    return {
        key: value for key, value in {**config, **changed}.items() if key != "compression" or value
    }


def head_dim(config: Mapping) -> int:
    """Return the width of one head."""
    config = complete(config)
    return config["hidden_size"] // config["num_attention_heads"]


def matrices(config: Mapping, layer: Layer) -> dict[str, tuple[int, int]]:
    """Return (outputs, inputs) of a layer's six matrices."""
    hidden, inner = complete(config)["hidden_size"], head_dim(config) * len(layer.heads)
    shapes = dict.fromkeys(ATTENTION, (inner, hidden)) | {"out_proj": (hidden, inner)}
    return shapes | {"intermediate_dense": (layer.ffn, hidden), "output_dense": (hidden, layer.ffn)}


def matrix_parameters(shape: tuple[int, int], rank: int | None = None) -> int:
    """Return weights and biases of one matrix, whole or as a product of two of the given rank."""
    outputs, inputs = shape
    return (outputs * inputs if rank is None else rank * (outputs + inputs)) + outputs


def linear_shapes(config: Mapping) -> list[tuple[int, int]]:
    """Return (outputs, inputs) of the linear layers that all layers' matrices are made of."""
    shapes = []
    for layer in layers_of(config):
        for name, (outputs, inputs) in matrices(config, layer).items():
            rank = layer.ranks.get(name)
            shapes += [(rank, inputs), (outputs, rank)] if rank else [(outputs, inputs)]
    return shapes


def layer_parameters(config: Mapping, layer: Layer, first: bool = False) -> dict[str, int]:
    """Return the parameters of a layer's `attention`, `ffn` and `norms`."""
    config = complete(config)
    sizes = {
        name: matrix_parameters(shape, layer.ranks.get(name))
        for name, shape in matrices(config, layer).items()
    }
    attention = sum(sizes[name] for name in ATTENTION)
    if (
        config["model_type"] == "wavlm"
    ):  # gated relative position bias; its table is shared, in layer 0
        attention += len(layer.heads) + 8 * (head_dim(config) + 1)
        attention += config["num_buckets"] * config["num_attention_heads"] if first else 0
    ffn = sum(sizes[name] for name in FFN)
    return {"attention": attention, "ffn": ffn, "norms": 4 * config["hidden_size"]}


def count(config: Mapping) -> dict:
    """Return the parameters of each part of a backbone, of `encoder` and in `total`.

    `layers` is a list of `layer_parameters`; `encoder` is all but `stem`; `removed` are zeros in
    `total`.
    """
    config = complete(config)
    hidden, dims, kernels = config["hidden_size"], config["conv_dim"], config["conv_kernel"]
    stem = 0
    if section(config).get("stem") != "log_mel":
        for index, (inputs, outputs, kernel) in enumerate(
            zip((1, *dims[:-1]), dims, kernels, strict=True)
        ):
            stem += inputs * outputs * kernel + (outputs if config["conv_bias"] else 0)
            stem += 2 * outputs if index == 0 or config["feat_extract_norm"] == "layer" else 0
    normed = config["model_type"] != "hubert" or config["feat_proj_layer_norm"]
    projection = (2 * dims[-1] if normed else 0) + dims[-1] * hidden + hidden
    taps, groups = config["num_conv_pos_embeddings"], config["num_conv_pos_embedding_groups"]
    position = hidden * (hidden // groups) * taps + hidden
    batch_norm = config["model_type"] == "hubert" and config["conv_pos_batch_norm"]
    position += 2 * hidden if batch_norm else taps  # weight norm has one length per tap
    masking = hidden if config["mask_time_prob"] > 0 or config["mask_feature_prob"] > 0 else 0
    layers = [
        layer_parameters(config, layer, index == 0) for index, layer in enumerate(layers_of(config))
    ]
    encoder = projection + position + masking + 2 * hidden + sum(sum(x.values()) for x in layers)
    return {
        "stem": stem,
        "projection": projection,
        "position": position,
        "masking": masking,
        "norm": 2 * hidden,
        "layers": layers,
        "encoder": encoder,
        "total": stem + encoder,
        "removed": section(config).get("zeros", 0),
    }


def remaining(config: Mapping) -> int:
    """Return the parameters that a ratio counts: all that are there but those zeroed by pruning."""
    parts = count(config)
    return parts["total"] - parts["removed"]


def ratio(teacher: Mapping, student: Mapping) -> float:
    """Return the fraction of the teacher's parameters that the student lacks."""
    return 1 - remaining(student) / remaining(teacher)


def head_parameters(config: Mapping, layer: Layer) -> int:
    """Return what removing one head from `layer` saves."""
    fewer = replace(layer, heads=layer.heads[:-1])
    return _saved(config, layer, fewer)


def row_parameters(config: Mapping, layer: Layer) -> int:
    """Return what removing one row of the feed-forward part from `layer` saves."""
    return _saved(config, layer, replace(layer, ffn=layer.ffn - 1))


def _saved(config: Mapping, before: Layer, after: Layer) -> int:
    """Return the parameters in `before` that are not in `after`."""
    sizes = (sum(layer_parameters(config, layer).values()) for layer in (before, after))
    return next(sizes) - next(sizes)


def spread(amount: int, capacities: Sequence[int]) -> list[int]:
    """Return how `amount` is shared as evenly as the capacities allow, earlier places first."""
    shares = [0] * len(capacities)
    left = max(0, min(amount, sum(capacities)))
    while left:
        open_places = [i for i, capacity in enumerate(capacities) if shares[i] < capacity]
        step = max(
            1, min(left // len(open_places), min(capacities[i] - shares[i] for i in open_places))
        )
        for i in open_places[:left]:
            shares[i] += step
            left -= step
    return shares


def thin(config: Mapping, layers: Sequence[Layer], amount: float) -> list[Layer]:
    """Return `layers` without about `amount` parameters: the same share of all heads and rows.

    What whole heads miss, rows make up; each layer keeps at least one of either.
    """
    head, row = head_parameters(config, layers[0]), row_parameters(config, layers[0])
    spare_heads = [len(layer.heads) - 1 for layer in layers]
    spare_rows = [layer.ffn - 1 for layer in layers]
    share = amount / max(1, head * sum(spare_heads) + row * sum(spare_rows))
    heads = round(max(0.0, min(1.0, share)) * sum(spare_heads))
    heads_gone = spread(heads, spare_heads)
    rows_gone = spread(round((amount - heads * head) / row), spare_rows)
    return [
        replace(layer, heads=layer.heads[: len(layer.heads) - fewer], ffn=layer.ffn - thinner)
        for layer, fewer, thinner in zip(layers, heads_gone, rows_gone, strict=True)
    ]
