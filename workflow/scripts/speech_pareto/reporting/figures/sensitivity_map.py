"""What the parts of each layer are worth: a map of the damage of losing some of one alone.

Its colours are logarithmic: the darker, the more is lost.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from speech_pareto.reporting.figures import canvas
from speech_pareto.reporting.figures.styles import INK

TITLE = "Which parts a teacher needs"
BLOCKS = ("attention", "feed-forward")
PARTS = {  # in their order, with the name above the map
    "heads": "heads",
    "attention ranks": "ranks of\nattention",
    "attention bits": "bits of\nattention",
    "attention": "no",
    "rows": "rows",
    "feed-forward ranks": "ranks of\nfeed-forward",
    "feed-forward bits": "bits of\nfeed-forward",
    "feed-forward": "no",
    "channels": "channels",
}
WORDS = {
    "posteriors": "KL divergence of its posteriors from the whole teacher's, nats a frame",
    "state": "squared distance of the last hidden state, as a share of its variance",
}
CELL, GAP = (0.42, 0.25), 0.12  # inches
BOTTOM, TOP = 0.5, 1.02


@canvas.styled
def draw(rows: pd.DataFrame, about: Mapping) -> Figure:
    """Return the figure of a teacher: `rows` are those of `part_damages.measure`.

    `about` has `run` (teacher, scope), `damage` (what is compared), `seconds` of audio, and a
    `reason` if there is nothing.
    """
    run = about["run"]
    if rows.empty:
        return canvas.nothing(TITLE, f"{run['teacher']}: {about.get('reason', 'no parts')}")
    stem = rows["part"] == "channels"
    below = rows["layer"] - 1 - rows["layer"][stem].max()  # the last convolution is at -1
    rows = rows.assign(line=rows["layer"].where(~stem, below))
    lines = sorted(rows["line"].unique())
    groups = [(part, own) for part in PARTS if len(own := rows[rows["part"] == part])]
    columns = {part: _levels(part, own) for part, own in groups}
    width = 0.75 + sum(CELL[0] * len(own) + GAP for own in columns.values()) + 0.75
    height = BOTTOM + CELL[1] * len(lines) + TOP
    figure, norm = Figure(figsize=(width, height)), _norm(rows["damage"])
    left = 0.62
    for part, own in groups:
        levels = columns[part]
        size = CELL[0] * len(levels), CELL[1] * len(lines)
        box = (left / width, BOTTOM / height, size[0] / width, size[1] / height)
        axes = figure.add_axes(box)
        grid = own.pivot(index="line", columns="level", values="damage").reindex(lines)[levels]
        mesh = _panel(axes, grid.to_numpy(dtype=float), norm)
        axes.set_xticks(range(len(levels)), [_level(part, level) for level in levels])
        axes.set_title(_name(part), fontsize=7.5, pad=4, linespacing=1.15)
        ticks = [str(line) if line > 0 else f"conv {line - lines[0] + 1}" for line in lines]
        axes.set_yticks(range(len(lines)), ticks if left < 0.7 else [])
        left += size[0] + GAP
    middle = (BOTTOM + CELL[1] * len(lines) / 2) / height
    figure.text(0.12 / width, middle, "layer", rotation=90, fontsize=8.5, va="center")
    bar = figure.add_axes(
        (left / width, BOTTOM / height, 0.09 / width, CELL[1] * len(lines) / height)
    )
    figure.colorbar(mesh, cax=bar)
    bar.tick_params(labelsize=6.5, length=0, pad=2, which="both")
    bar.minorticks_off()
    scope = "" if run["scope"] == "any" else f", fine-tuned on {run['scope']}"
    what = WORDS[about["damage"]]
    seconds = f"{about['seconds']:.0f} s of validation audio, nothing trained"
    canvas.words(
        figure,
        _message(rows),
        f"{run['teacher']}{scope}: {what}; {seconds}",
        [
            "each part changes alone, in the whole model",
            "%: share of it that goes, the lowest first",
            "bits: of all its weights",
        ],
    )
    return figure


def _panel(axes, grid: np.ndarray, norm: LogNorm):
    """Draw the damages of one kind of part, the first layer at the bottom."""
    edges = [np.arange(number + 1) - 0.5 for number in grid.shape]
    values = np.clip(grid, norm.vmin, norm.vmax)
    style = {"cmap": "rocket_r", "norm": norm, "edgecolor": "white", "linewidth": 0.8}
    mesh = axes.pcolormesh(edges[1], edges[0], values, **style)
    for (line, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            dark = norm(np.clip(value, norm.vmin, norm.vmax)) > 0.5
            colour = "white" if dark else INK
            about = {"ha": "center", "va": "center_baseline", "fontsize": 6.3}
            axes.text(column, line, _number(value), color=colour, **about)
    axes.tick_params(length=0, labelsize=7.5, pad=2)
    axes.spines[:].set_visible(False)
    return mesh


def _norm(damage: pd.Series) -> LogNorm:
    """Return a logarithmic scale of all damages, over three and a half powers of ten at most."""
    high = float(damage.max()) or 1.0
    return LogNorm(max(float(damage.min()), high / 3000), high)


def _message(rows: pd.DataFrame) -> str:
    """Return which whole part is needed most, and which least."""
    whole = rows[rows["part"].isin(BLOCKS)].sort_values("damage")
    if len(whole) < 2:
        return TITLE
    (least, most) = (whole.iloc[place] for place in (0, -1))
    times = most["damage"] / max(least["damage"], 1e-12)
    names = [
        f"its {part} part".replace("attention part", "attention")
        for part in (most["part"], least["part"])
    ]
    return (
        f"Layer {most['layer']} needs {names[0]} most, {times:.0f} times as much as "
        f"layer {least['layer']} {names[1]}"
    )


def _levels(part: str, own: pd.DataFrame) -> list[float]:
    """Return the levels of a part, the mildest first."""
    return sorted(own["level"].unique(), reverse=part.endswith("bits"))


def _level(part: str, level: float) -> str:
    """Return a level in words."""
    if part in BLOCKS:
        return "all"
    return f"{level:.0f}" if part.endswith("bits") else f"{100 * level:.0f} %"


def _name(part: str) -> str:
    """Return what stands above a panel."""
    return f"no\n{part.replace('feed-forward', 'f.-fwd')}" if part in BLOCKS else PARTS[part]


def _number(value: float) -> str:
    """Return a damage in at most four signs."""
    if value < 0.0005:
        return "0"
    digits = 0 if value >= 9.95 else 1 if value >= 0.995 else 2 if value >= 0.0995 else 3
    return f"{value:.{digits}f}".removeprefix("0")
