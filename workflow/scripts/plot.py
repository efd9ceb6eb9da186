"""Draw one figure of a study, from the tables, or from the utterances."""

import logging
from pathlib import Path

from speech_pareto.reporting.figures import (
    all_tasks,
    canvas,
    fronts,
    label_budgets,
    probes,
    published_fronts,
)
from speech_pareto.reporting.tables import analysis, published_scores
from speech_pareto.reporting.tables.answers import Answered
from speech_pareto.reporting.tables.exported_files import with_memory
from speech_pareto.reporting.tables.results_table import read, summarise
from speech_pareto.reporting.tables.roles import roles_of
from speech_pareto.runtime import plugins, result
from speech_pareto.study.views import VIEWS

log = logging.getLogger(__name__)


def main(
    table,
    task: str | None,
    kind: str,
    outputs: list,
    comparisons=None,
    analyses=None,
    known=None,
    overlay: bool = False,
    hypotheses=(),
    hours=None,
    runtimes=None,
    conditions=None,
    found=None,
) -> None:
    """Draw the figure `kind` of `task`, or of all tasks, into `outputs` by suffix.

    `kind` is a cost axis (see `quantities.axes`), one of `views.VIEWS`, `labels`, `probes` or
    `published`; the files (Parquet) are those of `aggregate` and, `comparisons`, of `compare`;
    `known` holds published figures (CSV), `hypotheses` a task's utterances (TSV); `hours` maps the
    tasks of the figure `labels` to their `train_hours`; `runtimes` is the table of exported files,
    `conditions` that of what conditions cost (Parquet), `found` what the search found (JSON). With
    `overlay` published figures are drawn into a task's front, unless its scores lack some test
    utterances.
    """
    cells = with_memory(read(table), read(runtimes) if runtimes else None)
    recipes, view = roles_of(cells), VIEWS.get(kind)
    if kind == "published":
        figure = published_fronts.published(published_scores.read(known), recipes)
    elif kind == "probes":
        figure = probes.probes(analysis.probes_of(read(analyses), task), task, recipes)
    elif view and view.reads in ("runtimes", "conditions"):
        lines = read(runtimes if view.reads == "runtimes" else conditions)
        figure = drawn(view, lines, task, recipes)
    elif view and view.reads == "students":
        figure = drawn(view, analysis.students_of(read(analyses), cells, task), task, recipes)
    else:
        summary = summarise(cells, read(comparisons) if comparisons else None)
        if view and view.reads == "search":
            figure = drawn(view, result.read_json(found), summary)
        elif view and view.reads == "utterances":
            files = {str(Path(file).with_suffix(".json")): str(file) for file in hypotheses}
            figure = drawn(view, Answered(cells, summary, files), task, recipes)
        elif view:
            figure = drawn(view, summary, task, recipes)
        elif kind == "labels":
            figure = label_budgets.draw(summary, hours, recipes)
        elif task is None:
            figure = all_tasks.tasks(summary, kind, recipes)
        else:
            systems = overlaid(cells, task, known) if overlay else None
            figure = fronts.pareto(summary, task, kind, recipes, systems)
    canvas.save(figure, outputs)


def drawn(view, *shown):
    """Return a view's figure; its module is imported by name, so that others depend on no other."""
    return plugins.load("reporting.figures", view.module, "figure").draw(*shown)


def overlaid(cells, task: str | None, known):
    """Return the published systems to draw into a front, None if scores lack test utterances."""
    lacking = cells.loc[cells["task"] == task, "left_out"].fillna(0).max()
    if lacking:
        log.warning("published figures are not drawn: scores lack %d utterances", lacking)
        return None
    return published_scores.systems(published_scores.read(known), published_scores.PER)


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
            hypotheses=snakemake.input.hypotheses,
            hours=figure.get("hours"),
            runtimes=(snakemake.input.runtimes or [None])[0],
            conditions=(snakemake.input.conditions or [None])[0],
            found=(snakemake.input.found or [None])[0],
        )
