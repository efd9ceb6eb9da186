"""Measure what a student costs, beside its teacher, in one process."""

from collections.abc import Mapping
from pathlib import Path

from speech_pareto import provenance, result


def main(
    settings: Mapping,
    teacher: str | Path,
    student: str | Path,
    run: Mapping,
    output: str | Path,
    digests: Mapping | None = None,
) -> None:
    """Write the costs (JSON) of the model in the folder `student`.

    `settings`: audio_seconds, batch, repeats; optionally threads and device. `run` names the cell.
    """
    status = result.read_status(student)
    meta = provenance.meta(seed=run["seed"], threads=settings.get("threads"), digests=digests)
    costs = None if status else measure(settings, teacher, student)
    result.write(output, result.compose(dict(run), meta, cost=costs, status=status))


def measure(settings: Mapping, teacher: str | Path, student: str | Path) -> dict:
    """Return the `cost` section of a result."""
    import torch

    from speech_pareto.cost import cost
    from speech_pareto.model import load

    before = torch.get_num_threads()
    torch.set_num_threads(settings.get("threads") or before)
    try:
        return cost(load(teacher), load(student), student, settings)
    finally:
        torch.set_num_threads(before)


if "snakemake" in globals():
    from speech_pareto.log import logged

    with logged(snakemake.log[0]):
        main(
            settings={"threads": snakemake.threads, **snakemake.params.settings},
            teacher=snakemake.input.teacher,
            student=snakemake.input.student,
            run=snakemake.params.run,
            output=snakemake.output[0],
            digests=snakemake.params.code,
        )
