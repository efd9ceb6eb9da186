"""What a model costs: parameters, bytes, multiply-accumulates, and time, memory, energy of a pass.

MACs are dense: zeros are multiplied like other numbers, and that is what a dense tensor's time
follows. `theoretical` MACs leave out the products with zero weights of the layers' matrices,

    M_theoretical = M - T * sum over the matrices W of (entries of W that are zero)

with M dense MACs and T frames in W's layer: what a kernel could save that skips each single zero.

Where utterances leave a model early, all of these are means over utterances, see `exits`.
"""

import math
import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from operator import mul
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from speech_pareto.models import architecture, lookahead, operations
from speech_pareto.models.backbone import describe
from speech_pareto.models.frame_counts import frames_of_layers
from speech_pareto.models.model_folder import WEIGHTS
from speech_pareto.models.packed import packed
from speech_pareto.models.quantisation import computed_in
from speech_pareto.models.surgery import linears
from speech_pareto.profiling.allocator import keep_freed_memory
from speech_pareto.profiling.energy import energy
from speech_pareto.profiling.exits import WHOLE, Depths
from speech_pareto.runtime import private_api
from speech_pareto.tasks.head import HEAD

LENGTHS = (1, 5, 15, 30)  # seconds of audio at which MACs are counted


def cost(
    teacher: nn.Module,
    student: nn.Module,
    folder: str | Path,
    settings: Mapping,
    projections: int = 0,
    depths: Depths = WHOLE,
) -> dict:
    """Return the `cost` section of a result for the student stored in `folder`.

    `settings`: audio_seconds, batch, repeats; optionally `device` (cpu), `threads`, `conditions`
    (more of such mappings, with `precision`) and `cores`, how many threads these may use. `depths`
    is how many layers utterances run.
    """
    folder, seconds = Path(folder), settings["audio_seconds"]
    main = measure(teacher, student, settings, depths)
    peak = main.pop("peak_memory_bytes")
    student.to("cpu")
    config, zeros = describe(student), zero_weights(student)
    audio = noise(seconds)
    counted = depths.each(student, lambda: macs(student, audio) / seconds)

    def planned(length: float) -> dict[str, float]:
        return depths.mean({d: planned_macs(config, zeros, length, d) for d in depths.shares})

    return {
        "parameters": parameters(student) | head_parameters(student, folder, projections),
        "teacher_parameters": architecture.remaining(describe(teacher)),
        "ratio": round(architecture.ratio(describe(teacher), config), 6),
        **sizes(student, folder / WEIGHTS),
        "computed_in": computed_in(student),
        "macs_per_second": depths.mean(counted),
        "theoretical_macs_per_second": planned(seconds)["theoretical_total"] / seconds,
        "macs": {str(length): planned(length) for length in LENGTHS},
        "latency": lookahead.latency(config) or seconds,
        "wall_clock": main,
        "peak_memory_bytes": peak,
        "conditions": [
            under(teacher, student, condition, settings.get("cores"), depths)
            for condition in settings.get("conditions", ())
        ],
        **({} if depths is WHOLE else {"exits": exits(depths, counted)}),
    }


def exits(depths: Depths, counted: Mapping) -> dict:
    """Return where utterances leave; `counted` are MACs per second by depth."""
    return {
        "utterances": depths.utterances,
        "layers": {str(depth): round(share, 6) for depth, share in depths.shares.items()},
        "mean_layers": depths.mean({depth: depth for depth in depths.shares}),
        "macs_per_second_p95": depths.high(counted),
    }


def noise(seconds: float, batch: int = 1) -> Tensor:
    """Return the same noise (batch, samples) each time."""
    generator = torch.Generator().manual_seed(0)
    return 0.05 * torch.randn(batch, round(seconds * architecture.SAMPLE_RATE), generator=generator)


