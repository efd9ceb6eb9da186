"""Checkpoints of fairseq and its kin, understood and renamed as transformers names weights.

Known are HuBERT and wav2vec 2.0 of fairseq, also as s3prl converts them, WavLM of its authors, and
MelHuBERT of 20 ms. What a checkpoint holds beyond the backbone must be a known pretraining head, or
the checkpoint is refused: nothing is guessed.
"""

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from speech_pareto.models.architecture import ATTENTION, BANDS, KERNEL, STACK, STRIDE
from speech_pareto.models.weights import misfits

POSITION = "encoder.pos_conv_embed.conv"
SINGLE = {  # fairseq's names of weights, and transformers'
    "mask_emb": "masked_spec_embed",
    "encoder.pos_conv.0.bias": f"{POSITION}.bias",
    "encoder.pos_conv.0.weight_g": f"{POSITION}.parametrizations.weight.original0",
    "encoder.pos_conv.0.weight_v": f"{POSITION}.parametrizations.weight.original1",
}
MODULES = {  # ... of what has a weight and perhaps a bias
    "layer_norm": "feature_projection.layer_norm",
    "post_extract_proj": "feature_projection.projection",
    "pre_extract_proj": "feature_projection.projection",
    "encoder.layer_norm": "encoder.layer_norm",
}
CONVOLUTIONS = {"0": "conv", "2": "layer_norm", "2.1": "layer_norm"}
LAYERS = {
    **{f"self_attn.{name}": f"attention.{name}" for name in ATTENTION},
    "self_attn_layer_norm": "layer_norm",
    "final_layer_norm": "final_layer_norm",
    "fc1": "feed_forward.intermediate_dense",
    "fc2": "feed_forward.output_dense",
    "self_attn.grep_linear": "attention.gru_rel_pos_linear",  # these two of WavLM
    "self_attn.relative_attention_bias": "attention.rel_attn_embed",
}
HEADS = r"(final_proj|quantizer|project_q|target_glu)\..+|label_embs_concat"  # of pretraining
DROPOUTS = {  # fairseq's names, and transformers'
    "dropout": "hidden_dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "dropout_input": "feat_proj_dropout",
    "encoder_layerdrop": "layerdrop",
}
USUAL = {(10, 3, 3, 3, 3, 2, 2): (5, 2, 2, 2, 2, 2, 2)}  # strides by kernels


