"""Private names of torch and accelerate that have no public twin: what a new version may move.

Those of Snakemake are in `snakemake_patches.py`. tests/test_private_api.py uses each of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

try:
    from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
    from torch.utils._pytree import tree_leaves as tree_leaves
    from torch.utils._pytree import tree_map as tree_map

    integer_product = torch._int_mm  # int8 (m, k) by int8 (k, n): int32 (m, n), on CPUs
    INTEGER_PRODUCT = torch.ops.aten._int_mm  # the same as counters and exporters know it
    REAL_FFT = torch.ops.aten._fft_r2c
    _BF16 = (torch.cpu._is_avx512_bf16_supported, torch.cpu._is_amx_tile_supported)
except (ImportError, AttributeError) as error:
    raise ImportError(f"torch {torch.__version__} has moved a name that is used here: {error}")


def has_cpu_bf16() -> bool:
    """Return whether the processor multiplies bf16 itself (emulation is slower than fp32)."""
    return any(supported() for supported in _BF16)


def storage_key(storage: torch.UntypedStorage) -> int:
    """Return what tells a storage from all others that are alive, also from empty ones."""
    return storage._cdata


def forget_precision() -> None:
    """Let the next Accelerator have another precision than the last one of this process."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)


@contextmanager
def cast_ends(model: nn.Module) -> Iterator[None]:
    """Undo at the end of a block what `Accelerator.prepare_model` did to a model's `forward`.

    accelerate's own `unwrap_model` leaves a bound method in the model, which its copies share.
    """
    try:
        yield
    finally:
        for name in ("forward", "_original_forward"):
            model.__dict__.pop(name, None)
