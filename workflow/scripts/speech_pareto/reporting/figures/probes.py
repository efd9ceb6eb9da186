"""How much a probe listens to each layer: the shares of the learned weighted sum."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from speech_pareto.reporting.figures import canvas
from speech_pareto.reporting.figures.styles import INK, MUTED, styles
from speech_pareto.reporting.tables.roles import CONTROL, TEACHER
from speech_pareto.runtime.formatting import percent

TITLE = "Which layers a probe listens to"


@canvas.styled
def probes(rows: pd.DataFrame, task: str, recipes) -> Figure:
    """Return the figure of a task's probes, from rows of `analysis.probes_of`."""
    if rows.empty:
        return canvas.nothing(TITLE, f"{task}: no probe was trained")
    style, labels = styles(recipes), []
    figure = Figure(figsize=(6.6, 4.2))
    axes = canvas.axes_within(figure, 0.55, 2.15, 0.7, 0.75)
    deepest = rows["layer"].max()
    for one in canvas.in_order(rows):
        own = rows[(rows[["teacher", "recipe", "ratio"]] == list(one.key)).all(axis=1)]
        own = own.sort_values("layer")
        whole, control = one.kind == TEACHER, one.kind == CONTROL
        colour, marker = style[one.recipe]
        colour = colour if own["pretrained"].iloc[0] else MUTED
        # Shallow students are stretched: each line runs from the input to the last layer.
        depth = own["layer"] / max(1, own["layer"].max())
        size, over = 9 if whole else 5, 4 if whole else 2 if control else 3
        line = {"linewidth": 2.0 if whole else 1.3, "linestyle": (0, (4, 2)) if control else "-"}
        canvas.mark(axes, depth, own["value"], marker, size, colour, ("white", 0.5), over, **line)
        name = one.name
        if one.role == TEACHER:
            name = f"teacher ({one.teacher})" if whole else f"{one.teacher}, not pretrained"
        grey = MUTED if control else INK if whole else colour
        labels.append((name, 1.0, own["value"].iloc[-1], grey, marker, not control))
    axes.set_ylim(bottom=0)
    axes.set_xlim(-0.03, 1.03)
    axes.grid(axis="y", linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(min(int(deepest), 6)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    axes.set_xlabel("depth: 0 % is the input of the first layer, 100 % the last layer")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    canvas.margin_labels(axes, labels)
    notes = ["a marker is a layer; an even sum would be level", "grey: controls"]
    canvas.words(figure, TITLE, f"{task}: share of each hidden state in what the head reads", notes)
    return figure
