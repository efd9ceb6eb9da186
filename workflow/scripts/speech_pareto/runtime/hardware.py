"""What a job computes on: its device, and the precision that this computes fast in."""

import torch

from speech_pareto.runtime.private_api import has_cpu_bf16
from speech_pareto.runtime.processes import local


def mixed_precision(name: str = "auto") -> str:
    """Return `bf16` or `no`, accelerate's words; auto is bf16 where the hardware computes in it."""
    if name == "auto":
        fast = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else has_cpu_bf16()
        return "bf16" if fast else "no"
    return {"fp32": "no", "bf16": "bf16"}[name]


def device() -> torch.device:
    """Return the device that models are trained and run on; of several GPUs, this process's own."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local())
