"""What a backbone is made of, from its config alone: no torch, no weights, milliseconds.

A config is the content of `config.json`: transformers' keys plus, where transformers cannot say
it, a section `compression`:

    stem        "log_mel" or "kaldi_fbank" when features stand in the place of the convolutions
    loudness    root mean square at which such a stem hears recordings of variance 1
    projection  "none" when the stem has the encoder's width and no matrix stands between the two
    time_reduction  how many frames become one in the layers; a convolution undoes it at the end
    frame_pooling   factor: how many frames, of two decimals, become one by their mean in the layers
                    behind the first `after`; each frame then reads the one it is part of
    early_exit  threshold (of the entropy, in nats), units and first: behind layer `first` (1-based)
                and each later one but the last stands a branch, at which utterances can leave
    streaming   chunk and left, in frames: it hears chunk by chunk, each with so much before it;
                without a chunk all of an utterance at once
    layers      one dict per layer, holding only what differs from the plain model:
                heads (kept heads, numbered as in the teacher), ffn (rows), ranks ({matrix: rank}),
                reuse (one of REUSE; no queries and keys, but the map of the layer before),
                qk and vo (dimensions of each head: of queries and keys, of values and output);
                without heads or rows there is no attention, or no feed-forward part;
                shared (the number of an earlier layer, which is applied again in this place)
    zeros       weights of the layers' matrices that are zero and stay so; they count as removed
    number_format  "float16", "bfloat16", "int8" or "intx" when it is stored in such numbers
    bits        of "intx": how many each weight takes, see `storage`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

# Matrices of a layer and where they stand; everything that is pruned or factorised lies in these.
ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
FFN = ("intermediate_dense", "output_dense")
# How a layer applies the map of the layer before: as it is (ARMHuBERT, arXiv 2305.11685), through a
# second softmax, or through it with heads and utterances mixed up, as the released code does.
REUSE = ("map", "softmax", "released")
FRONT = ("stem", "loudness")  # what a stem is
# Whatever the layers are:
KEPT: tuple[str, ...] = (*FRONT, "projection", "time_reduction", "frame_pooling", "early_exit")
KEPT += ("streaming", "number_format", "bits")
DATA2VEC = "data2vec-audio"
MODEL_TYPES = ("hubert", "wav2vec2", "wavlm", DATA2VEC)
SAMPLE_RATE = 16_000  # Hz, of every backbone's input
# The log-mel stem: window and hop in samples, points of the transform, bands, frames in a stack.
WINDOW, HOP, BINS, MELS, STACK = 400, 160, 512, 80, 2
# ... its kernel, stride and width as transformers states them of convolutions: length rules hold.
BANDS = {"log_mel": MELS, "kaldi_fbank": 40}  # of stems without convolutions
KERNEL, STRIDE, WIDTH = WINDOW + (STACK - 1) * HOP, STACK * HOP, STACK * MELS
# transformers' defaults, the same in all but data2vec: config.json may leave them out.
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
    """One layer's shape: kept heads, feed-forward rows, ranks of matrices, reuse of a map.

    `qk` are the dimensions of each head's queries and keys, `vo` those of its values and of what
    the output matrix reads; None: as many as the teacher's. Scores are scaled as the teacher's.
    `shared` is the earlier layer that this one is, applied again.
    """

    heads: tuple[int, ...]
    ffn: int
    ranks: Mapping[str, int] = field(default_factory=dict)
    reuse: str | None = None
    qk: int | None = None
    vo: int | None = None
    shared: int | None = None


def complete(config: Mapping) -> dict:
    """Return `config` with transformers' defaults; ValueError for what cannot be rebuilt."""
    if config.get("model_type") not in MODEL_TYPES:
        kinds = ", ".join(MODEL_TYPES)
        raise ValueError(f"model_type {config.get('model_type')!r} is not one of {kinds}")
    if config.get("add_adapter") or config.get("adapter_attn_dim"):
        raise ValueError("adapters (add_adapter, adapter_attn_dim) are not supported")
    if config["model_type"] == DATA2VEC:  # its stem has a norm behind every convolution, always
        own = {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19}
        return {**DEFAULTS, **own, **config, "feat_extract_norm": "layer"}
    return {**DEFAULTS, **config}


