"""Time to run many tiny jobs with each of Snakemake's schedulers, as a ratio to the default one.

    python benchmarks/scheduler.py [--jobs 2000]

The workflow has a rule whose jobs each write one empty file, and one that gathers them, so that
nearly all the time is Snakemake's own. profiles/default chooses `greedy`, and the Snakefile has it
look for jobs once a second, not once a second for each job that has ended (`look_for_jobs_once`).
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "workflow" / "scripts"
ONCE = (
    "from speech_pareto.runtime.snakemake_patches import look_for_jobs_once; look_for_jobs_once()"
)
# Snakemake's default first: scheduler, and what the Snakefile begins with
ROWS = {"ilp": ("ilp", ""), "greedy": ("greedy", ""), "greedy, once a second": ("greedy", ONCE)}
SNAKEFILE = """
import sys

sys.path.insert(0, {scripts!r})
{begin}


rule all:
    input:
        expand("done/{{number}}", number=range({jobs})),
    localrule: True


rule tiny:
    output:
        touch("done/{{number}}"),
"""


def seconds(jobs: int, scheduler: str, begin: str) -> dict[str, float]:
    """Return the seconds (`wall` and `CPU`) that all jobs took; SystemExit if they fail."""
    with tempfile.TemporaryDirectory() as folder:
        text = SNAKEFILE.format(jobs=jobs, scripts=str(SCRIPTS), begin=begin)
        Path(folder, "Snakefile").write_text(text)
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        clock = time.perf_counter()
        done = subprocess.run([*command, "--scheduler", scheduler], cwd=folder)
        wall = time.perf_counter() - clock
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        made = len(list(Path(folder, "done").glob("*")))
    if done.returncode or made != jobs:
        raise SystemExit(f"{scheduler}: {made} of {jobs} jobs were done")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "CPU": cpu}


def main() -> None:
    """Print a table of the schedulers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2000)
    jobs = parser.parse_args().jobs
    taken = {name: seconds(jobs, *row) for name, row in ROWS.items()}
    print(f"{jobs} jobs\n\n| scheduler | wall s | ratio | CPU s | ratio |\n|---|---|---|---|---|")
    for name, used in taken.items():
        cells = [name]
        for key, value in used.items():
            cells += [f"{value:.1f}", f"{taken['ilp'][key] / value:.2f}"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
