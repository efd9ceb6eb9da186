"""What each layer keeps: heads, feed-forward rows and weights, a line per student."""

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from speech_pareto.reporting.figures.canvas import axes_within, in_order, nothing, styled, words
from speech_pareto.reporting.figures.styles import INK, MUTED, styles
from speech_pareto.runtime.formatting import whole

TITLE = "What each layer keeps"
KEPT = LinearSegmentedColormap.from_list("kept", ["#ffffff", "#9fc8e3", "#0072b2"])
PANELS = {
    "heads": "attention heads",
    "rows": "feed-forward rows, %",
    "weights": "weights that are not zero, %",
}
WHOLE = 0.98  # from this share of each layer on, nothing was removed; int8 rounds some to zero
NUMBERED = 8  # layers; cells of deeper models have no room for numbers


def shares(rows: pd.DataFrame) -> dict[tuple, dict[str, np.ndarray]]:
    """Return student -> panel -> what is left of the teacher's layer, by layer of the teacher.

    NaN where the student has no such layer. Students from which nothing was taken are left out.
    """
    found = {}
    for key, own in rows.groupby(["teacher", "recipe", "ratio"]):
        sizes = own[own["other"].isna()].pivot_table(
            index=["model", "layer"], columns="quantity", values="value"
        )
        sizes = sizes.assign(weights=sizes["attention"] + sizes["ffn"])
        full = sizes.loc["teacher"]
        share = sizes.loc["student"].reindex(full.index) / full
        if not (share[list(PANELS)] >= WHOLE).all(axis=None):
            found[key] = {name: share[name].to_numpy(dtype=float) for name in PANELS}
            found[key]["number"] = sizes.loc["student"].reindex(full.index)["heads"].to_numpy()
    return found


@styled
def draw(rows: pd.DataFrame, task: str, recipes) -> Figure:
    """Return the figure of a task's students, from rows of `analysis.students_of`."""
    left = shares(rows)
    if not left:
        return nothing(TITLE, f"{task}: no student lost a part of a layer")
    students = [one for one in in_order(rows) if one.key in left]
    style, several = styles(recipes), len({one.teacher for one in students}) > 1
    depth = max(len(share["heads"]) for share in left.values())
    names = [one.name + f" ({one.teacher})" * several for one in students]
    label = 0.075 * max(map(len, names)) + 0.2
    cell = 0.17
    width = max(7.2, label + 3 * depth * 0.24 + 0.8)
    figure = Figure(figsize=(width, 1.35 + cell * len(students)))
    each = (width - label - 0.15) / len(PANELS)
    for place, (panel, title) in enumerate(PANELS.items()):
        start = label + place * each
        axes = axes_within(figure, start, width - start - each + 0.15, 0.55, 0.8)
        _panel(axes, [left[one.key] for one in students], panel, depth)
        axes.set_title(title, fontsize=8.5, pad=3)
        axes.set_yticks(range(len(students)), names if place == 0 else [""] * len(names))
        for text, one in zip(axes.get_yticklabels(), students, strict=True):
            text.set(color=style[one.recipe][0], fontsize=7.5)
    figure.text(0.5, 0.3 / figure.get_size_inches()[1], "layer", ha="center", fontsize=8.5)
    note = f"dark: all that the teacher has; –: no such layer; {task}, before recovery"
    words(figure, TITLE, "students by recipe and ratio; each cell is one layer", [note])
    return figure


def _panel(axes, students: list[dict], panel: str, depth: int) -> None:
    """Draw one quantity of all students, a line each."""
    values = np.full((len(students), depth), np.nan)
    for line, student in enumerate(students):
        values[line, : len(student[panel])] = student[panel]
    columns, lines = np.arange(depth + 1) + 0.5, np.arange(len(students) + 1) - 0.5
    style = {"cmap": KEPT, "vmin": 0, "vmax": 1, "edgecolor": "white", "linewidth": 0.8}
    axes.pcolormesh(columns, lines, np.nan_to_num(values), **style)
    for (line, layer), value in np.ndenumerate(values):
        if np.isnan(value):
            text = "–"
        elif depth > NUMBERED:
            continue
        else:
            number = students[line]["number"][layer] if panel == "heads" else 100 * value
            text = whole(number)
        light = np.isnan(value) or value < 0.6
        colour = MUTED if np.isnan(value) else INK if light else "white"
        place = {"ha": "center", "va": "center_baseline"}
        axes.text(layer + 1, line, text, fontsize=6.5, color=colour, **place)
    axes.set_ylim(len(students) - 0.5, -0.5)
    axes.set_xticks(range(1, depth + 1))
    axes.tick_params(length=0, labelsize=7.5, pad=2)
    axes.spines[:].set_visible(False)
