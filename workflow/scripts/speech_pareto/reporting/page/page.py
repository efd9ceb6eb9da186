"""One static page of a study: nothing but a browser is needed, no server and no network."""

import json

import pandas as pd

from speech_pareto.reporting import budget
from speech_pareto.reporting.figures import fronts
from speech_pareto.reporting.figures.styles import styles
from speech_pareto.reporting.page.template import render
from speech_pareto.reporting.tables.results_table import summarise
from speech_pareto.reporting.tables.roles import TEACHER
from speech_pareto.reporting.tables.wording import AS_GOOD_TEXT
from speech_pareto.study import quantities

EXAMPLES = [budget.EXAMPLE, "<= 1.6 M parameters, <= 50 ms", "score <= 50 %, <= 5 MB"]


def write(study: dict, cells: pd.DataFrame, base: str = "") -> str:
    """Return the page of a `study` (see `points.study`) and the table it is made of.

    `base` leads from the page's folder to that of the results.
    """
    trained = {point["teacher"] for point in study["points"] if point["kind"] == TEACHER}
    data = study | {
        "costs": {
            cost: {"short": one.drawn.short, "label": one.drawn.label, "sparse": one.drawn.sparse}
            for cost, one in quantities.main_axes().items()
        },
        "columns": {
            name: one.label
            for name, one in quantities.QUANTITIES.items()
            if name not in ("score", "ratio")  # these stand elsewhere
        },
        "messages": messages(cells),
        "styles": styles({point["recipe"]: point["role"] for point in study["points"]}),
        "grammar": budget.grammar(),
        "examples": EXAMPLES,
        "asGood": AS_GOOD_TEXT,
        "teachers": len(trained),
        "base": base,
    }
    return render("page.html", study=study["study"], data=embedded(data))


def embedded(data) -> str:
    """Return `data` as JSON that no end of a script element can hide in, as markup."""
    from markupsafe import Markup

    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))  # inside a script element nothing is escaped


def messages(cells: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return task -> cost -> what the figure says in one sentence, where there is one."""
    summary, found = summarise(cells), {}
    for task in summary["task"].unique():
        found[task] = {}
        for cost, axis in quantities.main_axes().items():
            rows = summary[summary["task"] == task]
            if (rows[axis.column].notna() & rows["score"].notna()).any():
                found[task][cost] = fronts.message(summary, task, cost)
    return found
