"""What all figures share: size and words, labels in the margin, files with stable bytes."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from speech_pareto.reporting.figures.styles import MUTED, RC
from speech_pareto.reporting.tables.roles import CONTROL, TEACHER, kind
from speech_pareto.reporting.tables.wording import less
from speech_pareto.runtime.formatting import filled

FORMATS = ("svg", "pdf", "png")
LEFT = 0.1  # inches from the edge to what is written


def styled(draw: Callable) -> Callable:
    """Make a function that returns a figure draw in the house style."""

    @wraps(draw)
    def wrapper(*args, **kwargs) -> Figure:
        with matplotlib.rc_context(), sns.axes_style("ticks", RC):
            matplotlib.rcParams.update(RC)
            return draw(*args, **kwargs)

    return wrapper


def save(figure: Figure, outputs) -> None:
    """Write `figure` to each of `outputs` by its suffix, without dates or program versions."""
    unsaid = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }
    for output in map(Path, outputs):
        kind = output.suffix.removeprefix(".")
        if kind not in FORMATS:
            raise ValueError(f"{output}: figures are written as {', '.join(FORMATS)}")
        output.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(RC):
            figure.savefig(output, format=kind, dpi=200, metadata=unsaid[kind])


def words(figure: Figure, title: str, subtitle: str, notes: list[str]) -> None:
    """Write the message, what is drawn, and what the signs mean."""
    width, height = figure.get_size_inches()
    left = LEFT / width
    size = min(11.5, 105 * width / max(1, len(title)))  # a long one stays on the page
    figure.text(left, 1 - 0.22 / height, title, fontsize=size, fontweight="bold", va="center")
    figure.text(left, 1 - 0.46 / height, subtitle, fontsize=8.5, va="center")
    text = "\n".join(filled(notes, round(17.5 * width)))
    style: dict[str, Any] = {"fontsize": 7, "color": MUTED, "va": "bottom", "linespacing": 1.35}
    figure.text(left, 0.06 / height, text, **style)


def mark(
    axes,
    x,
    y,
    marker: str,
    size: float,
    colour: str,
    edge: tuple[str, float],
    zorder: float,
    **more,
) -> None:
    """Draw markers with an `edge` (colour, width) at (x, y), joined if `more` has a linestyle."""
    edges: dict[str, Any] = {"markeredgecolor": edge[0], "markeredgewidth": edge[1]}
    style = {"linestyle": "none"} | edges | more
    axes.plot(x, y, color=colour, marker=marker, markersize=size, zorder=zorder, **style)


def bars(axes, x, y, spread, colour: str, marker: str, zorder: float, **more) -> None:
    """Draw points with error bars, joined if `more` has a linestyle."""
    point = {"marker": marker, "markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.6}
    axes.errorbar(x, y, yerr=spread, color=colour, zorder=zorder, **point, **more)


def nothing(title: str, why: str) -> Figure:
    """Return a figure that says why there is nothing to draw."""
    figure = Figure(figsize=(5.6, 1.2))
    words(figure, title, why, [])
    return figure


def axes_within(figure: Figure, left: float, right: float, bottom: float, top: float):
    """Return axes that leave these margins, in inches."""
    width, height = figure.get_size_inches()
    sides = (left / width, bottom / height, 1 - (left + right) / width)
    return figure.add_axes((*sides, 1 - (bottom + top) / height))


def margin_labels(axes, labels: list[tuple], size: float = 7.5) -> None:
    """Write labels in a column right of `axes`, none on another, each joined to its point.

    labels: (text, x, y, colour, marker, bold).
    """
    figure, gap = axes.figure, 1.42 * size / 72  # inches
    height = axes.get_position().height * figure.get_size_inches()[1]
    labels = sorted(labels, key=lambda label: (axes.transData.transform((0, label[2]))[1], label))
    fraction = axes.transAxes.inverted()
    wanted = [
        fraction.transform(axes.transData.transform((x, y)))[1] * height for _, x, y, *_ in labels
    ]
    for (text, x, y, colour, marker, bold), place in zip(
        labels, spaced(wanted, gap, height), strict=True
    ):
        at = place / height
        style = {"fontsize": size, "color": colour, "fontweight": "bold" if bold else "normal"}
        outside = {"xycoords": "axes fraction", "va": "center", "annotation_clip": False}
        axes.annotate(text, (1.055, at), **style, **outside)
        point = {"markersize": 0.6 * size, "markeredgewidth": 0, "transform": axes.transAxes}
        axes.plot(1.035, at, marker=marker, color=colour, clip_on=False, **point)
        axes.annotate(
            "",
            (x, y),
            (1.022, at),
            textcoords="axes fraction",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.45,
                        "shrinkA": 0, "shrinkB": 3},
            zorder=1,
        )  # fmt: skip


def spaced(wanted: list[float], gap: float, height: float) -> list[float]:
    """Return places near the sorted `wanted` ones, at least `gap` apart, within 0 to `height`.

    Neighbours that would touch share their middle; too many go beyond the end.
    """
    groups: list[list[Any]] = []  # of [sum of wanted middles, members]
    for place in wanted:
        groups.append([place, 1])
        while len(groups) > 1 and _low(groups[-1], gap, height) < _high(groups[-2], gap, height):
            total, members = groups.pop()
            groups[-1][0] += total
            groups[-1][1] += members
    lows = [(_low(group, gap, height), group[1]) for group in groups]
    return [low + gap * (k + 0.5) for low, members in lows for k in range(members)]


def _low(group: list, gap: float, height: float) -> float:
    """Return where a group of labels begins."""
    total, members = group
    low = total / members - gap * members / 2
    return float(np.clip(low, 0, max(0.0, height - gap * members)))


def _high(group: list, gap: float, height: float) -> float:
    """Return where a group of labels ends."""
    return _low(group, gap, height) + gap * group[1] - 1e-9


class Student(NamedTuple):
    """One student of a figure; `key` names it."""

    teacher: str
    recipe: str
    ratio: float
    role: str
    kind: str
    target: str | None = None

    @property
    def name(self) -> str:
        """The recipe and what the student lacks."""
        return f"{self.recipe} {less(self.ratio, self.target)}"

    @property
    def key(self) -> tuple[str, str, float]:
        """The teacher, the recipe and the ratio."""
        return self[:3]


def in_order(rows) -> list[Student]:
    """Return the students of some rows: teachers, then methods by name, then controls."""
    rows = rows.assign(target=rows["target"].astype(object).where(rows["target"].notna(), None))
    students = {
        Student(
            row.teacher,
            row.recipe,
            row.ratio,
            row.role,
            kind(row.role, row.pretrained),
            row.target,
        )
        for row in rows[["teacher", "recipe", "ratio", "role", "pretrained", "target"]]
        .drop_duplicates()
        .itertuples()
    }
    return sorted(students, key=lambda one: (one.role != TEACHER, one.kind == CONTROL, one.key))
