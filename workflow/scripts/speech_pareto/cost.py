"""What a model costs: parameters, multiply-accumulates, wall clock beside the teacher, memory."""

import math
import statistics
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from speech_pareto import architecture
from speech_pareto.model import WEIGHTS, describe


def cost(teacher: nn.Module, student: nn.Module, folder: str | Path, settings: Mapping) -> dict:
    """Return the `cost` section of a result for the student stored in `folder`.

    `settings`: audio_seconds, batch, repeats; optionally `device` (cpu).
    """
    seconds, batch = settings["audio_seconds"], settings.get("batch", 1)
    device = torch.device(settings.get("device", "cpu"))
    audio = noise(seconds, batch).to(device)
    teacher, student = teacher.eval().to(device), student.eval().to(device)
    return {
        "parameters": parameters(student),
        "teacher_parameters": architecture.remaining(describe(teacher)),
        "ratio": round(architecture.ratio(describe(teacher), describe(student)), 6),
        "bytes": (Path(folder) / WEIGHTS).stat().st_size,
        "macs_per_second": macs(student, audio) / (seconds * batch),
        "wall_clock": {
            "audio_seconds": seconds,
            "batch": batch,
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            **race(teacher, student, audio, settings.get("repeats", 7)),
        },
        "peak_memory_bytes": peak_memory(student, audio),
    }


def noise(seconds: float, batch: int = 1) -> Tensor:
    """Return the same noise (batch, samples) each time."""
    generator = torch.Generator().manual_seed(0)
    return 0.05 * torch.randn(batch, round(seconds * architecture.SAMPLE_RATE), generator=generator)


def parameters(model: nn.Module) -> dict[str, int]:
    """Return a backbone's parameters: total, nonzero, stem, encoder (all but the stem)."""
    total = sum(p.numel() for p in model.parameters())
    stem = sum(p.numel() for p in model.feature_extractor.parameters())
    nonzero = sum(int(p.count_nonzero()) for p in model.parameters())
    return {"total": total, "nonzero": nonzero, "stem": stem, "encoder": total - stem}


@torch.no_grad()
def macs(model: nn.Module, audio: Tensor) -> int:
    """Return multiply-accumulates of a pass: products, convolutions, FFT; zeros count too.

    A product of small integers counts like one of floating-point numbers.
    """
    uncounted = {torch.ops.aten._fft_r2c: fft_flops, torch.ops.aten._int_mm: product_flops}
    with FlopCounterMode(display=False, custom_mapping=uncounted) as counter:
        model(audio)
    return counter.get_total_flops() // 2


def product_flops(left: torch.Size, right: torch.Size, *_, **__) -> int:
    """Return the operations of a product of two matrices."""
    return 2 * left[0] * left[1] * right[1]


def fft_flops(shape: torch.Size, dims: list[int], *_, **__) -> int:
    """Return the operations of real Fourier transforms: 2.5 n log2 n each."""
    length = shape[dims[-1]]
    return round(2.5 * length * math.log2(length)) * (math.prod(shape) // length)


@torch.no_grad()
def race(teacher: nn.Module, student: nn.Module, audio: Tensor, repeats: int) -> dict[str, float]:
    """Return medians of the seconds per pass, and quartiles of the speed-up over pairs of passes.

    The two take turns, and turns at going first, so what slows the machine slows both.
    """
    for model in (teacher, student):
        _timed(model, audio)  # warm-up
    pairs = []
    for number in range(repeats):
        order = (teacher, student) if number % 2 == 0 else (student, teacher)
        times = [_timed(model, audio) for model in order]
        pairs.append(times if number % 2 == 0 else times[::-1])
    low, middle, high = quartiles([theirs / ours for theirs, ours in pairs])
    ours = statistics.median(pair[1] for pair in pairs)
    return {
        "seconds": ours,
        "teacher_seconds": statistics.median(pair[0] for pair in pairs),
        "speedup": middle,
        "speedup_low": low,
        "speedup_high": high,
        "rtf": ours / (audio.numel() / architecture.SAMPLE_RATE),
    }


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


@torch.no_grad()
def peak_memory(model: nn.Module, audio: Tensor) -> int:
    """Return the bytes of parameters, plus the most that tensors of one pass take at a time.

    On a GPU its allocator says it; on a CPU the storages of all tensors are counted, so it repeats
    exactly.
    """
    if audio.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(audio.device)
        model(audio)
        return torch.cuda.max_memory_allocated(audio.device)
    held = sum(t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers()))
    with _Storages() as storages:
        model(audio)
    return held + audio.untyped_storage().nbytes() + storages.peak


class _Storages(TorchDispatchMode):
    """Counts the bytes of storages that operations make, from making to freeing."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known = set()

    def __torch_dispatch__(self, function: Callable, types, args=(), kwargs=None):
        """Run an operation and count the storages it returns that it was not given."""
        given = {_key(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and _key(tensor) not in given | self.known:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        """Count a storage until it is freed."""
        key, size = storage._cdata, storage.nbytes()
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        """Forget a storage."""
        self.known.discard(key)
        self.now -= size


def _key(tensor: Tensor) -> int:
    """Return what tells a tensor's storage from others."""
    return tensor.untyped_storage()._cdata


def _timed(model: nn.Module, audio: Tensor) -> float:
    """Return the seconds of one pass."""
    began = time.perf_counter()
    model(audio)
    if audio.device.type == "cuda":
        torch.cuda.synchronize(audio.device)
    return time.perf_counter() - began
