"""The process that rehearses a job: it calls the `main` of the job's own script, with fewer steps.

`rehearse_job.py` starts it. What is not there yet has stand-ins of the same shapes: a teacher and a
student with random weights, a new head for the task's symbols.
"""

import ctypes
import gc
import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from speech_pareto.runtime.formatting import short_bytes
from speech_pareto.runtime.provenance import hardware
from speech_pareto.runtime.result import read_json, read_status, write_json

STEPS = {"cpu": 4, "cuda": 10}  # of each training; the first two are no measure
HEARD = {"cpu": 60.0, "cuda": 600.0}  # seconds of audio of each split that is scored
PRETRAINED = 300.0  # seconds of audio of which units are made
MODULES = {"pretrain_one_teacher": "pretrain_teacher", "finetune_one_teacher": "finetune"}
MODULES |= {"profile": "profile_student"}


def measure(scratch: Path) -> None:
    """Run the job that job.json in the folder `scratch` describes; leave measured.json there.

    job.json has `rule`, `job` and `run` (the params of the rule), `ratio`, `seed`, folders of
    `corpora`, the `teacher`'s folder, `configs` of teacher and student, `threads`, the `limit` of
    memory in bytes, and when it `began`. measured.json has what `rehearsal.entry` keeps.
    """
    job = read_json(scratch / "job.json")
    found: dict[str, Any] = {"status": "ok", "on_gpu": False}
    try:
        import torch

        from speech_pareto.runtime.hardware import device

        script = importlib.import_module(MODULES.get(job["rule"], job["rule"]))
        imported = time.time() - job["began"]
        torch.set_num_threads(job["threads"])
        found["on_gpu"] = device().type == "cuda"
        if not found["on_gpu"]:
            _limit(job["limit"])
        found["random"] = not (Path(job["teacher"]) / "config.json").is_file()
        run = RUNS[job["rule"]](script, job, scratch)
        _forget_peaks()
        found |= run()
        found["start"] += imported
        status = read_status(scratch / "out")
        if status and status["status"] == "out_of_memory":
            found |= {"status": "out_of_memory", "reason": status["reason"]}
    except Exception as error:
        logging.exception("the rehearsed job failed")
        found |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
        if _is_of_memory(error):
            found |= {"status": "out_of_memory", "reason": _too_little(job, error, found["on_gpu"])}
    found["disk"] = sum(f.stat().st_size for f in (scratch / "out").rglob("*") if f.is_file())
    machine = hardware()
    named = machine["gpu"] if found["on_gpu"] else f"{machine['cpu']}, {machine['cores']} cores"
    write_json(scratch / "measured.json", found | peaks() | {"machine": named})


def trained(call: Callable[[], None], one_piece: bool = True) -> dict:
    """Return what a job with trainings takes: what its steps do, and all the rest as its start."""
    from speech_pareto.compression.runner import Batches
    from speech_pareto.runtime.hardware import device
    from speech_pareto.training.excerpt import Excerpt

    with Excerpt(STEPS[device().type], one_piece, Batches) as excerpt:
        began = time.monotonic()
        call()
        spent = time.monotonic() - began
    parts, seconds = [], None
    for phase in excerpt.phases:
        spent -= phase.ends[-1] - phase.ends[0] if phase.ends else 0.0
        seconds = phase.seconds() or seconds  # of one step: as slow as those before
        if phase.ends and seconds is not None:
            parts.append({"what": "step", "number": phase.steps, "seconds": seconds})
            parts[-1]["audio"] = phase.batch_seconds
    for one in excerpt.listened:
        spent -= one.seconds
        parts.append({"what": "batch", "number": one.number, "seconds": one.seconds / one.done})
    return {"start": max(0.0, spent), "parts": parts, "checkpoint": excerpt.checkpoint}


def compress(script: Any, job: Mapping, scratch: Path) -> Callable[[], dict]:
    """Return what compresses the teacher, with few steps if the recipe trains."""
    from speech_pareto.training.stand_ins import random_model

    own = {key: job["job"][key] for key in ("recipe", "precision", "task", "accumulate")}
    model, folders = _teacher(job, scratch), {"output": scratch / "out", "state": scratch / "state"}
    own |= {"run": job["run"], "ratio": job["ratio"], "seed": job["seed"]}
    own |= {"corpora": job["corpora"], "threads": job["threads"]}
    if supernet := job["configs"].get("supernet"):
        own["supernet"] = random_model(supernet, scratch / "supernet")
    return lambda: trained(lambda: script.main(model=model, **own, **folders))


