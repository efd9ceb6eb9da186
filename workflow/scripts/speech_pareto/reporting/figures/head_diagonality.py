"""How diagonal attention heads are, and which of them pruning keeps."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from speech_pareto.reporting.figures import canvas
from speech_pareto.reporting.figures.styles import INK, MUTED, styles
from speech_pareto.reporting.tables.analysis import ABOUT, DIAGONALITY
from speech_pareto.reporting.tables.roles import CONTROL
from speech_pareto.runtime.formatting import two_decimals

TITLE = "How diagonal attention is, and what pruning keeps"
FORMULAS = {
    "row_normalised": "mean over queries i of 1 − Σ A(i, j) |i − j| / max |i − j|",
    "length_normalised": "− mean of A(i, j) |i − j| / T",
}


def heads_of(rows: pd.DataFrame, definition: str) -> pd.DataFrame:
    """Return a row per student and head of its teacher: `diagonality`, and whether it is `kept`.

    Only students as deep as their teacher: of others it is unknown which layer came from which.
    """
    keys = ["teacher", "recipe", "ratio", "layer", "other"]
    near = rows[rows["quantity"] == f"diagonality:{definition}"]
    heads = near[near["model"] == "teacher"][[*keys, *ABOUT, "value"]]
    kept = near.loc[near["model"] == "student", keys].assign(kept=True)
    heads = heads.merge(kept, how="left", on=keys)
    heads["kept"] = heads["kept"].eq(True).fillna(False).astype(bool)
    layers = rows[rows["quantity"] == "heads"].groupby([*keys[:3], "model"])["layer"].max()
    layers = layers.unstack("model")
    deep = layers.index[layers["student"] == layers["teacher"]]
    whole = heads.set_index(keys[:3]).index.isin(deep)
    return heads[whole].rename(columns={"value": "diagonality", "other": "head"})


@canvas.styled
def draw(rows: pd.DataFrame, task: str, recipes, definition: str = DIAGONALITY) -> Figure:
    """Return the figure of a task's students, from rows of `analysis.students_of`."""
    heads = heads_of(rows, definition)
    if heads.empty:
        return canvas.nothing(TITLE, f"{task}: no student as deep as its teacher")
    pruned = heads.groupby(["teacher", "recipe", "ratio"])["kept"].transform(lambda x: not x.all())
    students = canvas.in_order(heads[pruned])
    teacher = heads["teacher"].iloc[0] if not students else students[0].teacher
    students = [one for one in students if one.teacher == teacher]
    whole = heads[heads["teacher"] == teacher].drop_duplicates(["layer", "head"])
    grid = whole.pivot(index="layer", columns="head", values="diagonality")
    height = max(2.9, 1.45 + 0.3 * len(students))
    figure = Figure(figsize=(7.2, height))
    map_axes = canvas.axes_within(figure, 0.5, 4.6, 0.75, 0.85)
    _map(map_axes, grid, teacher)
    canvas.words(
        figure,
        _message(heads, students),
        f"{task}: {definition.replace('_', '-')} diagonality, {FORMULAS.get(definition, '')}",
        ["highest: each frame attends to itself", "filled: kept, hollow: removed, bars: means"],
    )
    style = styles(recipes)
    names = [one.name for one in students]
    room = 0.072 * max(map(len, names), default=0) + 0.15
    axes = canvas.axes_within(figure, 2.6 + room, 0.15, 0.75, 0.85)
    axes.set_title("heads kept and removed" if students else "no student lost a head", fontsize=8.5)
    span = (heads["diagonality"].min(), heads["diagonality"].max())
    for line, one in enumerate(students):
        own = heads[(heads[["teacher", "recipe", "ratio"]] == list(one.key)).all(axis=1)]
        _strip(axes, line, own, style[one.recipe][0])
    axes.set_yticks(range(len(students)), names, fontsize=7.5)
    for text, one in zip(axes.get_yticklabels(), students, strict=True):
        text.set_color(MUTED if one.kind == CONTROL else style[one.recipe][0])
    axes.set_ylim(max(3, len(students)) - 0.5, -0.5)
    edge = 0.04 * (span[1] - span[0]) + 1e-3
    axes.set_xlim(span[0] - edge, span[1] + edge)
    axes.set_xlabel("diagonality of the teacher's head", fontsize=8.5)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _message(heads: pd.DataFrame, students: list[canvas.Student]) -> str:
    """Return what the first method that prunes heads keeps and removes."""
    methods = [one for one in students if one.kind != CONTROL]
    if not methods:
        return TITLE
    own = heads[(heads[["teacher", "recipe", "ratio"]] == list(methods[0].key)).all(axis=1)]
    kept, gone = (own.loc[own["kept"] == kept, "diagonality"].mean() for kept in (True, False))
    more = "more" if kept > gone else "less"
    numbers = f"{two_decimals(kept)} kept, {two_decimals(gone)} removed"
    return f"{methods[0].recipe} keeps the {more} diagonal heads: {numbers}"


def _map(axes, grid: pd.DataFrame, teacher: str) -> None:
    """Draw the diagonality of each head of each layer of the teacher."""
    values = grid.to_numpy(dtype=float)
    low, high = np.nanmin(values), np.nanmax(values)
    columns, lines = np.arange(values.shape[1] + 1) - 0.5, np.arange(values.shape[0] + 1) + 0.5
    axes.pcolormesh(columns, lines, values, cmap="cividis", edgecolor="white", linewidth=0.8)
    if values.shape[1] <= 8:
        for (layer, head), value in np.ndenumerate(values):
            dark = value < (low + high) / 2
            style = {"ha": "center", "va": "center_baseline", "fontsize": 6.5}
            text = two_decimals(value)
            axes.text(head, layer + 1, text, color="white" if dark else INK, **style)
    axes.set_xticks(range(values.shape[1]), [str(head) for head in grid.columns])
    axes.set_yticks(range(1, values.shape[0] + 1))
    axes.set_xlabel("head", fontsize=8.5)
    axes.set_ylabel("layer", fontsize=8.5, labelpad=2)
    axes.set_title(f"teacher ({teacher})", fontsize=8.5)
    axes.tick_params(length=0, labelsize=7.5)
    axes.spines[:].set_visible(False)


def _strip(axes, line: int, heads: pd.DataFrame, colour: str) -> None:
    """Draw one student's heads on a line: kept ones above, removed ones below, and their means."""
    axes.axhline(line, color="#e6e6e6", linewidth=0.8, zorder=0)
    for kept, shift in ((True, -0.17), (False, 0.17)):
        own = heads.loc[heads["kept"] == kept, "diagonality"]
        face = {"color": colour} if kept else {"facecolor": "white", "edgecolor": colour}
        axes.scatter(own, np.full(len(own), line + shift), s=13, linewidth=0.8, zorder=3, **face)
        if len(own):
            ends = sorted((line + 2.4 * shift, line))
            solid = "-" if kept else (0, (1, 1))
            axes.vlines(own.mean(), *ends, color=INK, linewidth=1.8, linestyle=solid, zorder=4)
