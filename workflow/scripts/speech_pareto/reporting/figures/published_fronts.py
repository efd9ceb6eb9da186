"""Published systems: phone error rate and SUPERB's score against size and MACs."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator, NullLocator

from speech_pareto.reporting.figures.canvas import axes_within, mark, nothing, styled, words
from speech_pareto.reporting.figures.styles import INK, MUTED, styles
from speech_pareto.reporting.tables.published_scores import PER, READ_OFF, SUPERB, systems
from speech_pareto.reporting.tables.roles import CONTROL, TEACHER, roles_of
from speech_pareto.runtime.formatting import shortest

TITLE = "Published systems: quality against size and computing"
AXES = {"params_m": "parameters, millions", "macs_g": "MACs of the leaderboard, billions"}
METRICS = {PER: "phone error rate, %", SUPERB: "SUPERB score"}
TICKS = (10, 15, 20, 30, 50, 100, 200, 300, 500, 1000, 2000, 4000)


@styled
def published(rows: pd.DataFrame, recipes: Mapping[str, str]) -> Figure:
    """Return the figure of all published systems.

    `recipes` of the study, each with its role, keep their colours.
    """
    known = {metric: systems(rows, metric) for metric in METRICS}
    if all(found.empty for found in known.values()):
        return nothing(TITLE, "no system is known")
    roles = roles_of(pd.concat(known.values()))
    style = styles(roles | dict(recipes))
    figure = Figure(figsize=(7.2, 5.6))
    for line, (metric, name) in enumerate(METRICS.items()):
        for column, (cost, label) in enumerate(AXES.items()):
            below, above = 0.75 + 2.2 * (1 - line), 0.75 + 2.2 * line
            left = 0.55 + 2.65 * column
            axes = axes_within(figure, left, 7.2 - left - 2.2, below, above)
            _panel(axes, known[metric].dropna(subset=[cost]), cost, style)
            axes.set_ylim((2, 21) if metric == PER else (650, 1170))
            axes.set_xlim((9, 400) if cost == "params_m" else (380, 5200))
            axes.yaxis.set_major_locator(MultipleLocator(5 if metric == PER else 100))
            if column == 0:
                axes.set_ylabel(name, fontsize=8.5, labelpad=3)
            if line:
                axes.set_xlabel(label, fontsize=8.5)
    _key(figure, roles, style)
    words(
        figure,
        TITLE,
        "SUPERB: frozen models; to the lower left is better above, to the upper left below",
        ["hollow, joined: read off a figure of Lin et al. (MelHuBERT); others as printed",
         "MACs where stated", "not comparable with scores on this study's corpora"],
    )  # fmt: skip
    return figure


def _panel(axes, rows: pd.DataFrame, cost: str, style: dict) -> None:
    """Draw one metric over one cost."""
    for (recipe, provenance), own in rows.groupby(["recipe", "provenance"]):
        colour, marker = style[recipe]
        read_off, teacher = provenance in READ_OFF, own["role"].iloc[0] == TEACHER
        own = own.sort_values(cost)
        size, edge, over = 9 if teacher else 5 if read_off else 6.5, ("white", 0.6), 4
        line: dict[str, Any] = {"linewidth": 0.8}
        if read_off:
            edge, over = (colour, 0.9), 3
            line |= {"linestyle": "-", "markerfacecolor": "white"}
        mark(axes, own[cost], own["value"], marker, size, colour, edge, over, **line)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shortest(value)))
    axes.tick_params(length=2, labelsize=7.5)
    axes.grid(axis="y", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _key(figure: Figure, roles: dict[str, str], style: dict) -> None:
    """Write which colour and marker is which method, the teacher first."""
    width, height = figure.get_size_inches()
    for place, method in enumerate(sorted(roles, key=lambda name: (roles[name] != TEACHER, name))):
        colour, marker = style[method]
        teacher = roles[method] == TEACHER
        name = "teacher" if teacher else method
        y = 1 - (0.9 + 0.2 * place) / height
        point: dict[str, Any] = {"transform": figure.transFigure, "markeredgewidth": 0}
        point |= {"color": colour, "markersize": 6.5, "clip_on": False}
        figure.axes[0].plot((width - 1.62) / width, y, marker, **point)
        ink = INK if teacher else MUTED if roles[method] == CONTROL else colour
        figure.text((width - 1.48) / width, y, name, fontsize=8, color=ink, va="center")