def train_supernet(script: Any, job: Mapping, scratch: Path) -> Callable[[], dict]:
    """Return what trains a supernet with few steps."""
    own = {key: job["job"][key] for key in ("method", "precision", "accumulate")}
    own |= {key: job[key] for key in ("run", "seed", "corpora", "threads")}
    folders = {"output": scratch / "out", "state": scratch / "state"}
    model = _teacher(job, scratch)
    return lambda: trained(lambda: script.main(model=model, **own, **folders))


def finetune(script: Any, job: Mapping, scratch: Path) -> Callable[[], dict]:
    """Return what fine-tunes a student, or the teacher itself, with few steps."""
    model = _student(job, scratch) if job["rule"] == "finetune" else _teacher(job, scratch)
    own = {key: job["job"][key] for key in ("task", "training")}
    own |= {"seed": job["seed"], "dtype": job["job"].get("dtype", "float32")}
    folders = {"output": scratch / "out", "state": scratch / "state"}
    own |= {"corpora": job["corpora"]}
    return lambda: trained(lambda: script.main(model=model, **own, **folders))


def pretrain(script: Any, job: Mapping, scratch: Path) -> Callable[[], dict]:
    """Return what pretrains a teacher with few steps, on some of its corpora's speakers."""
    from speech_pareto.data.corpus import read
    from speech_pareto.training.settings import batch_audio
    from speech_pareto.training.stand_ins import parts_of, speakers

    settings, seed = job["job"]["settings"], job["seed"]
    whole = [u for folder in job["corpora"] for u in read(folder) if u.split == "train"]
    batches = [batch_audio(each) for each in settings["iterations"]]
    chosen = speakers(whole, max(PRETRAINED, 4 * max(batches, default=0.0)))
    corpora = parts_of(job["corpora"], chosen, scratch / "corpora")
    audio, part = (sum(u.seconds for u in own) for own in (whole, chosen))

    def run() -> dict:
        output, state = scratch / "out", scratch / "state"
        found = trained(lambda: script.main(settings, corpora, seed, output, state), False)
        if not settings["iterations"]:
            return found
        units = {"what": "second of audio", "number": audio, "seconds": found["start"] / part}
        return found | {"start": 0.0, "parts": [*found["parts"], units]}

    return run


def evaluate(script: Any, job: Mapping, scratch: Path) -> Callable[[], dict]:
    """Return what scores a student, on the longest recordings and then on some more."""
    from speech_pareto.data.selection import needed
    from speech_pareto.models.backbone import load
    from speech_pareto.runtime.hardware import device
    from speech_pareto.tasks.task import embeds, load_task_model
    from speech_pareto.training.stand_ins import longest, new_head, parts_of, some

    task, model = job["job"]["task"], _student(job, scratch)
    new_head(task, model, job["corpora"])
    _, definition = load_task_model(task, load(model), model)
    files = scratch / "out" / "metrics.json", scratch / "out" / "hypotheses.tsv"
    files[0].parent.mkdir()  # Snakemake does so for the real job

    def score(corpora: list) -> float:
        began = time.monotonic()
        script.main(task, model, corpora, job["run"], *files)
        return time.monotonic() - began

    def run() -> dict:
        began = time.monotonic()
        whole, _ = needed(task, definition, job["corpora"], "valid", "test")  # all in memory
        chosen = time.monotonic() - began
        if embeds(definition):  # pairs of recordings: none may be missing
            return {"start": score(job["corpora"]), "parts": []}
        few, more = longest(whole), some(whole, HEARD[device().type])
        score(parts_of(job["corpora"], few, scratch / "few"))  # to warm up
        began = time.monotonic()
        load_task_model(task, load(model), model)
        loaded = time.monotonic() - began
        spent = score(parts_of(job["corpora"], more, scratch / "more")) - loaded
        heard, audio = (sum(u.seconds for u in own) for own in (more, whole))
        part = {"what": "second of audio", "number": audio, "seconds": max(spent, 0.0) / heard}
        return {"start": chosen + loaded, "parts": [part]}

    return run


def profile(script: Any, job: Mapping, scratch: Path) -> Callable[[], dict]:
    """Return what profiles a student beside its teacher, each condition once.

    One of early exits then hears some of the recordings that it hears in its profile; it is timed
    once for each layer where they leave, all of them at worst.
    """
    settings = {"cores": job["threads"], **job["job"]["settings"]}
    short = {**settings, "repeats": 1}
    short["conditions"] = [{**one, "repeats": 1} for one in settings["conditions"]]
    teacher, student = _teacher(job, scratch), _student(job, scratch)
    output, recipe = scratch / "out" / "profile.json", job["job"]["recipe"]

    def run() -> dict:
        began = time.monotonic()
        script.main(short, teacher, student, job["run"], output, recipe=recipe)
        spent, timed = time.monotonic() - began, _timed(short)
        part = {"what": "second of audio", "number": _timed(settings), "seconds": spent / timed}
        if not job["corpora"]:
            return {"start": 0.0, "parts": [part]}
        heard, depths = _heard(student, job["corpora"], scratch)
        part["number"] *= depths
        return {"start": 0.0, "parts": [part, heard]}

    return run


