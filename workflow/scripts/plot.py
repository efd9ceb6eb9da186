"""Draw one figure of a study, from the tables alone."""

import logging

from speech_pareto.reporting.figures import all_tasks as side_by_side
from speech_pareto.reporting.figures import (
    canvas,
    fronts,
    head_diagonality,
    layer_similarity,
    layers,
    probes,
    ratios,
    speedup,
)
from speech_pareto.reporting.figures import published_fronts as papers
from speech_pareto.reporting.tables import analysis, published_scores
from speech_pareto.reporting.tables.results_table import read, summarise
from speech_pareto.reporting.tables.roles import roles_of

log = logging.getLogger(__name__)
SCORES = {"ratios": ratios.ratios, "speedup": speedup.speedup}
MODELS = {
    "layers": layers.layers,
    "diagonality": head_diagonality.diagonality,
    "similarity": layer_similarity.similarity,
}


def main(
    table,
    task: str | None,
    kind: str,
    outputs: list,
    comparisons=None,
    analyses=None,
    known=None,
    overlay: bool = False,
) -> None:
    """Draw the figure `kind` of `task`, or of all tasks, into `outputs` by suffix.

    `kind` is a cost axis (see `quantities.axes`), one of `study.VIEWS`, `probes` or `published`;
    the files (Parquet) are those of `aggregate` and, `comparisons`, of `compare`;
    `known` holds published figures (CSV). With `overlay` they are drawn into a task's front, unless
    its scores lack some of the test utterances.
    """
    cells = read(table)
    recipes = roles_of(cells)
    if kind == "published":
        figure = papers.published(published_scores.read(known), recipes)
    elif kind in MODELS:
        students = analysis.students_of(read(analyses), cells, task)
        figure = MODELS[kind](students, task, recipes)
    elif kind == "probes":
        figure = probes.probes(analysis.probes_of(read(analyses), task), task, recipes)
    else:
        summary = summarise(cells, read(comparisons) if comparisons else None)
        if kind in SCORES:
            figure = SCORES[kind](summary, task, recipes)
        elif task is None:
            figure = side_by_side.tasks(summary, kind, recipes)
        else:
            lacking = cells.loc[cells["task"] == task, "left_out"].fillna(0).max()
            if overlay and lacking:
                log.warning("published figures are not drawn: scores lack %d utterances", lacking)
            systems = None
            if overlay and not lacking:
                systems = published_scores.systems(
                    published_scores.read(known), published_scores.PER
                )
            figure = fronts.pareto(summary, task, kind, recipes, systems)
    canvas.save(figure, outputs)


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        figure = snakemake.params.job["figure"]
        main(
            table=snakemake.input.table,
            task=figure["task"],
            kind=figure["kind"],
            outputs=list(snakemake.output),
            comparisons=snakemake.input.comparisons,
            analyses=snakemake.input.analysis,
            known=snakemake.input.published,
            overlay=figure.get("published", False),
        )
