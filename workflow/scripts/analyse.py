"""See what compression did to a model: what each layer keeps, its attention, its hidden states."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from speech_pareto.profiling.model_analysis import analyse, recordings
from speech_pareto.runtime import provenance, result


def main(
    teacher: str | Path,
    student: str | Path,
    corpora: Sequence,
    run: Mapping,
    output: str | Path,
    digests: Mapping | None = None,
) -> None:
    """Write the analysis (JSON) of the model in the folder `student` beside its teacher.

    Both listen to recordings of `corpora`. `run` names the cell.
    """
    status, found = result.read_status(student), None
    if not status:
        found = analyse(teacher, student, recordings(corpora))
        if not _finite(found):
            reason = "the hidden states of the student or of its teacher are not finite"
            status = {"status": "diverged", "reason": reason}
    meta = provenance.meta(seed=run["seed"], digests=digests)
    value = result.compose(dict(run), meta, status=status)
    if not status:
        value["analysis"] = found
    result.write(output, value)


def _finite(value: object) -> bool:
    """Return whether all numbers in nested mappings and lists are finite."""
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        import torch

        torch.set_num_threads(snakemake.threads)
        main(
            teacher=snakemake.input.teacher,
            student=snakemake.input.student,
            corpora=list(snakemake.input.corpora),
            run=snakemake.params.run,
            output=snakemake.output[0],
            digests=snakemake.params.job["code"],
        )
