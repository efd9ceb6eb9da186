"""How a search went and what it found: hypervolume against hours, its front beside the grid."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from speech_pareto.reporting.figures import canvas
from speech_pareto.reporting.figures.styles import GREY, INK, MUTED
from speech_pareto.reporting.tables.pareto import areas, non_dominated
from speech_pareto.reporting.tables.roles import TEACHER
from speech_pareto.reporting.tables.wording import metric_name
from speech_pareto.runtime.formatting import one_decimal
from speech_pareto.study.quantities import QUANTITIES

GRID, FOUND = GREY, "#0072b2"
ENDED = {
    "budget": "its hours were spent",
    "still": "the hypervolume stood still",
    "pool": "all candidates were run",
}


@canvas.styled
def draw(found: Mapping, summary: pd.DataFrame) -> Figure:
    """Return the figure of a search, from what `search.end` wrote and the table's summary."""
    task, cost = found["task"], QUANTITIES[found["cost"]]
    rows = summary[(summary["task"] == task) & summary["valid_score"].notna()]
    rows = rows[(rows["role"] != TEACHER) & rows[cost.column].notna()]
    keys = {(one["recipe"], float(one["ratio"])) for one in found["front"]}
    own = [key in keys for key in zip(rows["recipe"], rows["ratio"], strict=True)]
    grid, front = rows[~np.array(own, dtype=bool)], rows[np.array(own, dtype=bool)]
    held = {name: volume(points, found) for name, points in (("grid", grid), ("front", front))}
    title = f"{task}: the front that was found holds {one_decimal(held['front'])} % of the plane, "
    title += f"the grid {one_decimal(held['grid'])} %"
    figure = Figure(figsize=(8.6, 4.2))
    progress(canvas.axes_within(figure, 0.6, 5.3, 0.95, 0.75), found, held["grid"])
    plane(canvas.axes_within(figure, 4.1, 0.2, 0.95, 0.75), found, grid, front)
    hours = found["rounds"][-1]["seconds"] / 3600 if found["rounds"] else 0.0
    tried = sum(one["rung"] is not None for one in found["pool"])
    subtitle = f"{tried} of {len(found['pool'])} candidates in {hours:.2f} foretold hours; "
    subtitle += f"it ended as {ENDED[found['ended']]}"
    notes = [
        "hypervolume: share of cost and error, up to the teacher's cost and 100 %, on validation",
        "shaded: 95 % of what is expected of the best candidates after all steps",
        "rings: scored after fewer steps",
    ]
    canvas.words(figure, title, subtitle, notes)
    return figure


def errors(rows: pd.DataFrame, found: Mapping) -> pd.Series:
    """Return the validation errors of a summary's rows, in percent."""
    scores = rows["valid_score"]
    return scores if found["better"] == "lower" else found["worst"] - scores


def volume(rows: pd.DataFrame, found: Mapping) -> float:
    """Return the hypervolume that a summary's rows hold, in percent of all."""
    column = QUANTITIES[found["cost"]].column
    reference = found["dearest"][found["cost"]], found["worst"]
    held = areas(rows[column], errors(rows, found).to_numpy()[None], reference)[0]
    return 100 * float(held) / (reference[0] * reference[1])


def progress(axes, found: Mapping, grid: float) -> None:
    """Draw the hypervolume after each round against the hours until then."""
    hours = [one["seconds"] / 3600 for one in found["rounds"]]
    volumes = [one["hypervolume"] for one in found["rounds"]]
    axes.plot(hours, volumes, color=FOUND, marker="o", markersize=3.5, linewidth=1.2)
    axes.axhline(grid, color=GRID, linewidth=1.0, linestyle=(0, (4, 2)))
    axes.annotate("the grid", (0, grid), (2, 3), textcoords="offset points", color=MUTED, size=7.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("foretold hours")
    axes.set_ylabel("hypervolume in %")
    axes.grid(axis="y", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)


def plane(axes, found: Mapping, grid: pd.DataFrame, front: pd.DataFrame) -> None:
    """Draw what was run and what is expected over cost and validation score."""
    quantity, flip = QUANTITIES[found["cost"]], found["better"] != "lower"

    def score(error):
        return found["worst"] - np.asarray(error, dtype=float) if flip else error

    def cost_of(candidates):
        return [one[found["cost"]] for one in candidates]

    pool = [one for one in found["pool"] if "expected" in one]
    if pool:
        points = np.array([(one[found["cost"]], one["expected"]["error"]) for one in pool])
        best = [one for one, on in zip(pool, non_dominated(points), strict=True) if on]
        best.sort(key=lambda one: one[found["cost"]])
        low, high = ([one["expected"][end] for one in best] for end in ("low", "high"))
        axes.fill_between(cost_of(best), score(low), score(high), color=FOUND, alpha=0.13, lw=0)
        middle = score([one["expected"]["error"] for one in best])
        axes.plot(cost_of(best), middle, color=FOUND, linewidth=0.8, linestyle=(0, (2, 2)))
    top = len(found["steps"]) - 1
    for fill, tried in (
        ("white", [one for one in found["pool"] if one["rung"] not in (None, top)]),
        (FOUND, [one for one in found["pool"] if one["rung"] == top]),
    ):
        tried = [one for one in tried if one["error"] is not None]
        ring = {"markeredgecolor": FOUND, "markeredgewidth": 0.6, "alpha": 0.55}
        shown = score([one["error"] for one in tried])
        axes.plot(cost_of(tried), shown, "o", color=fill, markersize=3.5, zorder=2, **ring)
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.6, "linestyle": "none", "zorder": 4}
    axes.plot(grid[quantity.column], grid["valid_score"], "s", color=GRID, markersize=5, **edge)
    front = front.sort_values(quantity.column)
    axes.plot(front[quantity.column], front["valid_score"], "D", color=INK, markersize=6, **edge)
    axes.set_xlabel(quantity.drawn.label)
    axes.set_ylabel("validation score in %")
    if len(front):
        axes.set_ylabel(f"{metric_name(front['metric'].iloc[0])[0]} on validation in %")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity.form(value)))
    handles = [
        axes.plot([], [], sign, color=colour, label=label, markersize=5)[0]
        for sign, colour, label in (
            ("D", INK, "front found, all seeds"),
            ("o", FOUND, "candidate"),
            ("s", GRID, "the grid"),
        )
    ]
    axes.legend(handles=handles, frameon=False, fontsize=7.5)
    axes.grid(axis="y", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