def tiny(
    hidden: int = 192,
    layers: int = 6,
    heads: int = 6,
    ffn: int = 768,
    pos_conv: int = 32,
    model_type: str = "hubert",
    **settings,
) -> dict:
    """Return a small config: log-mel stem, no dropout; `settings` are transformers' own keys."""
    nothing = ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout")
    plain = dict.fromkeys((*nothing, "final_dropout", "layerdrop"), 0.0)
    stem = {
        "conv_dim": [WIDTH],
        "conv_kernel": [KERNEL],
        "conv_stride": [STRIDE],
        "conv_bias": False,
    }
    shape = {
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": ffn,
        "num_conv_pos_embeddings": pos_conv,
        "feat_extract_norm": "layer",
    }
    # As measured on the small teacher: fewer groups let it learn twice as fast, and a norm over the
    # bands of each frame would hide how loud it is.
    learnt = {"num_conv_pos_embedding_groups": 4, "initializer_range": 0.03}
    learnt |= {"feat_proj_layer_norm": False} if model_type == "hubert" else {}
    section = {} if "conv_dim" in settings else {"compression": {"stem": "log_mel"}}
    return shape | plain | stem | learnt | section | settings


def layers_of(config: Mapping) -> list[Layer]:
    """Return the shape of each layer; ValueError if one reuses a map that the one before lacks."""
    config = complete(config)
    plain = Layer(tuple(range(config["num_attention_heads"])), config["intermediate_size"])
    special = section(config).get("layers") or [{}] * config["num_hidden_layers"]
    if len(special) != config["num_hidden_layers"]:
        wanted = config["num_hidden_layers"]
        raise ValueError(f"compression.layers: {len(special)} for {wanted} layers")
    layers = [
        Layer(
            heads=tuple(layer.get("heads", plain.heads)),
            ffn=layer.get("ffn", plain.ffn),
            ranks=dict(layer.get("ranks", {})),
            **{key: layer.get(key) for key in ("reuse", "qk", "vo")},
        )
        for layer in special
    ]
    for index, own in enumerate(special):
        first = own.get("shared")
        if first is not None:
            if not 0 <= first < index or layers[first].shared is not None:
                raise ValueError(f"layer {index} cannot share the weights of layer {first}")
            layers[index] = replace(layers[first], shared=first)
    for before, layer in zip([None, *layers], layers, strict=False):
        if layer.reuse and layer.reuse not in REUSE:
            raise ValueError(f"reuse is {layer.reuse!r}, which is not one of {', '.join(REUSE)}")
        if layer.reuse and not can_reuse(before, layer):
            raise ValueError("a layer reuses maps of heads that the layer before does not have")
    return layers


def can_reuse(before: Layer | None, layer: Layer) -> bool:
    """Return whether the layer `before` has a map for each head of `layer`."""
    heads = set(layer.heads)
    return before is not None and bool(heads) and heads <= set(before.heads)


def reuses(config: Mapping) -> bool:
    """Return whether any layer applies the attention map of another."""
    return any(layer.reuse for layer in layers_of(config))


def ties(config: Mapping) -> bool:
    """Return whether any layer is another one, applied again."""
    return any(layer.shared is not None for layer in layers_of(config))


def section(config: Mapping) -> dict:
    """Return the `compression` section, empty for a plain model."""
    return dict(config.get("compression") or {})


def with_layers(config: Mapping, layers: Sequence[Layer], zeros: int = 0) -> dict:
    """Return `config` with these layers; `compression` says only what transformers cannot."""
    full = complete(config)
    every = tuple(range(full["num_attention_heads"]))
    rows = {layer.ffn for layer in layers}
    width = rows.pop() if len(rows) == 1 and any(rows) else full["intermediate_size"]
    special: list[dict[str, Any]] = []
    for layer in layers:
        if layer.shared is not None:
            special.append({"shared": layer.shared})
            continue
        heads = {} if layer.heads == every else {"heads": list(layer.heads)}
        ffn = {} if layer.ffn == width else {"ffn": layer.ffn}
        there = matrices(full, layer)
        ranks = {name: rank for name, rank in layer.ranks.items() if name in there}
        qk, vo = layer.qk if "q_proj" in there else None, layer.vo if layer.heads else None
        rest: dict[str, Any] = {"ranks": ranks, "reuse": layer.reuse, "qk": qk, "vo": vo}
        special.append({**heads, **ffn, **{key: value for key, value in rest.items() if value}})
    parts = {key: value for key, value in section(config).items() if key in KEPT}
    parts |= {"layers": special} if any(special) else {}
    parts |= {"zeros": zeros} if zeros else {}
    changed = {"num_hidden_layers": len(layers), "intermediate_size": width, "compression": parts}
    return {k: v for k, v in {**config, **changed}.items() if k != "compression" or v}


