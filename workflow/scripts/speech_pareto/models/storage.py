"""Which weights of a backbone can be stored in few bits, and the bytes of all: from a config alone.

A model of `number_format` "intx" has in its `compression` section

    bits   weights (bits of every weight tensor, 2 to 8, or {name of the layer: bits}; others stay
           in fp32) and either levels (true: a row has levels in any places) or group (how many
           weights of a row share a scale; null: all) and zero_point (whether each group has one)

A row holds all weights of one output. It is cut into as few groups as `group` allows, all of one
length but the last. Per group, the file has a scale in fp16 and, if asked for, a zero point in
fp16; or, for each row, its levels in fp16.
"""

from collections.abc import Mapping
from typing import Any

from speech_pareto.models import architecture

WIDTHS = (8, 4, 2, 1)  # a number of 7 bits lies in planes of 4, 2 and 1, none across two bytes


def planes(bits: int) -> list[int]:
    """Return the widths of the parts in which numbers of `bits` bits are stored."""
    return [width for width in WIDTHS if bits & width]


def packed_bytes(number: int, bits: int) -> int:
    """Return the bytes that so many numbers take: each plane ends at a whole byte."""
    return sum(-(-number * width // 8) for width in planes(bits))


def weights(config: Mapping) -> dict[str, tuple[int, int]]:
    """Return (rows, columns) of each weight tensor that can be stored in few bits, by layer.

    These are all linear and convolutional layers but the tiny ones of WavLM's attention gates.
    """
    config, found = architecture.complete(config), {}
    hidden, dims = config["hidden_size"], config["conv_dim"]
    if architecture.convolutional(config):
        shapes = zip((1, *dims[:-1]), dims, config["conv_kernel"], strict=True)
        for index, (inputs, outputs, kernel) in enumerate(shapes):
            found[f"feature_extractor.conv_layers.{index}.conv"] = (outputs, inputs * kernel)
    if architecture.section(config).get("projection") != "none":
        found["feature_projection.projection"] = (hidden, dims[-1])
    (number, taps), groups = architecture.positions(config), config["num_conv_pos_embedding_groups"]
    several = config["model_type"] == architecture.DATA2VEC
    for index in range(number):
        place = f"layers.{index}.conv" if several else "conv"
        found[f"encoder.pos_conv_embed.{place}"] = (hidden, hidden // groups * taps)
    if factor := architecture.section(config).get("time_reduction"):
        for name in ("down", "up.conv"):
            found[f"encoder.time_reduction.{name}"] = (hidden, hidden * factor)
    for index, layer in enumerate(architecture.layers_of(config)):
        if layer.shared is not None:  # its weights are another layer's
            continue
        for name, (outputs, inputs) in architecture.matrices(config, layer).items():
            part = "attention" if name in architecture.ATTENTION else "feed_forward"
            own, rank = f"encoder.layers.{index}.{part}.{name}", layer.ranks.get(name)
            if rank:
                found |= {f"{own}.down": (rank, inputs), f"{own}.up": (outputs, rank)}
            else:
                found[own] = (outputs, inputs)
    return found


def bits_of(config: Mapping) -> dict[str, int]:
    """Return the bits of each weight tensor that is stored in few, by layer."""
    asked: Any = architecture.section(config).get("bits", {}).get("weights", {})
    return dict(asked) if isinstance(asked, Mapping) else dict.fromkeys(weights(config), asked)


def groups(columns: int, group: int | None) -> int:
    """Return into how many groups a row of so many columns is cut."""
    return -(-columns // group) if group else 1


def stored_bytes(config: Mapping) -> int:
    """Return the bytes of all weights as they are stored, zeros too, without a file's header."""
    total, exits = architecture.count(config)["total"], 4 * architecture.exit_parameters(config)
    form, own = architecture.section(config).get("number_format"), weights(config)
    if form in ("float16", "bfloat16"):
        return 2 * total + exits
    small = 0  # bytes less than in fp32
    if form == "int8":  # the layers' matrices, with an fp32 scale for each row
        for rows, columns in architecture.linear_shapes(config):
            small += 3 * rows * columns - 4 * rows
    elif form == "intx":
        section = architecture.section(config)["bits"]
        for name, bits in bits_of(config).items():
            rows, columns = own[name]
            if section.get("levels"):
                more = 2 * 2**bits
            else:
                more = groups(columns, section["group"]) * (4 if section["zero_point"] else 2)
            small += 4 * rows * columns - packed_bytes(rows * columns, bits) - rows * more
    return 4 * total + exits - small
