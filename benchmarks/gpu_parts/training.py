"""Part b: how fast models of real size train in the one loop, against the same model in a bare one.

A row trains HuBERT Base or Large, random weights, with one method on batches of noise:

    steps/s, audio   of the loop: batches read, padded and normalised, losses logged, gradients
                     clipped; medians over steps, after a warm-up
    MFU              floating-point operations of a step, as torch's FlopCounterMode counts forward
                     and backward of teacher and student, over its time and the GPU's dense peak
    idle             share of a step in which no kernel runs, so the GPU waits for the host: 1 − the
                     union of all kernels' times in two profiled steps / two unprofiled ones
    waits            times in a step that the host waits until the GPU is done, and so cannot
                     prepare what comes next; transformers itself does so in each forward pass
    bare             time of a step in a bare loop / in ours: the same loss, on a batch that lies on
                     the GPU, with autocast, backward and AdamW and nothing else; 1: we add nothing
"""

import contextlib
import copy
import json
import re
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from gpu_parts import synthetic
from speech_pareto.compression import method, recipes, runner
from speech_pareto.data.audio import SAMPLE_RATE
from speech_pareto.models.backbone import describe
from speech_pareto.runtime import hardware
from speech_pareto.training import finetuning, loop
from speech_pareto.training.settings import FineTuning

SECONDS = 12.5  # of a recording
WARMUP, TIMED, PROFILED = 4, 6, 2  # steps
FINE_TUNING = "fine-tuning with CTC"
METHODS = {
    "distillation": {"distillation": {}},
    "map reuse": {"masking_distillation": {}},
    "DPHuBERT": {"dphubert": {"final_steps": 1}},
    "self-pinching": {"self_pinching": {}},
    "iterative pruning": {
        "iterative_pruning": {"schedule": [0.5], "units": 50, "unit_seconds": 25.0}
    },
    FINE_TUNING: None,
}
# These train as published, but for their steps and their batches.
PUBLISHED = ("armhubert-s", "distilhubert", "fithubert", "starhubert", "dphubert")
HERE = ("steps", "final_steps", "batch_seconds", "batch_utterances", "min_seconds", "max_seconds")
# Dense bf16 operations per second, from NVIDIA's data sheets; the first name that fits counts.
PEAKS = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A40": 150e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
}


def rows(tiny: bool) -> list[str]:
    """Return the rows, most telling first."""
    if tiny:
        return [f"tiny, {name}, 2 s" for name in ("distillation", FINE_TUNING)]
    first = [f"{model}, {name}, {seconds} s" for model, seconds in SIZES for name in METHODS]
    more = [("hubert-base", 100), ("hubert-base", 400), ("hubert-large", 400)]
    names = ("distillation", FINE_TUNING)
    larger = [f"{model}, {name}, {seconds} s" for model, seconds in more for name in names]
    return first + [f"hubert-base, {name}, 200 s" for name in PUBLISHED] + larger


SIZES = (("hubert-base", 200), ("hubert-large", 100))


class Watch:
    """Stands in the place of the training loop's loss: notes when each step begins."""

    def __init__(self, loss, cuda: bool) -> None:
        self.loss, self.cuda = loss, cuda
        self.begun, self.batch, self.busy, self.profile = [], None, None, None
        self.waits, self.counting = None, contextlib.ExitStack()

    def __call__(self, batch):
        """Return the loss of a batch; profile the last steps."""
        number = len(self.begun)
        if self.cuda and number == WARMUP + TIMED + 1:
            torch.cuda.synchronize()
            kernels = [torch.profiler.ProfilerActivity.CUDA]
            self.profile = torch.profiler.profile(activities=kernels)
            self.profile.start()
        if self.profile is not None and number == WARMUP + TIMED + 1 + PROFILED:
            torch.cuda.synchronize()
            self.profile.stop()
            self.busy = busy(self.profile)
            self.profile = None
            self.said = self.counting.enter_context(warnings.catch_warnings(record=True))
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
        if self.cuda and number == STEPS - 1:
            torch.cuda.set_sync_debug_mode("default")
            self.counting.close()
            self.waits = sum("synchronizing" in str(one.message) for one in self.said)
        self.begun.append(time.perf_counter())
        self.batch = batch
        return self.loss(batch)

    def step_seconds(self) -> float:
        """Return the median seconds of a step that counts."""
        begun = self.begun[WARMUP : WARMUP + TIMED + 1]
        return statistics.median(b - a for a, b in zip(begun, begun[1:], strict=False))


STEPS = WARMUP + TIMED + PROFILED + 3  # waits are counted in the last but one


