"""Tiny random backbones of every kind."""

import torch

from speech_pareto.models import backbone as model
from speech_pareto.models import sparsity, surgery
from speech_pareto.tasks.task import TaskModel, make_task, save_head

# Wide enough: oneDNN 3.12 gives noise for many 16-bit convolutions of under 32 channels on AMX.
SHAPE = {"hidden": 48, "layers": 3, "heads": 6, "ffn": 160, "pos_conv": 8}
SHAPE |= {"num_conv_pos_embedding_groups": 2}
STEM = {"conv_dim": [32, 24], "conv_kernel": [10, 8], "conv_stride": [10, 8], "conv_bias": True}
BUCKETS = {"num_buckets": 16, "max_bucket_distance": 40}


def backbone(kind, **settings):
    """Return a tiny random backbone in which every parameter matters."""
    more = BUCKETS if kind == "wavlm" else {}
    config = model.tiny_config(**{**SHAPE, **STEM, **more, "model_type": kind, **settings})
    torch.manual_seed(5)
    made = model.new(config)
    for parameter in sparsity.prunable(made).values():  # transformers begins with biases at zero
        torch.nn.init.normal_(parameter, std=0.1)
    for layer in made.encoder.layers:
        if hasattr(layer.attention, "rel_attn_embed"):
            torch.nn.init.normal_(layer.attention.rel_attn_embed.weight)
    return made


def saved(folder):
    """Save a small log-mel HuBERT in half precision, and return its folder."""
    torch.manual_seed(0)
    made = model.new(model.tiny_config(hidden=48, layers=3, heads=6, ffn=160, pos_conv=16))
    model.save(made, folder, dtype=torch.float16)
    return folder


def convolutional(kind, **settings):
    """Return the config of a tiny model with a convolutional stem."""
    stem = {"conv_dim": [16, 24], "conv_kernel": [10, 8], "conv_stride": [10, 8], "conv_bias": True}
    shape = {"hidden": 32, "layers": 3, "heads": 4, "ffn": 48, "pos_conv": 16}
    more = {"model_type": kind, "num_conv_pos_embedding_groups": 4}
    return model.tiny_config(**{**shape, **more, **stem, **settings})


def cut(backbone):
    """Remove heads and rows, narrow heads and factorise a matrix, in two layers or three."""
    layers = backbone.encoder.layers
    surgery.keep_heads(layers[0], (1, 3))
    for names, kept in zip(surgery.DIMENSIONS, ([[0, 2, 5], [1, 3, 7]], [[4], [0]]), strict=True):
        surgery.keep_dimensions(layers[0], names, torch.tensor(kept))
    for layer in layers[2:]:
        surgery.keep_heads(layer, (2,))
        surgery.keep_rows(layer, torch.arange(0))
    surgery.keep_rows(layers[1], torch.arange(0, 40, 3))
    for name, shape in (("k_proj", (32, 32)), ("out_proj", (32, 32)), ("output_dense", (32, 14))):
        down, up = torch.randn(5, shape[1]), torch.randn(shape[0], 5)
        old = surgery.matrix(layers[1], name)
        surgery.set_matrix(layers[1], name, surgery.factors(down, up, surgery.bias(old)))
    return backbone


def with_task_head(made, folder, protocol="finetune", unit="characters", symbols=("", *"abc")):
    """Save a backbone with a CTC head for these symbols; return the task's settings."""
    settings = {"kind": "ctc", "unit": unit, "metric": "cer", "protocol": protocol}
    task = make_task(settings, list(symbols))
    model.save(made, folder)
    save_head(TaskModel(made, task.outputs, protocol), task, folder)
    return settings
