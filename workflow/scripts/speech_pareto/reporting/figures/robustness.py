"""What compression costs in noise: in each condition, against what it costs without it."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from speech_pareto.reporting.figures import canvas
from speech_pareto.reporting.figures.styles import INK, MUTED, SHADE, styles
from speech_pareto.reporting.tables.degradation import condition_order
from speech_pareto.reporting.tables.pareto import SIGNS
from speech_pareto.reporting.tables.roles import CONTROL, TEACHER, with_kinds
from speech_pareto.reporting.tables.significance import ALPHA
from speech_pareto.reporting.tables.wording import metric_name
from speech_pareto.runtime.formatting import one_decimal

TITLE = "What compression costs in noise"
PANEL = 2.35  # inches of a panel's side
ACROSS = 3  # panels at most


@canvas.styled
def draw(table: pd.DataFrame, task: str, recipes) -> Figure:
    """Return the figure of a task's students, from the table of what conditions cost.

    A panel is a condition. A point is a student: how many points of error it has more than its
    teacher, from left to right without the condition, from below to above in it.
    """
    rows = table[table["task"] == task]
    names = condition_order(rows)
    teachers = rows[(rows["role"] == TEACHER) & (rows["status"] == "ok")]
    teachers = teachers.drop_duplicates(["teacher", "condition"])
    base = teachers.set_index(["teacher", "condition"])[["score", "clean_score"]]
    students = rows[rows["beyond"].notna()]
    if students.empty:
        return canvas.nothing(TITLE, f"{task}: no student and teacher were heard in a condition")
    known = base.loc[list(zip(students["teacher"], students["condition"], strict=True))]
    sign = SIGNS[students["better"].iloc[0]]
    clean = sign * (students["clean_score"].to_numpy() - known["clean_score"].to_numpy())
    students = students.assign(clean=clean, inside=clean + students["beyond"])
    students = with_kinds(students.assign(sure=students["p_corrected"] < ALPHA))
    teachers = teachers[teachers["teacher"].isin(students["teacher"])]
    across = 2 if len(names) == 4 else min(ACROSS, len(names))
    down = math.ceil(len(names) / across)
    figure = Figure(figsize=(0.9 + (PANEL + 0.35) * across, 2.35 + (PANEL + 0.5) * down))
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    _margins(figure)
    low, high = _ends(students["clean"]), _ends(students["inside"])
    for axes, name in zip(panels.flat, names, strict=False):
        _panel(axes, students[students["condition"] == name], styles(recipes), (low, high))
        of = teachers[teachers["condition"] == name]
        axes.set_title(name, fontsize=9, fontweight="bold", loc="left", pad=14)
        said = ", ".join(
            f"{one_decimal(row.clean_score)} → {one_decimal(row.score)} %"
            for row in of.itertuples()
        )
        said = f"teacher{'s' if len(of) > 1 else ''} {said}"
        axes.text(0, 1.025, said, fontsize=7.5, color=MUTED, transform=axes.transAxes)
    for axes, above in zip(
        panels.flat[len(names) :], panels.flat[len(names) - across :], strict=False
    ):
        axes.set_visible(False)
        above.tick_params(labelbottom=True)
    short = metric_name(students["metric"].iloc[0])[0]
    figure.supxlabel(
        f"points of {short} that compression costs as recorded",
        fontsize=8.5,
        y=_place(figure, 0.98),
    )
    figure.supylabel("... and in the condition", fontsize=8.5, x=0.1 / figure.get_figwidth())
    _legend(figure, {name: styles(recipes)[name] for name in sorted(set(students["recipe"]))})
    notes = ["dotted: as much as without the condition; above: more", "bars: 95 % intervals"]
    notes += ["hollow: not told from that (matched pairs, Holm)"]
    notes += ["grey: controls"]
    canvas.words(
        figure,
        _message(students),
        f"{task}: students beyond their teacher; a case is a student in a condition",
        notes,
    )
    return figure


def _message(students: pd.DataFrame) -> str:
    """Return what the figure says in one sentence."""
    own = students[students["kind"] != CONTROL]
    own = own if len(own) else students
    more, less = (int((own["sure"] & (side * own["beyond"] > 0)).sum()) for side in (1, -1))
    said = f"Compression costs {{}} in these conditions in {{}} of {len(own)} cases, {{}} in {{}}"
    if less > more:
        return said.format("less", less, "more", more)
    return said.format("more", more, "less", less)


def _margins(figure: Figure) -> None:
    """Leave room for words and legend, in inches."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(left=0.62 / width, right=1 - 0.12 / width, wspace=0.12, hspace=0.32)
    figure.subplots_adjust(bottom=1.4 / height, top=1 - 1.05 / height)


def _legend(figure: Figure, style: dict) -> None:
    """Name the recipes below the panels."""
    empty = figure.axes[0].plot
    handles = [
        empty([], [], mark, color=colour, markersize=5.5)[0] for colour, mark in style.values()
    ]
    below = {"loc": "lower center", "bbox_to_anchor": (0.5, _place(figure, 0.33))}
    tight = {"frameon": False, "fontsize": 7.5, "columnspacing": 1.2, "handletextpad": 0.3}
    figure.legend(handles, list(style), ncols=min(len(style), 5), **below, **tight)


def _place(figure: Figure, inches: float) -> float:
    """Return a height above the lower edge as a share of the figure."""
    return inches / figure.get_figheight()


def _ends(values: pd.Series) -> tuple[float, float]:
    """Return the limits of an axis: all values and 0, and some room."""
    low, high = min(0.0, values.min()), max(0.0, values.max())
    room = 0.08 * (high - low or 1)
    return low - room, high + room


def _panel(axes, rows: pd.DataFrame, style: dict, ends: tuple) -> None:
    """Draw the students of a condition; those of one recipe are joined."""
    (left, right), (bottom, top) = ends
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    line = np.array([max(left, bottom), min(right, top)])
    axes.fill_between(line, line, top, color=SHADE, linewidth=0, zorder=0)
    axes.plot(line, line, color=INK, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
    for (_, recipe), own in rows.groupby(["teacher", "recipe"], sort=True):
        colour, marker = style[recipe]
        own = own.sort_values("clean")
        axes.plot(own["clean"], own["inside"], color=colour, linewidth=0.7, alpha=0.6, zorder=2)
        for row in own.itertuples():
            spread = [[row.beyond - row.beyond_low], [row.beyond_high - row.beyond]]
            axes.errorbar(row.clean, row.inside, yerr=spread, color=colour, linewidth=0.9, zorder=3)
            inner = colour if row.sure else "white"
            canvas.mark(axes, row.clean, row.inside, marker, 5.5, inner, (colour, 0.9), 4)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.axhline(0, color=MUTED, linewidth=0.5, zorder=1)
    axes.axvline(0, color=MUTED, linewidth=0.5, zorder=1)
    axes.grid(linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, labelsize=7.5)