def analyse(script: Any, job: Mapping, scratch: Path) -> Callable[[], dict]:
    """Return what looks into a student, all of it: it takes little time."""
    teacher, student = _teacher(job, scratch), _student(job, scratch)

    def run() -> dict:
        began = time.monotonic()
        output = scratch / "out" / "analysis.json"
        script.main(teacher, student, job["corpora"], job["run"], output)
        return {"start": time.monotonic() - began, "parts": []}

    return run


RUNS = {
    "compress": compress,
    "pretrain_one_teacher": pretrain,
    "finetune_one_teacher": finetune,
    **{run.__name__: run for run in (train_supernet, finetune, evaluate, profile, analyse)},
}


def _heard(student: Path, corpora: list, scratch: Path) -> tuple[dict, int]:
    """Return what a student of early exits takes for an utterance, and where these can leave."""
    from speech_pareto.data.corpus import read
    from speech_pareto.models.backbone import load
    from speech_pareto.models.layers.exit_branches import exits_of
    from speech_pareto.profiling.exits import MOST, heard
    from speech_pareto.runtime.hardware import device
    from speech_pareto.training.stand_ins import parts_of, some

    whole = [u for folder in corpora for u in read(folder) if u.split == "test"]
    few = some(whole, HEARD[device().type])
    model, folders = load(student), parts_of(corpora, few, scratch / "heard")
    began = time.monotonic()
    number = heard(model, student, folders).utterances
    spent = time.monotonic() - began
    part = {"what": "utterance", "number": min(MOST, len(whole)), "seconds": spent / max(1, number)}
    exits = exits_of(model)
    return part, exits.last - exits.first + 1


def _timed(settings: Mapping) -> float:
    """Return the seconds of audio that a profile goes through on the CPU.

    Those on a GPU take no time beside them.
    """
    conditions = (settings, *settings["conditions"])
    own = [one for one in conditions if one.get("device", "cpu") == "cpu"]
    return sum(one["audio_seconds"] * one["batch"] * (one["repeats"] + 1) for one in own)


def _teacher(job: Mapping, scratch: Path) -> Path:
    """Return the folder of the teacher, or of random weights of its config."""
    from speech_pareto.training.stand_ins import random_model

    folder = Path(job["teacher"])
    there = (folder / "config.json").is_file()
    return folder if there else random_model(job["configs"]["teacher"], scratch / "teacher")


def _student(job: Mapping, scratch: Path) -> Path:
    """Return the folder of a student of random weights."""
    from speech_pareto.training.stand_ins import random_model

    return random_model(job["configs"]["student"], scratch / "student")


def _is_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there is not enough memory."""
    import torch

    said = str(error)
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in said or "Cannot allocate memory" in said


def _too_little(job: Mapping, error: BaseException, on_gpu: bool) -> str:
    """Return in words that there is not enough memory."""
    if on_gpu:
        return ". ".join(str(error).split(". ")[:3])  # torch goes on with hints on fragments
    return f"it needs more than the {short_bytes(job['limit'])} of memory that it may have"


def _limit(size: float | None) -> None:
    """Let this process have at most `size` bytes, so that it fails before the machine does."""
    import resource

    most = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if size and size < (sys.maxsize if most == resource.RLIM_INFINITY else most):
        resource.setrlimit(resource.RLIMIT_DATA, (int(size), most))


def _forget_peaks() -> None:
    """Forget what stand-ins took, so that peaks are the job's own."""
    import torch

    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (AttributeError, OSError, TypeError):
        pass  # not Linux, or not allowed: the peak of all is the job's, or a little more
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peaks() -> dict[str, int]:
    """Return the most memory that this process has had, in bytes: the machine's and the GPU's."""
    import torch

    found = {}
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        found["memory"] = 1024 * peak
    except (OSError, StopIteration):
        pass  # not Linux: the process that waits for this one knows it, too
    if torch.cuda.is_available():
        found["gpu_memory"] = torch.cuda.max_memory_reserved()
        found["gpu_total"] = torch.cuda.get_device_properties(0).total_memory
    return found


def _end_with(parent: int) -> None:
    """End this process soon after the one that started it, however that ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=[int(sys.argv[2])], daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    measure(Path(sys.argv[1]))