def busy(profile) -> float | None:
    """Return the seconds in which any kernel or copy ran; None if the profiler saw none."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(file))
        events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    kinds = ("kernel", "gpu_memcpy", "gpu_memset")
    spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e.get("cat") in kinds)
    if not spans:
        return None
    total, end = 0.0, spans[0][0]
    for begin, finish in spans:  # microseconds
        total += max(0.0, finish - max(begin, end))
        end = max(end, finish)
    return total / 1e6


@contextlib.contextmanager
def watched(found: list):
    """Let the one training loop be watched, and followed by a bare one; `found` gets what was seen.

    Only its first call in a row counts.
    """
    original = loop.train

    def train(model, batch, loss, settings, *arguments, **named):
        if found:
            return original(model, batch, loss, settings, *arguments, **named)
        cuda = hardware.device().type == "cuda"
        watch = Watch(loss, cuda)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        curve = original(model, batch, watch, settings, *arguments, **named)
        facts = {"step": watch.step_seconds(), "busy": watch.busy, "waits": watch.waits}
        facts["memory"] = torch.cuda.max_memory_allocated() if cuda else None
        facts["audio"] = audio_seconds(watch.batch)
        with loop.every_layer_runs(model):  # as in the loop
            found.append(facts | bare(model, loss, watch.batch, settings))
        return curve

    loop.train = finetuning.train = train
    try:
        yield
    finally:
        loop.train = finetuning.train = original


def audio_seconds(batch) -> float:
    """Return the seconds of audio in a batch without its padding."""
    mask = batch["attention_mask"] if isinstance(batch, dict) else batch[2]
    return int(mask.sum()) / SAMPLE_RATE


def bare(model, loss, batch, settings) -> dict:
    """Return seconds and operations of a step in a loop with nothing but the step."""
    device = hardware.device()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, fused=True)
    bf16 = hardware.mixed_precision(settings.precision) == "bf16"

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            value = loss(batch)[0]
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    def wait() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    model.train()
    for _ in range(2):
        step()
    began = wait()
    for _ in range(TIMED):
        step()
    seconds = (wait() - began) / TIMED
    with FlopCounterMode(display=False) as counter:
        step()
    model.eval()
    return {"bare": seconds, "flops": counter.get_total_flops()}


def run(row: str, tiny: bool, scratch: Path) -> dict:
    """Train a row's model for some steps; return what was seen."""
    model_name, name, seconds = row.split(", ")
    seconds = float(seconds.removesuffix(" s"))
    length = 1.0 if tiny else SECONDS
    corpus = scratch / f"noise-{length}"
    if not corpus.is_dir():
        part = corpus.with_suffix(".part")
        synthetic.corpus(part, 16 if tiny else 128, length, speech=False)
        part.rename(corpus)
    torch.use_deterministic_algorithms(True, warn_only=True)
    device = hardware.device()
    teacher = synthetic.random_model(synthetic.base(tiny, model_name), device)
    student = copy.deepcopy(teacher)
    teacher.requires_grad_(False)
    batch_seconds = seconds * 1.001  # a whole number of recordings fits
    common = {"learning_rate": 1e-5, "batch_seconds": batch_seconds, "steps": STEPS}
    found = []
    with watched(found):
        if name == FINE_TUNING:
            started = finetuning.begin(synthetic.TASK, student, scratch / "no-head", [corpus])
            settings = FineTuning(**common, precision="bf16", mask_share=0.2, mask_channels=0.1)
            finetuning.fit(*started, settings, 1)
        else:
            _compress(
                METHODS.get(name) or published(name), common, student, teacher, [corpus], scratch
            )
    return facts_of(found[0], device)


def published(name: str) -> dict:
    """Return the one step of a recipe in config/recipes.yaml without steps and batches."""
    file = Path(__file__).parents[2] / "config/recipes.yaml"
    (step,) = yaml.safe_load(file.read_text(encoding="utf-8"))["recipes"][name]
    return {
        method: {key: value for key, value in own.items() if key not in HERE}
        for method, own in step.items()
    }


def _compress(step: dict, common: dict, student, teacher, corpora: list, scratch: Path) -> None:
    """Compress `student` to half by one step of a recipe in the real loop."""
    ((name, own),) = step.items()
    made = recipes.make({name: common | own})
    context = method.Context(
        1,
        teacher,
        runner.trainer(corpora, 1, None, "bf16"),
        runner.listener(corpora, teacher, 1),
        finetuning.Tuner(synthetic.TASK, scratch / "no-head", corpora, 1, None, "bf16"),
    )
    made.compress(student, made.solve(describe(teacher), 0.5), context)


def facts_of(seen: dict, device: torch.device) -> dict:
    """Return a row's numbers."""
    step, peak = seen["step"], None
    facts = {
        "steps_per_second": 1 / step,
        "audio_per_second": seen["audio"] / step,
        "batch_audio": seen["audio"],
        "bytes": seen["memory"],
        "bare": seen["bare"] / step,
        "waits": seen["waits"],
        "flops": seen["flops"],
    }
    notes = []
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        found = (value for key, value in PEAKS.items() if re.search(rf"\b{key}\b", name))
        peak = next(found, None)
        if peak is None:
            notes.append(f"no MFU: the peak of {name} is not known here")
    else:
        notes.append("no MFU, memory or idle time of a CPU")
    facts["mfu"] = seen["flops"] / step / peak if peak else None
    known = seen["busy"] is not None
    facts["idle"] = max(0.0, 1 - seen["busy"] / PROFILED / step) if known else None
    if device.type == "cuda" and not known:
        notes.append("torch.profiler saw no kernels")
    return facts | ({"note": "; ".join(notes)} if notes else {})
