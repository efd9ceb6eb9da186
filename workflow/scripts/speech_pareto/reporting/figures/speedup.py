"""Speed-up against the saving of MACs: how much of what is saved on paper is saved in time."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from speech_pareto.reporting.figures import canvas
from speech_pareto.reporting.figures.styles import INK, MUTED, styles
from speech_pareto.reporting.tables.roles import CONTROL, TEACHER
from speech_pareto.runtime.formatting import factor, shortest

TITLE = "Speed-up against saved multiply-accumulates"
TICKS = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


@canvas.styled
def draw(summary: pd.DataFrame, task: str, recipes) -> Figure:
    """Return the figure of a task's students, from the table's summary over seeds."""
    rows = summary[(summary["task"] == task) & summary["speedup"].notna()]
    teachers = rows[rows["role"] == TEACHER].drop_duplicates("teacher")
    teachers = teachers.set_index("teacher")["macs_per_second"]
    rows = rows[(rows["role"] != TEACHER) & rows["teacher"].isin(teachers.index)]
    if rows.empty:
        return canvas.nothing(TITLE, f"{task}: no student and teacher were timed")
    rows = rows.assign(saving=rows["teacher"].map(teachers) / rows["macs_per_second"])
    curves = list(rows.groupby(["teacher", "recipe"]))
    figure = Figure(figsize=(6.2, max(4.4, 1.35 + 0.15 * len(curves))))
    axes = canvas.axes_within(figure, 0.75, 1.75, 0.75, 0.75)
    style, labels, several = styles(recipes), [], rows["teacher"].nunique() > 1
    for (teacher, recipe), curve in curves:
        colour, marker = style[recipe]
        control = curve["kind"].iloc[0] == CONTROL
        curve = curve.sort_values("saving")
        middle = curve["speedup"]
        spread = np.maximum(0, [middle - curve["speedup_low"], curve["speedup_high"] - middle])
        line = {"linestyle": (0, (4, 2)) if control else "-", "linewidth": 0.9, "elinewidth": 0.9}
        over = 3 if control else 4
        canvas.bars(axes, curve["saving"], middle, spread, colour, marker, over, **line)
        name = f"{recipe} ({teacher})" if several else recipe
        last = curve.iloc[-1]
        point = (last["saving"], last["speedup"])
        labels.append((name, *point, MUTED if control else colour, marker, not control))
    low = 0.92 * min(1, rows["saving"].min(), rows["speedup_low"].min())
    sides = (1.08 * rows["saving"].max(), 1.08 * max(rows["speedup_high"].max(), 1))
    _scales(axes, low, *sides)
    canvas.margin_labels(axes, labels)
    row = rows.iloc[0]
    where = f"{shortest(row['audio_seconds'])} s of speech, "
    where += f"{row['threads']} {str(row['device']).upper()}"
    subtitle = f"{task}: {where} thread{'' if row['threads'] == 1 else 's'}, batch {row['batch']}"
    notes = ["dotted: ideal, all MACs saved are time saved", "bars: quartiles of paired runs"]
    canvas.words(figure, TITLE, subtitle, notes)
    return figure


def _scales(axes, low: float, right: float, top: float) -> None:
    """Set both scales in octaves, draw the ideal line and the one of the teacher's speed."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, right)
    axes.set_ylim(low, top)
    end = max(right, top)
    axes.plot([low, end], [low, end], color=INK, linewidth=1.1, linestyle=(0, (1, 2)), zorder=2)
    style = {"rotation": 45, "transform_rotates_text": True, "rotation_mode": "anchor"}
    axes.text(1.03 * low, 1.03 * low, "ideal", fontsize=8, ha="left", va="bottom", **style)
    axes.axhline(1, color=MUTED, linewidth=0.8, zorder=1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(TICKS))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: factor(value)))
    axes.grid(linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel("MACs of the teacher / MACs of the student")
    axes.set_ylabel("time of the teacher / time of the student", labelpad=2)
