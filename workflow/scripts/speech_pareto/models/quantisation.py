"""Models in small numbers: fp16 or bf16 throughout, int8 matrices, or few bits; and their training.

int8: row j of a layer's matrix is held as integers q in -127 … 127 and one scale s_j; each frame x
is rounded likewise when it comes, with a scale of its own,

    y_j = s_j t ⟨q_j, p⟩ + b_j,   s_j = max|W_j| / 127,   t = max|x| / 127,   p = round(x / t)

(dynamic quantisation, symmetric, per channel and per frame: with one scale for a whole batch, as
torch.ao's `quantize_dynamic` has it, an utterance would depend on the others in its batch). The
product is torch's own of int8 matrices. Everything but the layers' matrices stays in fp32.

intx: weights of 2 to 8 bits, see `packed`.

Training goes on in fp32 copies that are rounded again when it ends (Micikevicius et al., ICLR 2018,
https://arxiv.org/abs/1710.03740). For int8 the forward pass rounds weights and frames as the
finished model will, and gradients pass straight through the rounding (Jacob et al., CVPR 2018,
https://arxiv.org/abs/1712.05877).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from speech_pareto.models import packed, storage
from speech_pareto.models.sparsity import hold_zeros
from speech_pareto.models.surgery import linear, matrix, matrix_names, set_matrix
from speech_pareto.runtime.private_api import integer_product, tree_map

HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def number_format(model: nn.Module) -> str | None:
    """Return the number format that a model's `compression` section states, None for plain fp32."""
    return (getattr(model.config, "compression", None) or {}).get("number_format")


def computed_in(model: nn.Module) -> str:
    """Return in which numbers the matrices of `model` are multiplied when it runs."""
    name = number_format(model) or "fp32"
    return "fp32, unpacked in each pass" if name == "intx" else name


def set_precision(model: nn.Module, name: str) -> None:
    """Turn `model` into small numbers in place: `float16`, `bfloat16`, `int8` or, if empty, `intx`.

    Of few bits the config says all but the numbers.
    """
    if name == "intx":
        config = model.config.to_dict()
        packed.shape(model, config["compression"]["bits"], storage.bits_of(config))
        return
    if name == "int8":
        _replace(model, Int8Linear.of)
        return
    _cast(model, HALVES[name])
    for module in (model.feature_extractor, model.feature_projection):
        module.register_forward_pre_hook(_cast_inputs)
    model.register_forward_hook(_float_outputs)


@contextmanager
def trainable(model: nn.Module) -> Iterator[None]:
    """Hold a model of small numbers in fp32 while it is trained; a frozen one stays as it is."""
    name = number_format(model)
    if not name or not any(parameter.requires_grad for parameter in model.parameters()):
        yield
    elif name in ("int8", "intx"):
        held = {} if name == "int8" else packed.hold_in_fp32(model)
        if name == "int8":
            _replace(model, _rounding)
        if model.config.compression.get("zeros"):
            hold_zeros(model)
        try:
            yield
        finally:
            packed.pack_again(held)
            if name == "int8":
                _replace(model, Int8Linear.of)
    else:
        _cast(model, torch.float32)
        try:
            yield
        finally:
            _cast(model, HALVES[name])


def quantise(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 numbers (..., columns) and scales (..., 1) of rows (..., columns)."""
    scale = rows.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / 127
    return (rows / scale).round().to(torch.int8), scale


class Int8Linear(nn.Linear):
    """A linear layer with int8 `weight` (outputs, inputs) and fp32 `scale` (outputs,)."""

    @classmethod
    def of(cls, module: nn.Linear) -> Int8Linear:
        """Return `module` in int8, on its device."""
        numbers, scale = quantise(_weight(module))
        with torch.device("meta"):
            made = cls(module.in_features, module.out_features, bias=False)
        made.weight = nn.Parameter(numbers, requires_grad=False)
        made.register_buffer("scale", scale[:, 0])
        made.bias = module.bias
        return made

    def dequantised(self) -> Tensor:
        """Return the weights (outputs, inputs) in fp32."""
        return self.weight * self.scale[:, None]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (..., outputs) in fp32 for inputs (..., inputs)."""
        outputs = _Product.apply(inputs.float(), self.weight, self.scale)
        return outputs if self.bias is None else outputs + self.bias


class _Product(torch.autograd.Function):
    """The product with int8 weights; its gradient passes straight through the rounding."""

    @staticmethod
    def forward(context, inputs: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        context.save_for_backward(weight, scale)
        frames, steps = quantise(inputs.flatten(0, -2))
        if inputs.is_cpu:
            sums = integer_product(frames, weight.T)
        else:  # a GPU has this product for some shapes only
            sums = frames.float() @ weight.T.float()
        return (sums * steps * scale).unflatten(0, inputs.shape[:-1])

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None, None]:
        weight, scale = context.saved_tensors
        return (gradient * scale) @ weight.float(), None, None


class _Rounded(nn.Module):
    """Rounds rows (..., columns) to what int8 can say; the gradient passes straight through."""

    def forward(self, rows: Tensor) -> Tensor:
        numbers, scale = quantise(rows.detach().float())
        return rows + (numbers * scale - rows).detach()


def _rounding(module: Int8Linear) -> nn.Linear:
    """Return a linear layer with fp32 weights that computes what `module` does, but can train."""
    made = linear(module.dequantised(), module.bias)
    made.bias = module.bias  # the same parameter, with its hooks
    parametrize.register_parametrization(made, "weight", _Rounded())
    made.register_forward_pre_hook(_round_inputs)
    return made


def _weight(module: nn.Linear) -> Tensor:
    """Return the weights of a linear layer, without the rounding that training puts on them."""
    if parametrize.is_parametrized(module):
        return module.parametrizations.weight.original.detach()
    return module.weight.detach()


def _replace(model: nn.Module, make) -> None:
    """Put `make(module)` in the place of each linear layer in the layers' matrices."""
    for layer in model.encoder.layers:
        for name in matrix_names(layer):
            module = matrix(layer, name)
            if isinstance(module, nn.Sequential):
                for part, child in module.named_children():
                    setattr(module, part, make(child))
            else:
                module = make(module)
            set_matrix(layer, name, module)


def _cast(model: nn.Module, dtype: torch.dtype) -> None:
    """Give all parameters another type; a log-mel stem has none and computes in fp32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm1d)):
        for name in ("running_mean", "running_var"):  # torch wants them to be of one type
            setattr(norm, name, getattr(norm, name).to(dtype))


def _cast_inputs(module: nn.Module, inputs: tuple) -> tuple | None:
    """Give a module's input the type of its weights, if it has any."""
    first = next(module.parameters(), None)
    return None if first is None else (inputs[0].to(first.dtype), *inputs[1:])


def _round_inputs(module: nn.Module, inputs: tuple) -> tuple:
    """Round a matrix's input as the finished model will."""
    return (_Rounded()(inputs[0]),)


def _float_outputs(module: nn.Module, inputs: tuple, output):
    """Return a model's output in fp32, whatever it computes in."""
    return tree_map(lambda x: x.float() if isinstance(x, Tensor) else x, output)
