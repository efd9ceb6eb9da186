"""Which layers of the teacher a student's hidden states resemble: one map of CKA per student."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from speech_pareto.reporting.figures.canvas import in_order, nothing, styled, words
from speech_pareto.reporting.figures.styles import INK, MUTED, styles
from speech_pareto.reporting.tables.analysis import CKA
from speech_pareto.reporting.tables.roles import CONTROL, TEACHER
from speech_pareto.reporting.tables.wording import less
from speech_pareto.runtime.formatting import two_decimals

TITLE = "Which of the teacher's layers the student's resemble"
COLUMNS = 6


def maps_of(rows: pd.DataFrame) -> dict[tuple, np.ndarray]:
    """Return student -> similarity (its layers, the teacher's layers), of one ratio per recipe.

    That is the ratio which most recipes have, or the recipe's nearest to it.
    """
    rows = rows[rows["quantity"] == CKA]
    students = rows[["teacher", "recipe", "ratio"]].drop_duplicates()
    common = students.loc[students["ratio"] > 0, "ratio"].mode()
    common = common.iloc[-1] if len(common) else 0.0
    found = {}
    for (teacher, recipe), own in rows.groupby(["teacher", "recipe"]):
        ratio = min(own["ratio"].unique(), key=lambda ratio: (abs(ratio - common), ratio))
        grid = own[own["ratio"] == ratio].pivot(index="layer", columns="other", values="value")
        found[teacher, recipe, ratio] = grid.to_numpy(dtype=float)
    return found


@styled
def draw(rows: pd.DataFrame, task: str, recipes) -> Figure:
    """Return the figure of a task's students, from rows of `analysis.students_of`."""
    maps = maps_of(rows)
    if not maps:
        return nothing(TITLE, f"{task}: no student was made")
    # the teacher first, then those whose output is nearest to its output
    order = [one for one in in_order(rows) if one.key in maps]
    order.sort(key=lambda one: (one.role != TEACHER, -maps[one.key][-1, -1], one.key))
    several = len({one.teacher for one in order}) > 1
    columns = min(COLUMNS, len(order))
    lines = -(-len(order) // columns)
    side, gap = 0.88, 0.46
    least = np.floor(10 * min(grid.min() for grid in maps.values())) / 10
    width = max(5.6, 0.5 + columns * (side + 0.28) + 0.45)
    height = 1.1 + lines * (side + gap)
    figure, style = Figure(figsize=(width, height)), styles(recipes)
    for place, one in enumerate(order):
        grid = maps[one.key]
        line, column = divmod(place, columns)
        x, y = 0.5 + column * (side + 0.28), height - 0.95 - line * (side + gap) - side
        axes = figure.add_axes((x / width, y / height, side / width, side / height))
        mesh = axes.pcolormesh(grid, cmap="cividis", vmin=least, vmax=1)
        nearest = grid.argmax(1) + 0.5
        axes.plot(nearest, np.arange(len(nearest)) + 0.5, "o", color=INK, markersize=2.2)
        _frame(axes, grid, line == lines - 1 or place + columns >= len(order), column == 0)
        name = "teacher" if one.role == TEACHER else _broken(one.recipe)
        about = f"{one.teacher}, " if several else ""
        short = one.target and one.target.partition(" on ")[0]  # no room for a device
        about += f"{less(one.ratio, short)}: " if one.ratio else ""
        colour = MUTED if one.kind == CONTROL else style[one.recipe][0]
        head: dict[str, Any] = {"fontsize": 6.6, "color": INK if one.role == TEACHER else colour}
        title = f"{name}\n{about}{two_decimals(float(grid[-1, -1]))}"
        axes.set_title(title, pad=2, linespacing=1.1, **head)
    bar = figure.add_axes((1 - 0.42 / width, 1 - 1.83 / height, 0.09 / width, side / height))
    figure.colorbar(mesh, cax=bar, ticks=[least, 1])
    bar.tick_params(labelsize=6.5, length=0, pad=2)
    bar.set_title("CKA", fontsize=6.5, pad=3)
    subtitle = f"{task}: linear CKA of hidden states before recovery; number: of the last layers"
    notes = ["dot: the teacher's layer most like this one", "layer 0: the input of the first"]
    words(figure, TITLE, subtitle, notes)
    return figure


def _frame(axes, values: np.ndarray, below: bool, left: bool) -> None:
    """Write the numbers of the first and the last layers, and what they count at the edges."""
    ours, theirs = values.shape
    axes.set_xticks([0.5, theirs - 0.5], ["0", str(theirs - 1)])
    axes.set_yticks([0.5, ours - 0.5], ["0", str(ours - 1)])
    axes.tick_params(length=0, labelsize=6.5, pad=1.5)
    if below:
        axes.set_xlabel("teacher", fontsize=7, labelpad=-4)
    if left:
        axes.set_ylabel("student", fontsize=7, labelpad=-2)
    axes.spines[:].set_visible(False)


def _broken(name: str, most: int = 19) -> str:
    """Return a name that fits above a small map."""
    return name if len(name) <= most else name[: most - 1] + "…"