def parameters(model: nn.Module) -> dict[str, int]:
    """Return a backbone's parameters: total, nonzero, stem, encoder (all but the stem)."""
    total = sum(p.numel() for p in model.parameters())
    stem = sum(p.numel() for p in model.feature_extractor.parameters())
    if packed(model):  # what rounding to few bits made zero, nothing pruned
        nonzero = total - architecture.section(describe(model)).get("zeros", 0)
    else:
        nonzero = sum(int(p.count_nonzero()) for p in model.parameters())
    return {"total": total, "nonzero": nonzero, "stem": stem, "encoder": total - stem}


def head_parameters(student: nn.Module, folder: Path, projections: int = 0) -> dict[str, int]:
    """Return the parameters of a student's heads, and of all `with_heads`.

    `exits` are branches at which utterances leave; `task_head` lies in the student's folder, 0 for
    one of no task. `projections` a student is
    distilled with; no folder holds them, but publications count them.
    """
    task = 0
    if (folder / HEAD).is_file():
        from safetensors.torch import load_file

        task = sum(tensor.numel() for tensor in load_file(folder / HEAD).values())
    exits = architecture.exit_parameters(describe(student))
    whole = sum(p.numel() for p in student.parameters()) + task + projections + exits
    heads = {"task_head": task, "projections": projections, "with_heads": whole}
    return heads | ({"exits": exits} if exits else {})


def sizes(model: nn.Module, file: Path) -> dict[str, int]:
    """Return the bytes of a weights file as it is, and as it would be in fp32 and in fp16."""
    with file.open("rb") as stream:
        header = 8 + int.from_bytes(stream.read(8), "little")
    weights = sum(p.numel() for p in model.parameters())
    weights += architecture.exit_parameters(describe(model))
    stored = file.stat().st_size
    return {"bytes": stored, "bytes_fp32": header + 4 * weights, "bytes_fp16": header + 2 * weights}


@torch.no_grad()
def macs(model: nn.Module, audio: Tensor) -> int:
    """Return multiply-accumulates of a pass: products, convolutions, FFT; zeros count too.

    A product of small integers counts like one of floating-point numbers.
    """
    uncounted = {private_api.REAL_FFT: fft_flops, private_api.INTEGER_PRODUCT: product_flops}
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


def zero_weights(model: nn.Module) -> list[int]:
    """Return how many weights of each layer's matrices are zero; biases make no products."""
    return [
        sum(part.weight.numel() - int(part.weight.count_nonzero()) for part in own.values())
        for own in map(linears, model.encoder.layers)
    ]


def planned_macs(
    config: Mapping, zeros: Sequence[int], seconds: float, depth: int | None = None
) -> dict[str, float]:
    """Return MACs of one recording: `total` and `per_second`, dense, and `theoretical_total`.

    `zeros` are those of each layer, `depth` is how many layers run: None is all.
    """
    dense = operations.macs(config, seconds, depth)
    frames = frames_of_layers(config, dense["frames"])[:depth]
    return {
        "total": dense["total"],
        "per_second": dense["total"] / seconds,
        "theoretical_total": dense["total"] - sum(map(mul, frames, zeros)),
    }


def under(
    teacher: nn.Module,
    student: nn.Module,
    condition: Mapping,
    cores: int | None = None,
    depths: Depths = WHOLE,
) -> dict:
    """Return what is measured under a condition, or the `reason` why nothing is.

    `cores` is what `all` threads are, and the most there may be; None: torch's own number.
    """
    cores = cores or torch.get_num_threads()
    threads = cores if condition["threads"] == "all" else condition["threads"]
    entry = {"name": name(condition)}
    if condition["device"] == "cuda" and not torch.cuda.is_available():
        return entry | {"reason": "there is no GPU"}
    if threads > cores:
        return entry | {"reason": f"{threads} threads were asked, the job has {cores}"}
    try:
        return entry | measure(teacher, student, {**condition, "threads": threads}, depths)
    except torch.OutOfMemoryError:
        return entry | {"reason": "out of memory"}


def name(condition: Mapping) -> str:
    """Return what columns call a condition, as in `10s_batch4_threads1_cpu_fp32`."""
    pattern = "{audio_seconds:g}s_batch{batch}_threads{threads}_{device}_{precision}"
    return pattern.format(**condition)