def convolutional(config: Mapping) -> bool:
    """Return whether the stem is made of convolutions, whose channels are `conv_dim`."""
    return section(config).get("stem") not in BANDS


def prunable_channels(config: Mapping) -> list[int]:
    """Return the channels of each convolution of the stem that can lose some.

    The last one cannot where no projection follows: its channels are the encoder's width.
    """
    widths = list(complete(config)["conv_dim"])
    return widths[:-1] if section(config).get("projection") == "none" else widths


def reach(config: Mapping) -> tuple[int, int]:
    """Return the receptive field and the total stride of a stem, in samples."""
    config, samples, total = complete(config), 1, 1
    for kernel, stride in zip(config["conv_kernel"], config["conv_stride"], strict=True):
        samples, total = samples + (kernel - 1) * total, total * stride
    return samples, total


def with_number_format(config: Mapping, name: str, **more) -> dict:
    """Return `config` with its weights stored as `name`, and what else its section says of them."""
    return {**config, "compression": section(config) | {"number_format": name, **more}}


def head_dim(config: Mapping) -> int:
    """Return the width of one head."""
    config = complete(config)
    return config["hidden_size"] // config["num_attention_heads"]


def widths(config: Mapping, layer: Layer) -> tuple[int, int]:
    """Return how many dimensions all heads of a layer have: of queries, or keys, and of values."""
    whole, number = head_dim(config), len(layer.heads)
    return number * (layer.qk or whole), number * (layer.vo or whole)


def matrices(config: Mapping, layer: Layer) -> dict[str, tuple[int, int]]:
    """Return (outputs, inputs) of the matrices that a layer has.

    One that reuses a map has no queries and keys.
    """
    hidden, (keys, values) = complete(config)["hidden_size"], widths(config, layer)
    shapes = dict.fromkeys(ATTENTION[:2], (keys, hidden))
    shapes |= {"v_proj": (values, hidden), "out_proj": (hidden, values)}
    shapes |= {"intermediate_dense": (layer.ffn, hidden), "output_dense": (hidden, layer.ffn)}
    own = ATTENTION[2:] if layer.reuse else ATTENTION
    names = (*own[: len(own) * bool(layer.heads)], *FFN[: 2 * bool(layer.ffn)])
    return {name: shapes[name] for name in names}


def matrix_parameters(shape: tuple[int, int], rank: int | None = None) -> int:
    """Return weights and biases of one matrix, whole or as a product of two of the given rank."""
    outputs, inputs = shape
    return (outputs * inputs if rank is None else rank * (outputs + inputs)) + outputs


def linear_shapes(config: Mapping) -> list[tuple[int, int]]:
    """Return (outputs, inputs) of the linear layers that all layers' matrices are made of."""
    shapes = []
    for layer in (x for x in layers_of(config) if x.shared is None):
        for name, (outputs, inputs) in matrices(config, layer).items():
            rank = layer.ranks.get(name)
            shapes += [(rank, inputs), (outputs, rank)] if rank else [(outputs, inputs)]
    return shapes


def layer_parameters(config: Mapping, layer: Layer, first: bool = False) -> dict[str, int]:
    """Return the parameters of a layer's `attention`, `ffn` and `norms`; none of a shared one."""
    config = complete(config)
    if layer.shared is not None:
        return {"attention": 0, "ffn": 0, "norms": 0}
    sizes = {
        name: matrix_parameters(shape, layer.ranks.get(name))
        for name, shape in matrices(config, layer).items()
    }
    attention = sum(sizes[name] for name in ATTENTION if name in sizes)
    if config["model_type"] == "wavlm":  # gated relative position bias
        if layer.heads and not layer.reuse:
            attention += len(layer.heads) + 8 * (head_dim(config) + 1)
        if first:  # it holds the table that all layers share
            attention += config["num_buckets"] * config["num_attention_heads"]
    ffn = sum(sizes[name] for name in FFN if name in sizes)
    # A norm that stands before an absent part is absent, too.
    norms = bool(layer.heads) + bool(layer.ffn) if norms_first(config) else 2
    return {"attention": attention, "ffn": ffn, "norms": 2 * norms * config["hidden_size"]}


def exit_parameters(config: Mapping) -> int:
    """Return the numbers of all branches at which utterances can leave, 0 without any."""
    own = section(config).get("early_exit")
    if not own:
        return 0
    full = complete(config)
    branches = full["num_hidden_layers"] - own["first"]
    return branches * matrix_parameters((own["units"], full["hidden_size"]))


