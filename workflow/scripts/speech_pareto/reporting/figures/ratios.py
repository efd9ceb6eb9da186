"""Ratio curves: the score against the share that was removed, of parameters or of another cost."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from speech_pareto.reporting.figures import canvas
from speech_pareto.reporting.figures.styles import INK, MUTED, styles
from speech_pareto.reporting.tables.roles import CONTROL, TEACHER
from speech_pareto.reporting.tables.wording import cost_of, metric_name
from speech_pareto.runtime.formatting import in_percent, percent

WORST = 100.0  # an error rate above it says no more
COLUMNS = {"MACs": "macs_per_second", "bytes": "bytes"}  # of costs that `profile` measures
PARAMETERS = "parameters"


@canvas.styled
def draw(summary: pd.DataFrame, task: str, recipes) -> Figure:
    """Return the figure of a task, from the table's summary over seeds.

    Each cost that the grid asked shares of has axes of its own. Of parameters, MACs and bytes the
    share is what was reached, of time on another device what was asked for.
    """
    rows = summary[(summary["task"] == task) & (summary["n"] > 0) & summary["score"].notna()]
    students = rows[(rows["role"] != TEACHER) & rows["achieved_ratio"].notna()]
    students = students[students["ratio"] > 0]
    students = students.assign(cost=students["target"].map(cost_of))
    costs = sorted(students["cost"].unique(), key=lambda cost: (cost != PARAMETERS, cost))
    short, long = metric_name(rows["metric"].iloc[0]) if len(rows) else ("score", "score")
    title = f"{short} against the share of {' or of '.join(costs or [PARAMETERS])} removed"
    if students.empty:
        return canvas.nothing(title, f"{task}: no student has a score")
    heights = [
        max(2.7, 0.15 * own.groupby(["teacher", "recipe"]).ngroups)
        for _, own in students.groupby("cost", sort=False)
    ]
    panel = max(heights)
    figure = Figure(figsize=(6.2, 0.9 + len(costs) * (panel + 0.6)))
    for place, cost in enumerate(costs):
        above = 0.75 + place * (panel + 0.6)
        under = figure.get_size_inches()[1] - above - panel
        axes = canvas.axes_within(figure, 0.55, 1.75, under, above)
        _panel(axes, rows, students[students["cost"] == cost], cost, styles(recipes))
    notes = ["star and dotted line: the teacher"]
    if (seeds := int(students["seeds"].max())) > 1:
        notes.append(f"bars: ± 1 standard deviation of up to {seeds} seeds")
    if (students["kind"] == CONTROL).any():
        notes.append("grey: controls")
    canvas.words(figure, title, f"{task}: {long}, {rows['better'].iloc[0]} is better", notes)
    return figure


def _panel(axes, rows: pd.DataFrame, students: pd.DataFrame, cost: str, style: dict) -> None:
    """Draw the students of one cost, and their teachers."""
    lower, labels = rows["better"].iloc[0] == "lower", []
    stars = _teachers(axes, rows)
    several = students["teacher"].nunique() > 1
    students = students.assign(removed=_removed(rows, students, cost))
    for (teacher, recipe), curve in students.groupby(["teacher", "recipe"]):
        colour, marker = style[recipe]
        control = curve["kind"].iloc[0] == CONTROL
        curve = curve.sort_values("removed")
        y = curve["score"].clip(upper=WORST) if lower else curve["score"]
        start = [(0.0, stars[teacher])] if teacher in stars else []
        path = start + list(zip(curve["removed"], y, strict=True))
        line: dict[str, Any] = {"linestyle": (0, (4, 2)) if control else "-"}
        line |= {"alpha": 0.55, "linewidth": 1.2}
        axes.plot(*zip(*path, strict=True), color=colour, zorder=2 if control else 3, **line)
        points = (curve["removed"], y, curve["score_std"])
        bar = {"linestyle": "none", "elinewidth": 1.1, "capsize": 2.5}
        canvas.bars(axes, *points, colour, marker, 4, **bar)
        name = f"{recipe} ({teacher})" if several else recipe
        labels.append((name, *path[-1], MUTED if control else colour, marker, not control))
    axes.grid(axis="y", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlim(0, 1.03 * students["removed"].max())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_percent(value)))
    remarks = {PARAMETERS: " (zeros count)"} | dict.fromkeys(COLUMNS, "")
    remark = remarks.get(cost, ", as predicted")
    axes.set_xlabel(f"share of the teacher's {cost} removed{remark}")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    canvas.margin_labels(axes, labels)


def _removed(rows: pd.DataFrame, students: pd.DataFrame, cost: str) -> pd.Series:
    """Return the share of a cost that each student lacks."""
    if cost == PARAMETERS:
        return students["achieved_ratio"]
    asked = students["target"].str.partition(" of ")[0].astype(float)
    if cost not in COLUMNS:
        return asked
    teachers = rows[rows["role"] == TEACHER].drop_duplicates("teacher").set_index("teacher")
    full = students["teacher"].map(teachers[COLUMNS[cost]]).astype(float)
    return (1 - students[COLUMNS[cost]] / full).fillna(asked)


def _teachers(axes, rows: pd.DataFrame) -> dict[str, float]:
    """Draw the pretrained teachers; return their scores."""
    found = {}
    for row in rows[rows["kind"] == TEACHER].itertuples():
        found[row.teacher] = row.score
        axes.axhline(row.score, color=INK, linewidth=0.8, linestyle=(0, (1, 2.5)), zorder=1)
        star = {"marker": "*", "markersize": 14, "markeredgecolor": "white"}
        axes.plot(0, row.score, color=INK, clip_on=False, zorder=6, **star)
    return found
