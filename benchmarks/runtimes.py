"""Which runtime is fastest for students of HuBERT Base: torch, or onnxruntime in fp32 or 8 bits?

    python benchmarks/runtimes.py FOLDER [--students teacher heads-and-rows layer-drop ...]
        [--ratio 0.5] [--threads 1 2] [--repeats 3] [--seconds 10]

Weights are random, which costs the same as trained ones. What is exported stays in FOLDER, about
1 GB for a model of Base's size, and another run only times. The table goes to docs/deploying.md.
"""

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import numpy as np
import torch

from export import fitting, unparametrize, write_onnx
from speech_pareto.data.audio import SAMPLE_RATE
from speech_pareto.models.backbone import load, new, save
from speech_pareto.models.onnx_int8 import DYNAMIC, FP32, STATIC, quantise
from speech_pareto.profiling import runtimes
from speech_pareto.profiling.cost import noise
from speech_pareto.runtime import provenance
from speech_pareto.tasks.recogniser import EndToEnd
from speech_pareto.tasks.task import TaskModel, load_task_model, make_task, save_head
from speedup import HUBERT, RECIPES, student_of

TASK = {"kind": "ctc", "unit": "characters", "protocol": "finetune"}
KINDS = (FP32, DYNAMIC, STATIC)


def make(name: str, ratio: float, folder: Path) -> None:
    """Write a student with a random head, and its three ONNX files, unless they are there."""
    if (folder / f"{STATIC}.onnx").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(0)
    model = new(HUBERT)
    if name != "teacher":
        model = student_of(model, RECIPES[name](ratio), ratio)
    task = make_task(TASK, list(" 'abcdefghijklmnopqrstuvwxyz"))
    save(model, folder / "student")
    save_head(TaskModel(model, task.outputs, "finetune"), task, folder / "student")
    tuned = load_task_model(TASK, load(folder / "student"), folder / "student")[0]
    fitting(tuned)
    unparametrize(tuned)
    lengths = torch.tensor([SAMPLE_RATE + 123, SAMPLE_RATE])
    example = {"waves": torch.zeros(2, SAMPLE_RATE + 123), "lengths": lengths}
    write_onnx(EndToEnd(tuned).eval(), folder / "fp32.onnx", example, {}, "scores", "frames")
    heard = {"waves": noise(2).numpy(), "lengths": np.array([2 * SAMPLE_RATE])}
    for numbers in (DYNAMIC, STATIC):
        quantise(folder / "fp32.onnx", folder / f"{numbers}.onnx", numbers, [heard])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ["teacher", *RECIPES]
    parser.add_argument("folder", type=Path)
    parser.add_argument("--students", nargs="+", choices=names, default=names)
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2], help="none: only export")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of passes that count")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the audio")
    arguments = parser.parse_args()
    hardware = provenance.hardware()
    print(f"{hardware['cpu']}, {hardware['cores']} cores\n")
    print("| student | threads | torch |", " | ".join(KINDS), "|\n|---|---|---|---|---|---|")
    for name in arguments.students:
        folder = arguments.folder / name
        make(name, arguments.ratio, folder)
        student = {"folder": str((folder / "student").resolve()), "task": TASK}
        files = {numbers: folder / f"{numbers}.onnx" for numbers in KINDS}
        for threads in arguments.threads:
            asked = {"audio_seconds": arguments.seconds, "batch": 1}
            asked |= {"threads": threads, "repeats": arguments.repeats}
            found = runtimes.timed(student, files, asked)
            torch_ms = 1000 * float(np.median([one["torch_seconds"] for one in found.values()]))
            cells = [f"{torch_ms / x['speedup']:.0f} ({x['speedup']:.2f}×)" for x in found.values()]
            label = name if name == "teacher" else f"{name} {arguments.ratio:g}"
            print(f"| {label} | {threads} | {torch_ms:.0f} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
