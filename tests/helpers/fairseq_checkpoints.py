"""Checkpoints in the layouts that fairseq, WavLM and s3prl write, of small random models."""

import argparse

import torch

from speech_pareto.models import backbone

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SHAPE |= {"intermediate_size": 64, "num_conv_pos_embeddings": 16}
STEM = {"conv_dim": [32] * 7}
RENAMED = {  # transformers' names -> fairseq's
    "masked_spec_embed": "mask_emb",
    "feature_projection.layer_norm": "layer_norm",
    "feature_projection.projection": "post_extract_proj",
    "encoder.pos_conv_embed.conv.parametrizations.weight.original0": "encoder.pos_conv.0.weight_g",
    "encoder.pos_conv_embed.conv.parametrizations.weight.original1": "encoder.pos_conv.0.weight_v",
    "encoder.pos_conv_embed.conv.bias": "encoder.pos_conv.0.bias",
    ".feed_forward.intermediate_dense": ".fc1",
    ".feed_forward.output_dense": ".fc2",
    ".attention.gru_rel_pos_linear": ".self_attn.grep_linear",
    ".attention.gru_rel_pos_const": ".self_attn.grep_a",
    ".attention.rel_attn_embed": ".self_attn.relative_attention_bias",
    ".attention.": ".self_attn.",
}
HEADS = {
    "hubert": {"label_embs_concat": (504, 8), "final_proj.weight": (8, 32)},
    "wav2vec2": {"quantizer.vars": (1, 8, 4), "project_q.weight": (8, 8), "final_proj.bias": (8,)},
    "wavlm": {},
}


def as_fairseq(weights, norm):
    """Return weights under the names that fairseq gives them."""
    found = {}
    for name, tensor in weights.items():
        if name.startswith("feature_extractor.conv_layers."):
            name = name.replace(".conv.", ".0.")
            name = name.replace(".layer_norm.", ".2.1." if norm == "layer" else ".2.")
        elif ".layers." in name:
            name = name.replace(".layer_norm.", ".self_attn_layer_norm.")
        for ours, theirs in RENAMED.items():
            name = name.replace(ours, theirs)
        found[name] = tensor
    return found


def pretrained(kind, more):
    """Return a model with random weights, and the checkpoint of it that its authors would write."""
    torch.manual_seed(1)
    made = backbone.new({"model_type": kind, **SHAPE, **STEM, **more})
    weights = as_fairseq(made.state_dict(), made.config.feat_extract_norm)
    weights |= {name: torch.zeros(size) for name, size in HEADS[kind].items()}
    settings = {
        "encoder_attention_heads": 2,
        "layer_norm_first": bool(more),
        "conv_feature_layers": "[(32,10,5)] + [(32,3,2)] * 4 + [(32,2,2)] * 2",
    }
    return made, weights, settings


def packed(kind, weights, settings, normalize):
    """Return a checkpoint in the layout of its origin."""
    both = settings | {"normalize": normalize}
    if kind == "wav2vec2":  # old fairseq: a Namespace
        return {"args": argparse.Namespace(**both), "cfg": None, "model": weights}
    if kind == "wavlm":
        return {"cfg": both | {"max_distance": 800}, "model": weights}
    task, inner = {"normalize": normalize}, {"model_cfg": settings, "model_weight": weights}
    return {"task_cfg": task, **inner, "dictionaries_symbols": [["<s>"]]}  # s3prl's conversion
