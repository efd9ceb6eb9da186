"""Measure what a student costs, beside its teacher, in one process."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from speech_pareto.compression import recipes
from speech_pareto.models.model_folder import read_config
from speech_pareto.runtime import provenance, result


def main(
    settings: Mapping,
    teacher: str | Path,
    student: str | Path,
    run: Mapping,
    output: str | Path,
    digests: Mapping | None = None,
    recipe: Sequence = (),
    corpora: Sequence = (),
) -> None:
    """Write the costs (JSON) of the model in the folder `student`, which `recipe` made.

    `settings`: those of `cost.cost`. `run` names the cell. A student that utterances leave early
    hears those of the test split of `corpora`.
    """
    status = result.read_status(student)
    meta = provenance.meta(seed=run["seed"], threads=settings.get("threads"), digests=digests)
    cell = recipe, run["ratio"], corpora
    costs = None if status else measure(settings, teacher, student, *cell)
    result.write(output, result.compose(dict(run), meta, cost=costs, status=status))


def measure(
    settings: Mapping,
    teacher: str | Path,
    student: str | Path,
    recipe: Sequence,
    ratio: float,
    corpora: Sequence = (),
) -> dict:
    """Return the `cost` section of a result."""
    from speech_pareto.models.backbone import load
    from speech_pareto.profiling.cost import cost, using
    from speech_pareto.profiling.exits import heard

    heads = recipes.projection_parameters(recipe, read_config(teacher), ratio) if recipe else 0
    with using(settings.get("threads")):
        made = load(student)
        depths = heard(made, student, corpora)
        return cost(load(teacher), made, student, settings, heads, depths)


if "snakemake" in globals():
    from speech_pareto.runtime.gpu import reserved
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]), reserved(snakemake.resources.get("gpu")):
        main(
            settings={"cores": snakemake.threads, **snakemake.params.job["settings"]},
            teacher=snakemake.input.teacher,
            student=snakemake.input.student,
            run=snakemake.params.run,
            output=snakemake.output[0],
            digests=snakemake.params.job["code"],
            recipe=snakemake.params.job["recipe"],
            corpora=list(snakemake.input.get("corpora") or []),
        )
