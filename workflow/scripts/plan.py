"""Print and write what a study will make, before anything is computed."""

import csv
import io
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

from speech_pareto.runtime import result
from speech_pareto.study import forecast, pool
from speech_pareto.study.forecast_text import text
from speech_pareto.study.rehearsal import Rehearsal, machines
from speech_pareto.study.rehearsal_text import problems


def main(study: Mapping, results: str | Path) -> None:
    """Write plan.csv and plan.txt to the folder `results` and print the latter.

    `study` is a resolved config. Benchmark files and fetched teachers are read from `results`.
    """
    results = Path(results)
    expected = forecast.expect(study, results)
    todo = pool.jobs(study, results)
    rehearsed = Rehearsal.read(study, results)
    past = forecast.benchmarks(results)
    spent = forecast.durations(todo, past, study["throughput"], rehearsed.seconds)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, forecast.COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(forecast.rows(expected))
    plan = text(study, expected, todo, spent, machines(rehearsed.entries))
    if searched := pool.summary(study, results):
        plan += f"\n{textwrap.fill(searched, 100)}\n"
    if failing := problems(rehearsed):
        plan += f"\nIn the rehearsal jobs failed. {failing}\n"
    result.write_text(results / "plan.csv", table.getvalue())
    result.write_text(results / "plan.txt", plan)
    sys.stdout.write(f"\n{plan}\n")


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        main(snakemake.params.study, snakemake.params.results)
