"""Load, save, make and describe backbones; a folder is a transformers folder, without any code."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import torch
from torch import nn

from speech_pareto.models import architecture, model_folder
from speech_pareto.models.rebuild import rebuild
from speech_pareto.models.sparsity import hold_zeros
from speech_pareto.models.surgery import shapes_of
from speech_pareto.models.weights import misfits, read_weights
from speech_pareto.runtime.files import whole_folder
from speech_pareto.runtime.result import share, to_text

# transformers' modules of these models, and how the names of their classes begin.
CLASSES = {
    "hubert": ("hubert.modeling_hubert", "Hubert"),
    "wav2vec2": ("wav2vec2.modeling_wav2vec2", "Wav2Vec2"),
    "wavlm": ("wavlm.modeling_wavlm", "WavLM"),
    architecture.DATA2VEC: ("data2vec.modeling_data2vec_audio", "Data2VecAudio"),
}


def tiny_config(**settings):
    """Return the small config of `architecture.tiny` as transformers' object."""
    return _config(architecture.tiny(**settings))


def new(config) -> nn.Module:
    """Return a backbone with random weights after torch's seed, of layers of full shape."""
    made = _config(config if isinstance(config, Mapping) else config.to_dict())
    model = _fit(_classes(made.model_type)[1](made)).eval()
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ValueError("new() makes whole layers: compression may not cut their matrices")
    return model


def build(config: Mapping) -> nn.Module:
    """Return the module that `config` describes, on the meta device: shapes without numbers."""
    made = _config(config)
    with torch.device("meta"):
        model = _classes(made.model_type)[1](made)
    return _fit(model).eval()


def load(source) -> nn.Module:
    """Return the backbone in a folder, in eval mode, whatever its storage and heads.

    It is in fp32, or in the number format that its `compression` states. Zeros of a weight-pruned
    student hold: training leaves them zero. `preprocessor` is what the folder says of it, else what
    is usual for its kind. ValueError names the file that cannot be used, or the weights that are
    missing or of another shape.
    """
    folder = Path(source)
    config, own = model_folder.read_config(folder), model_folder.preprocessing(folder)
    try:
        model = build(config)
    except Exception as error:  # transformers' classes have errors of their own
        raise ValueError(f"{folder / model_folder.CONFIG}: {error}")
    wanted = stored(model)
    found = {}
    for name, tensor in read_weights(folder).items():
        name = name.removeprefix(f"{model.base_model_prefix}.")
        name = name.replace("conv.weight_g", "conv.parametrizations.weight.original0")
        name = name.replace("conv.weight_v", "conv.parametrizations.weight.original1")
        if name in wanted:
            # A copy lies on torch's own boundaries in memory, on which the last bit of a product
            # can depend: a model gives the same bits from any file.
            found[name] = tensor.to(wanted[name].dtype, copy=True)
    if "masked_spec_embed" in wanted:  # only masking needs it, and some conversions leave it out
        found.setdefault(
            "masked_spec_embed", torch.zeros_like(wanted["masked_spec_embed"], device="cpu")
        )
    if problems := misfits(wanted, found):
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(f"{folder}: {'; '.join(problems[:5])}{more}")
    model.load_state_dict(found, assign=True, strict=False)  # shared layers come once
    if own is not None:
        model.preprocessor = own
    if architecture.section(config).get("zeros"):
        hold_zeros(model)
    return model


def describe(model: nn.Module) -> dict:
    """Return the config of `model` as it now stands: what `save` writes and `build` takes."""
    config = model.config.to_dict()
    for key in ("_name_or_path", "dtype", "transformers_version"):
        config.pop(key, None)
    unmasked = not config["mask_time_prob"] + config["mask_feature_prob"]
    if unmasked and hasattr(model, "masked_spec_embed"):  # with 0 it would not come back
        config["mask_time_prob"] = architecture.DEFAULTS["mask_time_prob"]
    config["architectures"] = [type(model).__name__]
    layers = shapes_of(model)
    zeros = architecture.section(config).get("zeros", 0)
    text = json.dumps(architecture.with_layers(config, layers, zeros))
    return json.loads(text)  # lists, no tuples


def stored(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of `model` by name, those of shared layers once."""
    shapes = enumerate(shapes_of(model))
    again = tuple(f"encoder.layers.{i}." for i, shape in shapes if shape.shared is not None)
    return {name: x for name, x in model.state_dict().items() if not name.startswith(again)}


def save(
    model: nn.Module,
    folder: str | Path,
    dtype: torch.dtype = torch.float32,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write `model` to `folder`, whole or not at all; `texts` are further files, by name.

    `dtype` is how fp32 weights are stored: fp16 halves the bytes, and `load` gives fp32 again.
    """
    from safetensors.torch import save_file

    config = describe(model)
    own = architecture.section(config).get("number_format", "float32")
    dtype = getattr(torch, own) if own in ("float16", "bfloat16") else dtype
    config |= {"dtype": str(dtype).removeprefix("torch.")}
    tensors = {}
    for name, tensor in stored(model).items():
        kind = dtype if tensor.dtype == torch.float32 else tensor.dtype
        tensors[name] = tensor.detach().to("cpu", kind).contiguous()
    own = {model_folder.CONFIG: config, model_folder.PREPROCESSOR: model.preprocessor}
    texts = {name: to_text(value) for name, value in own.items()} | dict(texts or {})
    with whole_folder(folder) as part:
        save_file(tensors, part / model_folder.WEIGHTS, metadata={"format": "pt"})
        share(part / model_folder.WEIGHTS)
        for name, text in texts.items():
            (part / name).write_text(text, encoding="utf-8", newline="\n")


def _classes(model_type: str) -> tuple[type, type]:
    """Return transformers' config and model class of a model type; no other model is imported."""
    file, name = CLASSES[model_type]
    module = import_module(f"transformers.models.{file}")
    return getattr(module, f"{name}Config"), getattr(module, f"{name}Model")


def _config(config: Mapping):
    """Return transformers' config object; attention is plain, the fastest on a CPU in bf16."""
    architecture.complete(config)
    settings = {key: value for key, value in config.items() if key not in ("dtype", "model_type")}
    made = _classes(config["model_type"])[0](**settings)
    made._attn_implementation = "eager"
    # What a model's code asks of its config, though transformers gives the config no such key.
    for key, value in (("apply_spec_augment", True), ("mask_feature_min_masks", 0)):
        if not hasattr(made, key):  # data2vec lacks the first, WavLM the second
            setattr(made, key, value)
    return made


def _fit(model: nn.Module) -> nn.Module:
    """Give a plain model the stem, layer shapes and numbers of its config's `compression`."""
    rebuild(model)
    config = model.config.to_dict()
    if own := architecture.section(config).get("number_format"):
        from speech_pareto.models.quantisation import set_precision

        set_precision(model, own)
    model.preprocessor = model_folder.FEATURES | {"do_normalize": _normalises(config)}
    return model


def _normalises(config: Mapping) -> bool:
    """Return whether published models of this kind expect waveforms of mean 0 and variance 1."""
    if architecture.section(config).get("stem"):
        return False
    return config["model_type"] != "wavlm" or config["feat_extract_norm"] == "layer"