def norms_first(config: Mapping) -> bool:
    """Return whether a norm stands before each part of a layer, not behind it."""
    return config["model_type"] != DATA2VEC and bool(config.get("do_stable_layer_norm"))


def positions(config: Mapping) -> tuple[int, int]:
    """Return how many convolutions tell positions, and the taps of each; data2vec has several."""
    number = config["num_conv_pos_embeddings"]
    several = config["model_type"] == DATA2VEC
    return (number, config["conv_pos_kernel_size"]) if several else (1, number)


def count(config: Mapping) -> dict:
    """Return the parameters of each part of a backbone, of `encoder` and in `total`.

    `layers` is a list of `layer_parameters`; `encoder` is all but `stem`; `removed` are zeros in
    `total`.
    """
    config = complete(config)
    hidden = config["hidden_size"]
    stem, projection = stem_parameters(config, config["conv_dim"])
    (number, taps), groups = positions(config), config["num_conv_pos_embedding_groups"]
    position = number * (hidden * (hidden // groups) * taps + hidden)
    batch_norm = config["model_type"] == "hubert" and config["conv_pos_batch_norm"]
    if config["model_type"] != DATA2VEC:
        # Weight norm has one length per tap; weights in few bits are stored without it.
        lengths = 0 if "bits" in section(config) else taps
        position += 2 * hidden if batch_norm else lengths
    masking = hidden if config["mask_time_prob"] > 0 or config["mask_feature_prob"] > 0 else 0
    layers = [layer_parameters(config, x, i == 0) for i, x in enumerate(layers_of(config))]
    reduction = 2 * resampling_parameters(config)
    encoder = projection + position + masking + 2 * hidden + reduction
    encoder += sum(sum(x.values()) for x in layers)
    return {
        "stem": stem,
        "projection": projection,
        "position": position,
        "masking": masking,
        "norm": 2 * hidden,
        "time_reduction": reduction,
        "layers": layers,
        "encoder": encoder,
        "total": stem + encoder,
        "removed": section(config).get("zeros", 0),
    }


def stem_parameters(config: Mapping, channels: Sequence) -> tuple[Any, Any]:
    """Return the parameters of a stem of so many `channels` in each layer, and of its projection.

    Channels may be scalar tensors, such as expected numbers: the sums then have their gradients.
    """
    config = complete(config)
    hidden, last, stem = config["hidden_size"], channels[-1], 0
    if convolutional(config):
        shapes = zip((1, *channels[:-1]), channels, config["conv_kernel"], strict=True)
        for index, (inputs, outputs, kernel) in enumerate(shapes):
            normed = index == 0 or config["feat_extract_norm"] == "layer"
            own = (1 if config["conv_bias"] else 0) + (2 if normed else 0)
            stem = stem + outputs * (inputs * kernel + own)
    normed = config["model_type"] != "hubert" or config["feat_proj_layer_norm"]
    direct = section(config).get("projection") == "none"
    return stem, (2 * last if normed else 0) + (0 if direct else last * hidden + hidden)


def resampling_parameters(config: Mapping) -> int:
    """Return the parameters of one of both convolutions of a time reduction, 0 without one."""
    width, factor = complete(config)["hidden_size"], section(config).get("time_reduction")
    return width * width * factor + width if factor else 0


def remaining(config: Mapping) -> int:
    """Return the parameters that a ratio counts: all that are there but those zeroed by pruning."""
    parts = count(config)
    return parts["total"] - parts["removed"]


def ratio(teacher: Mapping, student: Mapping) -> float:
    """Return the fraction of the teacher's parameters that the student lacks."""
    return 1 - remaining(student) / remaining(teacher)


def head_parameters(config: Mapping, layer: Layer) -> int:
    """Return what removing one head from `layer` saves, if others stay."""
    return saved(config, replace(layer, heads=(0, 1)), replace(layer, heads=(0,)))


def row_parameters(config: Mapping, layer: Layer) -> int:
    """Return what removing one row of the feed-forward part from `layer` saves, if others stay."""
    return saved(config, replace(layer, ffn=2), replace(layer, ffn=1))


def saved(config: Mapping, before: Layer, after: Layer) -> int:
    """Return the parameters in `before` that are not in `after`."""
    sizes = (sum(layer_parameters(config, layer).values()) for layer in (before, after))
    return next(sizes) - next(sizes)
