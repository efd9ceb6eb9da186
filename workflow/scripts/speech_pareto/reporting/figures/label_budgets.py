"""Label efficiency: scores of tasks that differ only in their hours of labelled recordings."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from speech_pareto.reporting.figures import canvas
from speech_pareto.reporting.figures.styles import GREY, MUTED, styles
from speech_pareto.reporting.tables.roles import CONTROL, TEACHER
from speech_pareto.reporting.tables.wording import less, metric_name
from speech_pareto.runtime.formatting import in_percent, shortest

WORST = 100.0  # an error rate above it says no more
ALL = 2.0  # `all` stands where so many times the most hours would


@canvas.styled
def draw(summary: pd.DataFrame, hours: Mapping[str, float | None], recipes) -> Figure:
    """Return the figure of a family of tasks, from the table's summary over seeds.

    `hours` maps each task to its `train_hours`; None: all recordings of training.
    """
    rows = summary[summary["task"].isin(hours) & (summary["n"] > 0) & summary["score"].notna()]
    short, long = metric_name(rows["metric"].iloc[0]) if len(rows) else ("score", "score")
    title = f"{short} against hours of labelled speech"
    if rows.empty:
        return canvas.nothing(title, "no task has a score")
    stated = sorted(number for number in hours.values() if number)
    end = ALL * stated[-1]
    rows = rows.assign(hours=[hours[task] or end for task in rows["task"]])
    curves = list(rows.groupby(["teacher", "recipe", "ratio"]))
    figure = Figure(figsize=(6.4, max(4.2, 1.35 + 0.15 * len(curves))))
    axes = canvas.axes_within(figure, 0.55, 2.05, 0.75, 0.75)
    lower, style, labels = rows["better"].iloc[0] == "lower", styles(recipes), []
    for (teacher, recipe, ratio), curve in curves:
        colour, marker = style[recipe]
        first, curve = curve.iloc[0], curve.sort_values("hours")
        control = first["kind"] == CONTROL
        colour = GREY if control else colour
        y = curve["score"].clip(upper=WORST) if lower else curve["score"]
        line = {"linestyle": (0, (4, 2)) if control else "-", "linewidth": 1.2, "capsize": 2.5}
        over = 3 if control else 4
        canvas.bars(axes, curve["hours"], y, curve["score_std"], colour, marker, over, **line)
        name = teacher if first["role"] == TEACHER else f"{recipe} {less(ratio, first['target'])}"
        name = f"never pretrained ({name})" if not first["pretrained"] else name
        point = (curve["hours"].iloc[-1], y.iloc[-1])
        labels.append((name, *point, MUTED if control else colour, marker, not control))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(
        FixedLocator([*stated, *([end] if None in hours.values() else [])])
    )
    axes.xaxis.set_minor_locator(NullLocator())
    told = {end: "all"} if None in hours.values() else {}
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: told.get(x) or _hours(x)))
    axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_percent(value)))
    axes.grid(axis="y", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("labelled speech that a model is fine-tuned on")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    canvas.margin_labels(axes, labels)
    notes = ["fewer hours are a part of more", "grey: controls"]
    if (seeds := int(rows["seeds"].max())) > 1:
        notes.append(f"bars: ± 1 standard deviation of up to {seeds} seeds")
    canvas.words(figure, title, f"{long}, {rows['better'].iloc[0]} is better", notes)
    return figure


def _hours(hours: float) -> str:
    """Return hours as `10 min` or `1.5 h`."""
    return f"{round(60 * hours)} min" if hours < 1 else f"{shortest(hours)} h"
