"""Confusion matrices: which class was taken for which, by a teacher and by its best student."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from speech_pareto.reporting.figures.canvas import axes_within, nothing, styled, words
from speech_pareto.reporting.figures.styles import INK, MUTED
from speech_pareto.reporting.tables.answers import Answered
from speech_pareto.reporting.tables.confusions import Confusion, build
from speech_pareto.reporting.tables.roles import TEACHER
from speech_pareto.reporting.tables.wording import less
from speech_pareto.runtime.formatting import one_decimal

TITLE = "Which class was taken for which"
SHARE = LinearSegmentedColormap.from_list("share", ["#ffffff", "#9fc8e3", "#0072b2"])
NUMBERED = 15  # classes; cells of more have no room for counts
NAMED = 40  # classes; more have no room for their names


@styled
def draw(answered: Answered, task: str, recipes) -> Figure:
    """Return the figure of a task, from its results and utterances."""
    classes, found = build(answered, task)
    if not found or not classes:
        return nothing(TITLE, f"{task}: no model has answers")
    side = float(np.clip(0.36 * len(classes), 1.8, 5.0))  # inches of a matrix
    longest = max(map(len, classes)) if len(classes) <= NAMED else 0
    left, bottom, top = 0.55 + 0.075 * longest, 0.85 + 0.075 * longest, 0.95
    figure = Figure(figsize=(max(5.6, left + len(found) * (side + 0.35)), bottom + side + top))
    width = figure.get_size_inches()[0]
    for place, one in enumerate(found):
        start = left + place * (side + 0.35)
        axes = axes_within(figure, start, width - start - side, bottom, top)
        _matrix(axes, one.counts, numbers=len(classes) <= NUMBERED)
        axes.set_title(f"{_name(one)}: {one_decimal(one.score)} %", fontsize=8.5, pad=4)
        ticks = range(len(classes)) if len(classes) <= NAMED else []
        axes.set_xticks(ticks, classes if ticks else [], rotation=90)
        axes.set_yticks(ticks, classes if ticks and place == 0 else [""] * len(ticks))
        axes.set_xlabel("what it was taken for")
        if place == 0:
            axes.set_ylabel("class")
    notes = ["dark: all utterances of the class; numbers count utterances of the test split"]
    if len(classes) > NUMBERED:
        notes = ["dark: all utterances of the class, of the test split"]
    if len(found) > 1:
        notes.append("the student with the best score on the split that chooses; first seeds")
    words(figure, TITLE, f"{task}: each row is a class, its shares add up to 100 %", notes)
    return figure


def _name(one: Confusion) -> str:
    """Return the name of a model."""
    teacher, recipe, ratio = one.key
    return f"teacher ({teacher})" if one.kind == TEACHER else f"{recipe} {less(ratio, one.target)}"


def _matrix(axes, counts: np.ndarray, numbers: bool) -> None:
    """Draw one matrix (classes, classes); a class without utterances is an empty row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    edges = np.arange(len(counts) + 1) - 0.5
    axes.pcolormesh(edges, edges, shares, cmap=SHARE, vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if numbers and count:
            colour = INK if shares[row, column] < 0.6 else "white"
            place = {"ha": "center", "va": "center_baseline"}
            axes.text(column, row, str(count), fontsize=6.5, color=colour, **place)
    axes.set_ylim(len(counts) - 0.5, -0.5)
    axes.tick_params(length=0, labelsize=7, pad=2)
    axes.spines[:].set(color=MUTED, linewidth=0.6)
