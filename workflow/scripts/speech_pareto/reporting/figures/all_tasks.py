"""The fronts of all tasks over one cost, side by side."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from speech_pareto.reporting.figures.canvas import axes_within, mark, nothing, styled, words
from speech_pareto.reporting.figures.styles import GREY, INK, MUTED, SHADE, styles
from speech_pareto.reporting.tables.roles import STUDENT, TEACHER
from speech_pareto.reporting.tables.wording import UNSURE_TEXT, metric_name
from speech_pareto.runtime.formatting import in_percent, trimmed
from speech_pareto.study.quantities import QUANTITIES

COLUMNS, SIDE, KEY = 3, 2.15, 1.75  # panels in a line; their size and that of the key in inches


@styled
def tasks(summary: pd.DataFrame, cost: str, recipes) -> Figure:
    """Return the figure of all tasks over `cost`, from the table's summary over seeds."""
    column, panel = QUANTITIES[cost].column, QUANTITIES[cost].drawn.panel
    rows = summary[(summary["n"] > 0) & summary[column].notna() & summary["score"].notna()]
    title = f"All tasks: score against {panel}"
    if rows.empty:
        return nothing(title, "no task has a score and a cost")
    rows, style = rows.assign(x=rows[column].astype(float)), styles(recipes)
    names = sorted(rows["task"].unique())
    columns = min(COLUMNS, len(names))
    lines = -(-len(names) // columns)
    order = (TEACHER, STUDENT)  # then controls
    methods = sorted(
        rows["recipe"].unique(), key=lambda r: (*(recipes[r] != role for role in order), r)
    )
    width = columns * (SIDE + 0.55) + KEY
    height = max(1.35 + lines * (SIDE + 0.5), 1.35 + 0.19 * len(methods))
    figure = Figure(figsize=(width, height))
    for place, task in enumerate(names):
        line, across = divmod(place, columns)
        left, above = 0.55 + across * (SIDE + 0.55), 0.95 + line * (SIDE + 0.5)
        sides = (left, width - left - SIDE, height - above - SIDE, above)
        axes = axes_within(figure, *sides)
        own = rows[rows["task"] == task]
        _panel(axes, own, cost, style)
        axes.set_title(f"{task}: {metric_name(own['metric'].iloc[0])[0]}", fontsize=9)
        if line == lines - 1 or place + columns >= len(names):
            axes.set_xlabel(panel, fontsize=8.5)
    _key(figure, {method: recipes[method] for method in methods}, style)
    notes = ["black line: the front, no method measured is cheaper and better", "star: the teacher"]
    chosen, reported = (rows[f"{name}_{cost}"].astype(bool) for name in ("front", "test_front"))
    if (chosen & ~reported).any():
        notes.append(f"×: {UNSURE_TEXT}")
    words(figure, title, "error rates: lower is better; accuracies: higher is better", notes)
    return figure


def _panel(axes, rows: pd.DataFrame, cost: str, style: dict) -> None:
    """Draw one task: its points, a line through each recipe, the front."""
    better = rows["better"].iloc[0]
    for (_, recipe), own in rows.groupby(["teacher", "recipe"]):
        colour, marker = style[recipe]
        first = own.iloc[0]
        colour = colour if first["pretrained"] else GREY
        size = 10 if first["role"] == TEACHER else 5
        over = {TEACHER: 5, STUDENT: 4}.get(first["kind"], 3)
        line = {"linestyle": "-" if first["kind"] == STUDENT else (0, (3, 2)), "linewidth": 0.9}
        mark(axes, own["x"], own["score"], marker, size, colour, ("white", 0.5), over, **line)
    high = axes.get_ylim()[1]
    axes.set_xlim(0, 1.06 * rows["x"].max())
    front = rows[rows[f"front_{cost}"]].sort_values(["x", "choice_score"])
    if len(front):
        worst = high if better == "lower" else axes.get_ylim()[0]
        x = np.array([*front["x"], axes.get_xlim()[1]])
        y = np.array([*front["score"], front["score"].iloc[-1]])
        axes.fill_between(x, y, worst, step="post", color=SHADE, linewidth=0, zorder=0.5)
        axes.plot(x, y, drawstyle="steps-post", color=INK, linewidth=1.5, zorder=2)
        unsure = front[~front[f"test_front_{cost}"].astype(bool)]
        axes.plot(unsure["x"], unsure["score"], "x", color=INK, markersize=8, zorder=6)
    form = QUANTITIES[cost].form
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: trimmed(form(value))))
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_percent(value)))
    axes.grid(axis="y", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7.5, length=2)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _key(figure: Figure, recipes: dict[str, str], style: dict) -> None:
    """Write which colour and marker is which recipe."""
    width, height = figure.get_size_inches()
    for place, (method, role) in enumerate(recipes.items()):
        colour, marker = style[method]
        y = 1 - (1.0 + 0.19 * place) / height
        point: dict[str, Any] = {"transform": figure.transFigure, "markeredgewidth": 0}
        point |= {"color": colour, "clip_on": False}
        figure.axes[0].plot((width - KEY + 0.15) / width, y, marker, **point)
        ink: dict[str, Any] = {"color": colour if role == STUDENT else MUTED, "fontsize": 7.5}
        name = "teacher" if role == TEACHER else method
        figure.text((width - KEY + 0.28) / width, y, name, va="center", **ink)
