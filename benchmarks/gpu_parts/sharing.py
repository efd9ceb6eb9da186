"""Part f: two processes on one GPU share each batch and give the result of one.

The jobs are started as for several GPUs (`speech_pareto.runtime.launch`), but both processes
compute on the first GPU and add up gradients through gloo, since NCCL refuses two processes on one
GPU. They differ from one process in no more than the order in which numbers are added.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from gpu_parts.synthetic import AUGMENTED, FINE_TUNING, TASK, TEACHER, loop

ROWS = [FINE_TUNING, "distillation", "starhubert"]
NEAR = 1e-3  # of a tensor's largest number


def rows(tiny: bool) -> list[str]:
    """Return the rows."""
    return ROWS[:1] if tiny else ROWS


def job(row: str, tiny: bool, corpus: Path, output: Path) -> None:
    """Make a row's model in `output`, from batches cut into two pieces."""
    import compress
    import finetune

    if row == FINE_TUNING:
        settings = {"learning_rate": 1e-4, "precision": "fp32", "accumulate": 2}
        settings |= AUGMENTED | loop(tiny)
        finetune.main(TASK, settings, TEACHER, [corpus], 1, output)
        return
    steps, run = [{row: loop(tiny)}], {"recipe": row, "ratio": 0.3, "seed": 1}
    compress.main(steps, 0.3, 1, TEACHER, [corpus], run, output, None, "fp32", accumulate=2)


def in_two(row: str, tiny: bool, corpus: Path, output: Path) -> None:
    """Make a row's model in two processes, of which this is the launcher or one."""
    from speech_pareto.runtime.launch import spread
    from speech_pareto.runtime.processes import started

    if started() and torch.cuda.is_available():
        os.environ["LOCAL_RANK"] = "0"  # of both: the first GPU
        torch.distributed.init_process_group("gloo")
    spread(job, 2, 2)(row, tiny, corpus, output)


def run(row: str, tiny: bool, scratch: Path) -> dict:
    """Return how far one and two processes are apart in a row."""
    corpus, home = scratch / "babble", scratch / "sharing" / row
    shutil.rmtree(home, ignore_errors=True)
    job(row, tiny, corpus, home / "one")
    program = Path(__file__).parents[1] / "gpu.py"
    words = ["--in-two", row, str(corpus), str(home / "two"), *(["--tiny"] if tiny else [])]
    done = subprocess.run([sys.executable, program, *words], capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise RuntimeError(f"two processes ended with {done.returncode}: {lines[-1]}")
    apart = distance(home / "one", home / "two")
    return {"status": "ok" if apart < NEAR else "differs", "apart": apart}


def distance(first: Path, second: Path) -> float:
    """Return the largest difference of two folders' weights, relative to each tensor's largest."""
    far = 0.0
    for file in first.glob("*.safetensors"):
        ours, theirs = load_file(file), load_file(second / file.name)
        for key, tensor in ours.items():
            scale = tensor.abs().max().clamp_min(1e-3)
            far = max(far, ((tensor - theirs[key]).abs().max() / scale).item())
    return far
