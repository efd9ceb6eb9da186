"""Gather what the rehearsed jobs took: what the whole study will take, and what will fail."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from speech_pareto.runtime import result
from speech_pareto.study import forecast, rehearsal
from speech_pareto.study.rehearsal_text import text


def main(files: Sequence[str | Path], study: Mapping, results: str | Path) -> None:
    """Write rehearsal.json and rehearsal.txt to the folder `results` and print the latter.

    `files` are those of the rehearsed jobs, `study` is a resolved config.
    """
    results = Path(results)
    expected = forecast.expect(study, results)
    todo = forecast.jobs(study, expected, results)
    jobs = {job.benchmark: job for job in todo}
    entries = []
    for file in map(Path, files):
        name = file.relative_to(results / "rehearsal").with_suffix("").as_posix()
        entries.append(rehearsal.entry(study, jobs[name], result.read_json(file)))
    said = text(rehearsal.Rehearsal(study, entries), expected, todo, results)
    held = rehearsal.beside(entries, rehearsal.kept(results))
    result.write_json(results / rehearsal.FILE, {"jobs": held})
    result.write_text(results / rehearsal.TEXT, said)
    sys.stdout.write(f"\n{said}\n")
    shutil.rmtree(results / "rehearsal")


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        main(list(snakemake.input), snakemake.params.study, snakemake.params.results)
