"""One static page of a study: nothing but a browser is needed, no server and no network."""

import json
from base64 import b64encode
from collections.abc import Mapping

import pandas as pd

from speech_pareto.data.condition import WORST
from speech_pareto.reporting.figures import fronts
from speech_pareto.reporting.figures.styles import styles
from speech_pareto.reporting.page.template import render
from speech_pareto.reporting.tables import points
from speech_pareto.reporting.tables.results_table import summarise
from speech_pareto.reporting.tables.roles import TEACHER
from speech_pareto.reporting.tables.significance import ALPHA
from speech_pareto.reporting.tables.wording import AS_GOOD_TEXT, CHOSEN_ON, UNSURE_TEXT
from speech_pareto.study import quantities


def write(
    study: dict, cells: pd.DataFrame, base: str = "", figures: Mapping[str, str] | None = None
) -> str:
    """Return the page of a `study` (see `points.study`) and the table it is made of.

    `base` leads from the page's folder to that of the results. `figures` are SVGs, by what they
    are; each is an image of its own, so that no name in one meets that of another.
    """
    trained = {point["teacher"] for point in study["points"] if point["kind"] == TEACHER}
    untold = {
        name
        for name in set(quantities.page_axes()) - set(quantities.main_axes())
        if all(point["values"][name] is None for point in study["points"])
    }
    if len({point["values"]["latency"] for point in study["points"]}) < 2:
        untold.add("latency")  # of a study in which all hear the whole
    data = study | {
        "costs": {
            cost: {"short": one.drawn.short, "label": one.drawn.label, "sparse": one.drawn.sparse}
            for cost, one in quantities.page_axes().items()
            if cost not in untold
        },
        "columns": {
            name: one.label
            for name, one in quantities.QUANTITIES.items()
            if name not in ("score", "ratio", *untold)  # the first two stand elsewhere
        },
        "messages": messages(cells),
        "styles": styles({point["recipe"]: point["role"] for point in study["points"]}),
        "units": {name: dict(one.units) for name, one in quantities.QUANTITIES.items()},
        "limits": fields({facts["better"] for facts in study["tasks"].values()}),
        "alpha": ALPHA,
        "asGood": AS_GOOD_TEXT,
        "chosenOn": CHOSEN_ON,
        "unsure": UNSURE_TEXT,
        "teachers": len(trained),
        "base": base,
    }
    images = {
        what: b64encode(svg.encode()).decode("ascii") for what, svg in (figures or {}).items()
    }
    return render("page.html", study=study["study"], data=embedded(data), images=images)


# What of a point differs between conditions.
PARTS = ("status", "reason", "n", "spread", "as_good", "choice", "front", "testFront", "ties")
SCORES = ("score", "valid_score", "worst_language_score")
TEXTS = (*SCORES, "difference", "seeds", "status")


def heard(*tables: pd.DataFrame) -> dict[str, dict]:
    """Return condition -> what differs there: points by task and key, pairs, messages.

    `tables` as `points.inside` takes them.
    """
    found = {}
    for name in sorted(tables[0]["condition"].unique(), key=lambda name: (name == WORST, name)):
        study, by_task = points.inside(tables, name), {}
        for point in study["points"]:
            part = {key: point[key] for key in PARTS}
            part |= {"values": {key: point["values"][key] for key in SCORES}}
            part |= {"text": {key: point["text"][key] for key in TEXTS}}
            by_task.setdefault(point["task"], {})[point["key"]] = part
        cells = tables[0][tables[0]["condition"] == name]
        found[name] = {"points": by_task, "pairs": study["pairs"], "messages": messages(cells)}
    return found


def fields(better: set[str]) -> list[dict[str, str]]:
    """Return the sliders of a budget; `better`: which scores are, `lower` or `higher` ones."""
    of_scores = {{"lower": "max", "higher": "min"}[one] for one in better}
    return [
        {
            "name": name.replace("_", "-"),
            "bound": bound,
            "quantity": quantity,
            "label": f"{quantities.QUANTITIES[quantity].label} {quantities.BOUNDS[bound]}",
        }
        for name, (bound, quantity) in quantities.limits().items()
        if quantity != "valid_score" or bound in of_scores
    ]


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
        for cost, axis in quantities.page_axes().items():
            rows = summary[summary["task"] == task]
            if (rows[axis.column].notna() & rows["score"].notna()).any():
                found[task][cost] = fronts.message(summary, task, cost)
    return found
