"""What a pass of a fine-tuned student takes in torch and as ONNX files, each in a fresh process.

A runtime keeps its threads and its memory for as long as a process lives. So there is a process for
each number of threads, in which torch and every file are timed in turn, and one for each memory.

    python -m speech_pareto.profiling.runtimes JOB    (JSON; the answer is the last line it prints)
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from speech_pareto.models.architecture import SAMPLE_RATE

SCRIPTS = Path(__file__).parents[2]


def timed(student: dict, files: Mapping[str, str | Path], condition: dict) -> dict[str, dict]:
    """Return by name how long a pass of each ONNX file takes beside torch, all in one process.

    `student`: its `folder` and the settings of its `task`. `condition`: audio_seconds, batch,
    threads and repeats. Seconds are medians, the `speedup` over torch has quartiles, as in
    `cost.race`.
    """
    named = {name: str(file) for name, file in files.items()}
    return _apart({"student": student, "files": named, "condition": condition})


def peak(model: dict | str | Path, condition: dict, arena: bool = True) -> int | None:
    """Return by how many bytes a process grows that loads a model and makes one pass of it.

    `model` is a student, as in `timed`, or an ONNX file, without onnxruntime's `arena` of freed
    memory where asked. Libraries are loaded before. None where the system does not tell
    (Linux does).
    """
    model = model if isinstance(model, dict) else str(model)
    return _apart({"model": model, "condition": condition, "arena": arena})


def _apart(job: dict):
    """Return what `main` answers to a job in a process of its own; RuntimeError if it fails."""
    path = os.pathsep.join(filter(None, [str(SCRIPTS), os.environ.get("PYTHONPATH")]))
    threads = {"OMP_NUM_THREADS": str(job["condition"]["threads"]), "PYTHONPATH": path}
    command = [sys.executable, "-m", __spec__.name, json.dumps(job)]
    done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2] or f"exit {done.returncode}")
    return json.loads(done.stdout.strip().rpartition("\n")[2])


def main(job: dict) -> dict | int | None:
    """Return the answer to a job of `timed` or of `peak`."""
    condition = job["condition"]
    if "files" not in job:
        return _growth(job["model"], condition, job["arena"])
    import torch

    from speech_pareto.profiling.cost import race

    torch.set_num_threads(condition["threads"])
    audio = _noise(condition)
    ours, found = _torch(job["student"], audio), {}
    for name, file in job["files"].items():
        measured = race(ours, _onnx(file, condition["threads"], audio), audio, condition["repeats"])
        measured["torch_seconds"] = measured.pop("teacher_seconds")
        found[name] = condition | measured
    return found


def _noise(condition: Mapping):
    """Return the noise (batch, samples) that `profile` times, too."""
    from speech_pareto.profiling.cost import noise

    return noise(condition["audio_seconds"], condition["batch"])


def _torch(student: Mapping, audio) -> Callable:
    """Return a pass of a student in torch, from samples to log-probabilities as in its file."""
    import torch

    from speech_pareto.models.backbone import load
    from speech_pareto.tasks.recogniser import EndToEnd
    from speech_pareto.tasks.task import embeds, load_task_model

    made = load_task_model(student["task"], load(student["folder"]), student["folder"])
    if made is None:
        raise ValueError(f"{student['folder']} has no head")
    model = EndToEnd(made[0], embeds(made[1])).eval()
    lengths = torch.full((len(audio),), audio.shape[1])
    return lambda waves: model(waves, lengths)


def _onnx(file: str, threads: int, audio, arena: bool = True) -> Callable:
    """Return a pass of an ONNX file in onnxruntime on so many threads, which rest between passes.

    They would look for work for a while, on processors that torch takes next.
    """
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_cpu_mem_arena = threads, arena
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    lengths = np.full(len(audio), audio.shape[1])
    return lambda waves: session.run(None, {"waves": np.asarray(waves), "lengths": lengths})


def _growth(model: Mapping | str, condition: Mapping, arena: bool) -> int | None:
    """Return the bytes by which this process grows at most; libraries are imported before."""
    if isinstance(model, str):
        import numpy as np
        import onnxruntime  # noqa: F401

        samples = round(condition["audio_seconds"] * SAMPLE_RATE)
        audio = np.zeros((condition["batch"], samples), np.float32)
    else:
        audio = _noise(condition)
        _torch(model, audio)  # what loading a model imports
        gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # else the pass would be served with what is free here
        Path("/proc/self/clear_refs").write_text("5")  # the highest so far is what it is now
        before = _status("VmRSS")
    except (AttributeError, OSError, TypeError):  # neither Linux nor glibc
        return None
    if isinstance(model, str):
        _onnx(model, condition["threads"], audio, arena)(audio)
    else:
        import torch

        with torch.inference_mode():
            _torch(model, audio)(audio)
    return _status("VmHWM") - before


def _status(name: str) -> int:
    """Return bytes of /proc/self/status."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(text.partition(f"{name}:")[2].split()[0])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
