"""Benchmarks of planning and scheduling run; what they measure is in docs/performance.md."""

import re
import subprocess
import sys

import pytest

from helpers.checkout import ROOT


def benchmark(name, *options):
    """Return what a benchmark printed: its number of jobs, and its table by name of the row."""
    command = [sys.executable, ROOT / "benchmarks" / f"{name}.py", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-3000:]
    rows = [re.split(r" *\| *", line)[1:-1] for line in done.stdout.splitlines() if "|" in line]
    return int(re.search(r"^(\d+) jobs", done.stdout, re.M)[1]), {row[0]: row for row in rows[2:]}


@pytest.mark.slow
def test_a_grid_is_planned_beside_bare_snakemake():
    jobs, rows = benchmark("planning", "--jobs", "400", "--rounds", "1")  # it checks equal totals
    assert jobs > 400
    assert list(rows) == ["this workflow", "bare Snakemake", "files only"]
    assert rows["bare Snakemake"][2] == "1.00" and float(rows["this workflow"][2]) > 0


@pytest.mark.slow
def test_tiny_jobs_run_with_each_scheduler():
    jobs, rows = benchmark("scheduler", "--jobs", "20")
    assert jobs == 20 and list(rows) == ["ilp", "greedy", "greedy, once a second"]
    assert all(float(row[1]) > 0 for row in rows.values())
