"""Draw one figure of a study, from the tables alone."""

from speech_pareto import analysis, published
from speech_pareto.figures import canvas, diagonality, fronts, layers, ratios, similarity, speedup
from speech_pareto.figures import published as systems
from speech_pareto.figures import tasks as side_by_side
from speech_pareto.table import read, summarise

SCORES = {"ratios": ratios.ratios, "speedup": speedup.speedup}
MODELS = {
    "layers": layers.layers,
    "diagonality": diagonality.diagonality,
    "similarity": similarity.similarity,
}


def main(
    table, task: str | None, kind: str, outputs: list, comparisons=None, analyses=None, known=None
) -> None:
    """Draw the figure `kind` of `task`, or of all tasks, into `outputs` by suffix.

    `kind` is a cost axis (parameters, macs_per_second, seconds), one of `study.VIEWS` or
    `published`; the files (Parquet) are those of `aggregate` and, `comparisons`, of `compare`;
    `known` holds published figures (CSV).
    """
    cells = read(table)
    recipes = cells["recipe"].unique()
    if kind == "published":
        figure = systems.published(published.read(known), recipes)
    elif kind in MODELS:
        students = analysis.students_of(read(analyses), cells, task)
        figure = MODELS[kind](students, task, recipes)
    else:
        summary = summarise(cells, read(comparisons) if comparisons else None)
        if kind in SCORES:
            figure = SCORES[kind](summary, task, recipes)
        elif task is None:
            figure = side_by_side.tasks(summary, kind, recipes)
        else:
            figure = fronts.pareto(summary, task, kind)
    canvas.save(figure, outputs)


if "snakemake" in globals():
    from speech_pareto.log import logged

    with logged(snakemake.log[0]):
        main(
            table=snakemake.input.table,
            task=snakemake.params.figure["task"],
            kind=snakemake.params.figure["kind"],
            outputs=list(snakemake.output),
            comparisons=snakemake.input.comparisons,
            analyses=snakemake.input.analysis,
            known=snakemake.input.published,
        )
