"""Ratio curves: the score against the share of parameters that was removed."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from speech_pareto.reporting.figures import canvas
from speech_pareto.reporting.figures.styles import INK, MUTED, styles
from speech_pareto.reporting.tables.roles import CONTROL, TEACHER
from speech_pareto.reporting.tables.wording import metric_name
from speech_pareto.runtime.formatting import in_percent, percent

WORST = 100.0  # an error rate above it says no more


@canvas.styled
def draw(summary: pd.DataFrame, task: str, recipes) -> Figure:
    """Return the figure of a task, from the table's summary over seeds."""
    rows = summary[(summary["task"] == task) & (summary["n"] > 0) & summary["score"].notna()]
    students = rows[(rows["role"] != TEACHER) & rows["achieved_ratio"].notna()]
    students = students[students["ratio"] > 0]
    short, long = metric_name(rows["metric"].iloc[0]) if len(rows) else ("score", "score")
    title = f"{short} against the share of parameters removed"
    if students.empty:
        return canvas.nothing(title, f"{task}: no student has a score")
    curves = list(students.groupby(["teacher", "recipe"]))
    figure = Figure(figsize=(6.2, max(4.2, 1.35 + 0.15 * len(curves))))
    axes = canvas.axes_within(figure, 0.55, 1.75, 0.75, 0.75)
    lower = rows["better"].iloc[0] == "lower"
    style, labels = styles(recipes), []
    stars = _teachers(axes, rows)
    several = students["teacher"].nunique() > 1
    for (teacher, recipe), curve in curves:
        colour, marker = style[recipe]
        control = curve["kind"].iloc[0] == CONTROL
        curve = curve.sort_values("achieved_ratio")
        y = curve["score"].clip(upper=WORST) if lower else curve["score"]
        start = [(0.0, stars[teacher])] if teacher in stars else []
        path = start + list(zip(curve["achieved_ratio"], y, strict=True))
        line = {"linestyle": (0, (4, 2)) if control else "-", "alpha": 0.55, "linewidth": 1.2}
        axes.plot(*zip(*path, strict=True), color=colour, zorder=2 if control else 3, **line)
        points = (curve["achieved_ratio"], y, curve["score_std"])
        bar = {"linestyle": "none", "elinewidth": 1.1, "capsize": 2.5}
        canvas.bars(axes, *points, colour, marker, 4, **bar)
        name = f"{recipe} ({teacher})" if several else recipe
        labels.append((name, *path[-1], MUTED if control else colour, marker, not control))
    axes.grid(axis="y", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlim(0, 1.03 * students["achieved_ratio"].max())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_percent(value)))
    axes.set_xlabel("share of the teacher's parameters removed (zeros count)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    canvas.margin_labels(axes, labels)
    notes = ["star and dotted line: the teacher"]
    if (seeds := int(students["seeds"].max())) > 1:
        notes.append(f"bars: ± 1 standard deviation of up to {seeds} seeds")
    if (students["kind"] == CONTROL).any():
        notes.append("grey: controls")
    canvas.words(figure, title, f"{task}: {long}, {rows['better'].iloc[0]} is better", notes)
    return figure


def _teachers(axes, rows: pd.DataFrame) -> dict[str, float]:
    """Draw the pretrained teachers; return their scores."""
    found = {}
    for row in rows[rows["kind"] == TEACHER].itertuples():
        found[row.teacher] = row.score
        axes.axhline(row.score, color=INK, linewidth=0.8, linestyle=(0, (1, 2.5)), zorder=1)
        star = {"marker": "*", "markersize": 14, "markeredgecolor": "white"}
        axes.plot(0, row.score, color=INK, clip_on=False, zorder=6, **star)
    return found