def read(path: str | Path) -> dict:
    """Return what lies in a checkpoint: tensors and plain values, no code is run.

    Raises ValueError where it holds other objects, as fairseq's dictionaries.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # fairseq's `args`
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        kinds = re.findall(r"GLOBAL (\S+)", str(error)) or ["objects of other kinds"]
        raise ValueError(
            f"{path} holds more than tensors and plain values ({', '.join(dict.fromkeys(kinds))}), "
            "which could run code and is not loaded. If you trust its origin, keep the tensors and "
            "settings alone, in an environment that has fairseq: docs/adding-a-teacher.md says how"
        ) from None
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is no checkpoint of torch: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no checkpoint: a {type(found).__name__}, not a dictionary")
    return found


def convert(checkpoint: Mapping, statistics: Tensor | None = None) -> tuple[dict, dict, bool]:
    """Return (config, tensors by transformers' names, whether waveforms are normalised).

    `statistics` (2, 40) are mean and standard deviation of the features of a MelHuBERT. Raises
    ValueError that names what is not known or not there.
    """
    weights = next((checkpoint[k] for k in ("model", "model_weight") if k in checkpoint), None)
    if not isinstance(weights, Mapping) or not all(map(torch.is_tensor, weights.values())):
        keys = ", ".join(map(str, checkpoint)) or "nothing"
        raise ValueError(f"no tensors under 'model' or 'model_weight'; the checkpoint holds {keys}")
    settings, tensors, unknown = _settings(checkpoint), {}, []
    for name, tensor in weights.items():
        if new := _renamed(name):
            tensors[new] = tensor.float()
        elif not re.fullmatch(HEADS, name):
            unknown.append(name)
    if unknown:
        raise ValueError(_some("unknown weights", unknown))
    kind = _kind(checkpoint, weights)
    config = _shape(tensors, settings) | {"model_type": kind.replace("melhubert", "hubert")}
    if kind == "melhubert":
        config |= _mel(settings, tensors, statistics)
    elif kind == "wavlm":
        table = tensors.get("encoder.layers.0.attention.rel_attn_embed.weight")
        config["num_buckets"] = 320 if table is None else table.shape[0]
        config["max_bucket_distance"] = settings.get("max_distance", 800)
    if kind != "melhubert":
        config |= _stem(tensors, settings)
    return config, tensors, bool(settings.get("normalize", False))


def _renamed(name: str) -> str | None:
    """Return transformers' name of a weight of the backbone, None if it is of nothing known."""
    if name in SINGLE:
        return SINGLE[name]
    if match := re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.grep_a", name):
        return f"encoder.layers.{match[1]}.attention.gru_rel_pos_const"
    module, _, part = name.rpartition(".")
    if part not in ("weight", "bias"):
        return None
    prefix, known = "", MODULES.get(module)
    if match := re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", module):
        prefix, known = f"encoder.layers.{match[1]}.", LAYERS.get(match[2])
    elif match := re.fullmatch(r"feature_extractor\.conv_layers\.(\d+)\.(.+)", module):
        prefix = f"feature_extractor.conv_layers.{match[1]}."
        known = CONVOLUTIONS.get(match[2])
    return known and f"{prefix}{known}.{part}"


def _settings(checkpoint: Mapping) -> dict:
    """Return the settings of model and task, wherever a checkpoint keeps them."""
    found = {}
    for key in ("args", "cfg", "model_cfg", "task_cfg", "Upstream_Config"):
        part = checkpoint.get(key) or {}
        part = vars(part) if isinstance(part, argparse.Namespace) else dict(part)
        for inner in ("task", "model", "melhubert"):  # fairseq's cfg, s3prl's and MelHuBERT's
            if isinstance(part.get(inner), Mapping):
                found |= part[inner]
        found |= {k: v for k, v in part.items() if not isinstance(v, Mapping)}
    return found


def _kind(checkpoint: Mapping, weights: Mapping) -> str:
    """Return what a checkpoint is of."""
    if "melhubert" in (checkpoint.get("Upstream_Config") or {}):
        return "melhubert"
    signs = {"wavlm": ".grep_linear.", "wav2vec2": "quantizer.", "hubert": "label_embs_concat"}
    for kind, sign in signs.items():
        if any(sign in name for name in weights):
            return kind
    raise ValueError(
        "neither a HuBERT (label_embs_concat), a wav2vec 2.0 (quantizer), a WavLM (grep_linear) "
        "nor a MelHuBERT (Upstream_Config): it cannot be told which of them it is"
    )


def _shape(tensors: Mapping[str, Tensor], settings: Mapping) -> dict:
    """Return the encoder's part of the config."""
    layers = {int(m[1]) for name in tensors if (m := re.match(r"encoder\.layers\.(\d+)\.", name))}
    needed = ("feature_projection.projection.weight", "encoder.pos_conv_embed.conv.bias")
    first = "encoder.layers.0.feed_forward.intermediate_dense.weight"
    original = "encoder.pos_conv_embed.conv.parametrizations.weight.original1"
    if missing := [name for name in (*needed, first, original) if name not in tensors]:
        raise ValueError(_some("missing weights", missing))
    if "layer_norm_first" not in settings:
        raise ValueError(
            "its settings do not say whether norms come first in a layer (layer_norm_first)"
        )
    hidden = tensors[needed[0]].shape[0]
    dropouts = {to: settings[name] for name, to in DROPOUTS.items() if name in settings}
    return {
        "hidden_size": hidden,
        "num_hidden_layers": len(layers),
        "num_attention_heads": int(settings.get("encoder_attention_heads", hidden // 64)),
        "intermediate_size": tensors[first].shape[0],
        "num_conv_pos_embeddings": tensors[original].shape[2],
        "num_conv_pos_embedding_groups": hidden // tensors[original].shape[1],
        "do_stable_layer_norm": bool(settings["layer_norm_first"]),
        **dropouts,
    }


def _stem(tensors: Mapping[str, Tensor], settings: Mapping) -> dict:
    """Return the convolutions' part of the config."""
    prefix, count = "feature_extractor.conv_layers.", 0
    while f"{prefix}{count}.conv.weight" in tensors:
        count += 1
    shapes = [tuple(tensors[f"{prefix}{i}.conv.weight"].shape) for i in range(count)]
    kernels = tuple(shape[2] for shape in shapes)
    said = str(settings.get("conv_feature_layers", ""))  # "[(512,10,5)] + [(512,3,2)] * 4 + ..."
    parts = re.findall(r"\(\d+,\s*\d+,\s*(\d+)\)\s*\](?:\s*\*\s*(\d+))?", said)
    strides = [int(stride) for stride, times in parts for _ in range(int(times or 1))]
    strides = strides or list(USUAL.get(kernels, ()))
    if len(strides) != count or not count:
        raise ValueError(f"its settings do not say the strides of its {count} convolutions")
    return {
        "conv_dim": [shape[0] for shape in shapes],
        "conv_kernel": list(kernels),
        "conv_stride": strides,
        "conv_bias": f"{prefix}0.conv.bias" in tensors,
        "feat_extract_norm": "layer" if f"{prefix}1.layer_norm.weight" in tensors else "group",
    }


def _mel(settings: Mapping, tensors: dict, statistics: Tensor | None) -> dict:
    """Return MelHuBERT's part of the config; its statistics join the tensors."""
    bands = BANDS["kaldi_fbank"]
    width, attention = settings.get("feat_emb_dim"), settings.get("attention_type", "original")
    if width != STACK * bands or attention != "original" or settings.get("learnable_mask_emb"):
        raise ValueError(
            f"of MelHuBERT that with {STACK * bands} features (20 ms), original attention and "
            f"masks of zeros is known; this has {width} features and {attention} attention"
        )
    if statistics is None or tuple(statistics.shape) != (2, bands):
        shape = "none" if statistics is None else tuple(statistics.shape)
        raise ValueError(
            f"a MelHuBERT needs `statistics`, mean and standard deviation of its features: an "
            f"array of shape (2, {bands}), found {shape}"
        )
    tensors["feature_extractor.mean"], tensors["feature_extractor.deviation"] = statistics.float()
    return {
        "conv_dim": [STACK * bands],
        "conv_kernel": [KERNEL],
        "conv_stride": [STRIDE],
        "feat_proj_layer_norm": False,
        "mask_time_prob": 0.0,  # it masks features, with zeros: there is no vector
        "compression": {"stem": "kaldi_fbank"},
    }


def check(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise ValueError that lists which weights are missing, unknown or of another shape."""
    nowhere = [f"{name} has no place" for name in found if name not in wanted]
    if problems := misfits(wanted, found) + nowhere:
        raise ValueError(_some("weights do not fit", problems))


def _some(what: str, names: list[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{what}: {', '.join(names[:8])}{more}"
