"""What transformers' plain models lack: the stem and the layers that `compression` states.

Apart, without anything of how backbones are stored: a deployed student brings this file, and those
that it imports, along (`modeling_student`).
"""

from collections import OrderedDict

import torch
from torch import nn

from speech_pareto.models import architecture
from speech_pareto.models.layers.absent import remove_attention, remove_feed_forward
from speech_pareto.models.layers.plain_attention import use_plain_attention
from speech_pareto.models.padding import ignore_padding
from speech_pareto.models.surgery import matrix, set_heads, set_matrix


def rebuild(model: nn.Module) -> None:
    """Give a plain model the stem and the layer shapes of its config's `compression`.

    Matrices of another shape than the plain model's are on the meta device then.
    """
    config = model.config.to_dict()
    stem = architecture.section(config).get("stem")
    if stem == "log_mel":
        from speech_pareto.models.layers.log_mel import LogMel

        # Real, never meta: its constants are in no file.
        model.feature_extractor = LogMel(*config["conv_kernel"])
    elif stem == "kaldi_fbank":
        from speech_pareto.models.layers.kaldi_fbank import KaldiFbank

        model.feature_extractor = KaldiFbank()
    if loudness := architecture.section(config).get("loudness"):
        model.feature_extractor.loudness = loudness
    if architecture.section(config).get("projection") == "none":
        model.feature_projection.projection = nn.Identity()
    if factor := architecture.section(config).get("time_reduction"):
        from speech_pareto.models.layers.time_reduction import reduce_time

        reduce_time(model, factor)
    if pooling := architecture.section(config).get("frame_pooling"):
        from speech_pareto.models.layers.pooled_frames import pool_frames

        pool_frames(model, **pooling)
    if exits := architecture.section(config).get("early_exit"):
        from speech_pareto.models.layers.exit_branches import add_exits

        add_exits(model, **exits)
    ignore_padding(model)
    if config["model_type"] == "wavlm":
        from speech_pareto.models.layers.wavlm_attention import use_partial_attention

        use_partial_attention(model)
    plain = tuple(range(config["num_attention_heads"]))
    layers = model.encoder.layers
    for index, shape in enumerate(architecture.layers_of(config)):
        if shape.shared is not None:
            layers[index] = layers[shape.shared]
            continue
        layer = layers[index]
        if not shape.ffn:
            remove_feed_forward(layer)
        if not shape.heads:
            remove_attention(layer)
        set_heads(layer.attention, shape.heads)
        if hasattr(layer.attention, "gru_rel_pos_const") and shape.heads != plain:
            empty = torch.empty(1, len(shape.heads), 1, 1, device="meta")
            layer.attention.gru_rel_pos_const = nn.Parameter(empty)
        if shape.reuse:
            from speech_pareto.models.layers.reused_attention import reuse_map

            reuse_map(model, layer, shape.reuse)
        if shape.qk or shape.vo:
            use_plain_attention(layer.attention)
        for name, size in architecture.matrices(config, shape).items():
            now, rank = matrix(layer, name), shape.ranks.get(name)
            if rank or tuple(now.weight.shape) != size:
                set_matrix(layer, name, _empty(*size, rank))

    if streaming := architecture.section(config).get("streaming"):
        from speech_pareto.models.layers.chunked import stream_chunks

        stream_chunks(model, **streaming)


def _empty(outputs: int, inputs: int, rank: int | None) -> nn.Module:
    """Return a matrix of this shape on the meta device."""
    with torch.device("meta"):
        if rank is None:
            return nn.Linear(inputs, outputs)
        down, up = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs)
        return nn.Sequential(OrderedDict(down=down, up=up))
