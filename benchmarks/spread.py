"""How much one measured speed-up differs from the next, with freed memory given back and kept.

    python benchmarks/spread.py [--rounds 8] [--student FOLDER]

Each round starts two processes in turn; each times the teacher against the student as profiles do.
`spread` is the standard deviation of the speed-ups' logarithms, in percent.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEACHER = ROOT / "resources" / "teachers" / "tiny-phones"
RACE = """
import sys, torch
from speech_pareto.profiling import cost
from speech_pareto.models.backbone import load
if sys.argv[3] == "given back":
    cost.keep_freed_memory = lambda: False
torch.set_num_threads(1)
found = cost.race(load(sys.argv[1]), load(sys.argv[2]), cost.noise(10.0), 7)
print(found["speedup"], found["teacher_seconds"])
"""


def race(student: Path, memory: str) -> tuple[float, float]:
    """Return the speed-up and the teacher's seconds that a process of its own measures."""
    command = [sys.executable, "-c", RACE, str(TEACHER), str(student), memory]
    scripts = {"PYTHONPATH": str(ROOT / "workflow" / "scripts")}
    done = subprocess.run(
        command, env=os.environ | scripts, check=True, capture_output=True, text=True
    )
    speedup, seconds = map(float, done.stdout.split())
    return speedup, seconds


def main() -> None:
    """Print a table of both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--student", type=Path, default=TEACHER, help="default: the teacher itself")
    arguments = parser.parse_args()
    found = {"given back": [], "kept": []}
    for _ in range(arguments.rounds):
        for memory, races in found.items():
            races.append(race(arguments.student.resolve(), memory))
    print(
        f"{arguments.rounds} rounds\n\n| freed memory | speed-up | spread % | teacher ms | ratio |"
    )
    print("|---|---|---|---|---|")
    for memory, races in found.items():
        speedups, seconds = zip(*races, strict=True)
        spread = 100 * statistics.stdev(map(math.log, speedups))
        ratio = statistics.median(
            own[1] / given[1] for own, given in zip(races, found["given back"], strict=True)
        )
        low, middle, high = min(speedups), statistics.median(speedups), max(speedups)
        print(
            f"| {memory} | {middle:.2f} ({low:.2f}–{high:.2f}) | {spread:.1f} "
            f"| {1000 * statistics.median(seconds):.0f} | {ratio:.2f} |"
        )


if __name__ == "__main__":
    main()
