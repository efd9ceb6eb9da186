"""Print and write what a study will make, before anything is computed."""

import csv
import io
import sys
from collections.abc import Mapping
from pathlib import Path

from speech_pareto import plan, result


def main(study: Mapping, results: str | Path) -> None:
    """Write plan.csv and plan.txt to the folder `results` and print the latter.

    `study` is a resolved config. Benchmark files and fetched teachers are read from `results`.
    """
    results = Path(results)
    expected = plan.expect(study, results)
    todo = plan.jobs(study, expected, results)
    spent = plan.durations(todo, plan.benchmarks(results), study["throughput"])
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, plan.COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(plan.rows(expected))
    text = plan.text(study, expected, todo, spent)
    result.write_text(results / "plan.csv", table.getvalue())
    result.write_text(results / "plan.txt", text)
    sys.stdout.write(f"\n{text}\n")


if "snakemake" in globals():
    from speech_pareto.log import logged

    with logged(snakemake.log[0]):
        main(snakemake.params.study, snakemake.params.results)