def measure(
    teacher: nn.Module, student: nn.Module, condition: Mapping, depths: Depths = WHOLE
) -> dict:
    """Return wall clock, peak memory and, where the platform tells it, energy.

    `condition`: audio_seconds; optionally batch, threads, device, precision and repeats. All of a
    batch leave behind the same layer, where they leave early at all.
    """
    seconds, batch = condition["audio_seconds"], condition.get("batch", 1)
    precision, device = condition.get("precision", "fp32"), condition.get("device", "cpu")
    device = torch.device(device)
    audio = noise(seconds, batch).to(device)
    teacher, student = teacher.eval().to(device), student.eval().to(device)
    with using(condition.get("threads")):
        found = {
            "audio_seconds": seconds,
            "batch": batch,
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "precision": precision,
        }
        passes = {"energy_joules": student, "teacher_energy_joules": teacher}

        def timed() -> dict:
            own = race(teacher, student, audio, condition.get("repeats", 7))
            used = energy(device, {key: partial(_timed, m, audio) for key, m in passes.items()})
            return own | used

        with arithmetic(device, precision):
            found |= over_utterances(depths.each(student, timed), depths)
    with arithmetic(device, precision):  # anew: its copies of the weights count
        peaks = depths.each(student, lambda: peak_memory(student, audio))
        found["peak_memory_bytes"] = max(peaks.values())
    return found


def over_utterances(timed: Mapping[int | None, dict], depths: Depths) -> dict:
    """Return means over utterances of what was timed at each depth.

    A speed-up is that of the mean time. With exits there is also the 95th percentile of the time,
    and the speed-up of the utterances that take so long.
    """
    if depths is WHOLE:
        return timed[None]
    found, slow = depths.mean(timed), depths.high(timed)
    for key in ("speedup", "speedup_low", "speedup_high"):
        found[key] = 1 / depths.mean({depth: 1 / own[key] for depth, own in timed.items()})
    return found | {"seconds_p95": slow["seconds"], "speedup_p95": slow["speedup"]}


@contextmanager
def using(threads: int | None) -> Iterator[None]:
    """Let torch use so many threads, then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def arithmetic(device: torch.device, precision: str) -> torch.autocast:
    """Return a context with matrix products in bf16, or with everything as it is (fp32).

    Weights are cast once in it, at the first pass.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@torch.no_grad()
def race(teacher: nn.Module, student: nn.Module, audio: Tensor, repeats: int) -> dict[str, float]:
    """Return medians of the seconds per pass, and quartiles of the speed-up over pairs of passes.

    The two take turns, and turns at going first, so what slows the machine slows both.
    """
    keep_freed_memory()  # or new pages are timed, too
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

    On a GPU its allocator says it, less what else is there, such as a teacher; on a CPU the
    storages of all tensors are counted, so it repeats exactly.
    """
    held = sum(t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers()))
    held += audio.untyped_storage().nbytes()
    if audio.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(audio.device)
        before = torch.cuda.memory_allocated(audio.device)
        model(audio)
        return held + torch.cuda.max_memory_allocated(audio.device) - before
    with _Storages() as storages:
        model(audio)
    return held + storages.peak


class _Storages(private_api.TorchDispatchMode):
    """Counts the bytes of storages that operations make, from making to freeing."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known = set()

    def __torch_dispatch__(self, function: Callable, types, args=(), kwargs=None):
        """Run an operation and count the storages it returns that it was not given."""
        given = {_key(x) for x in private_api.tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        result = function(*args, **(kwargs or {}))
        for tensor in private_api.tree_leaves(result):
            if isinstance(tensor, Tensor) and _key(tensor) not in given | self.known:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        """Count a storage until it is freed."""
        key, size = private_api.storage_key(storage), storage.nbytes()
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
    return private_api.storage_key(tensor.untyped_storage())


@torch.no_grad()
def _timed(model: nn.Module, audio: Tensor) -> float:
    """Return the seconds of one pass."""
    began = time.perf_counter()
    model(audio)
    if audio.device.type == "cuda":
        torch.cuda.synchronize(audio.device)
    return time.perf_counter() - began
