"""CPU seconds of a job's start and end, as a ratio to Python's own search for garbage.

    python benchmarks/startup.py [--rounds 5]

A small job is mostly this: Python starts, imports what reads a student, and ends. Both in turn.
"""

import argparse
import resource
import statistics
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "workflow" / "scripts"
IMPORTS = "import transformers.models.hubert.modeling_hubert"
SELDOM = "from speech_pareto.runtime.garbage import collect_seldom; collect_seldom()"
STARTS = {
    "Python's own": IMPORTS,
    "seldom": f"{SELDOM}; {IMPORTS}",
}


def seconds(code: str) -> float:
    """Return the CPU seconds of a process that runs `code`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a table of both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    taken = [{name: seconds(code) for name, code in STARTS.items()} for _ in range(rounds)]
    print(f"{rounds} rounds, medians\n\n| search for garbage | CPU s | ratio |\n|---|---|---|")
    for name in STARTS:
        own = statistics.median(row[name] for row in taken)
        ratio = statistics.median(row[name] / row["Python's own"] for row in taken)
        print(f"| {name} | {own:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
