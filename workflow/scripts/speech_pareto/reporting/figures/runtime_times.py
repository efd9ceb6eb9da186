"""Time of each student in torch and as exported files, a panel for each number of threads."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from speech_pareto.reporting.figures import canvas
from speech_pareto.reporting.figures.styles import INK
from speech_pareto.reporting.tables.exported_files import ONNX, TORCH
from speech_pareto.reporting.tables.results_table import GROUP
from speech_pareto.reporting.tables.wording import at
from speech_pareto.runtime.formatting import short_seconds, trimmed

TITLE = "Time of students in torch and in onnxruntime"
LINE = 0.3  # inches that a student takes
SIGNS = {  # colour and marker; in torch, numbers are those of the student
    TORCH: (INK, "o"),
    "fp32": ("#0072b2", "s"),
    "int8-dynamic": ("#d55e00", "^"),
    "int8-static": ("#009e73", "v"),
}


@canvas.styled
def draw(table: pd.DataFrame, task: str, recipes) -> Figure:
    """Return the figure of a task's students, from the table of exported files."""
    rows = table[(table["task"] == task) & (table["status"] == "ok")]
    times = [column for column in table if column.startswith("seconds.")]
    times = [column for column in times if rows[column].notna().any()]
    if not times:
        return canvas.nothing(TITLE, f"{task}: no exported file was timed")
    rows = rows.assign(sign=rows["numbers"].where(rows["runtime"] == ONNX, TORCH))
    students = [own for _, own in rows.groupby(GROUP, sort=False)]
    students.sort(key=lambda own: own[times[0]].max())
    several = rows["teacher"].nunique() > 1
    figure = Figure(figsize=(2.2 + 2.9 * len(times), 1.9 + LINE * len(students)))
    panels = list(figure.subplots(1, len(times), sharey=True, squeeze=False).flat)
    figure.subplots_adjust(left=1.9 / figure.get_figwidth(), right=0.97, wspace=0.12)
    high = figure.get_figheight()
    figure.subplots_adjust(bottom=0.6 / high, top=1 - 1.1 / high)
    for axes, column in zip(panels, times, strict=True):
        for place, own in enumerate(students):
            axes.hlines(place, own[column].min(), own[column].max(), color="0.8", zorder=1)
            for sign, seconds in zip(own["sign"], own[column], strict=True):
                colour, marker = SIGNS[sign]
                axes.plot(seconds, place, marker, color=colour, markersize=5.5, zorder=3)
        _scale(axes, column)
    panels[0].set_yticks(range(len(students)), [_name(own.iloc[0], several) for own in students])
    panels[0].set_ylim(-0.6, len(students) - 0.4)
    shown = [sign for sign in SIGNS if (rows["sign"] == sign).any()]
    handles = [
        panels[0].plot([], [], SIGNS[x][1], color=SIGNS[x][0], markersize=5.5)[0] for x in shown
    ]
    figure.legend(handles, shown, loc="lower right", ncols=len(shown), frameon=False, fontsize=8)
    notes = ["times beside torch in one process", "errors of each file: table of exported files"]
    canvas.words(figure, TITLE, f"{task}: left is faster", notes)
    return figure


def _name(row: pd.Series, several: bool) -> str:
    """Return what a student is called."""
    name = f"{row['recipe']} {at(row['ratio'], row['target'])}"
    return f"{name} ({row['teacher']})" if several else name


def _scale(axes, column: str) -> None:
    """Set the scale of a panel, and say on how many threads it was timed."""
    threads = column.partition(".")[2].replace("_", " ")
    axes.set_title("1 thread" if threads == "1 threads" else threads, fontsize=9)
    axes.set_xlim(0, 1.06 * axes.get_xlim()[1])
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: trimmed(short_seconds(x)) if x else "0")
    )
    axes.grid(axis="x", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
