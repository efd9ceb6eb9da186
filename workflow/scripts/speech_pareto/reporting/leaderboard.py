"""The table as text: the fronts for a terminal, the leaderboard as Markdown, HTML and CSV."""

import textwrap
from collections.abc import Iterator

import pandas as pd

from speech_pareto.reporting.page.template import render
from speech_pareto.reporting.tables import points
from speech_pareto.reporting.tables.pareto import SIGNS
from speech_pareto.reporting.tables.results_table import RESOLUTION, summarise
from speech_pareto.reporting.tables.wording import (
    AS_GOOD,
    AS_GOOD_TEXT,
    CHOSEN_ON,
    SPREAD_TEXT,
    TEST,
    completeness,
    heading,
    holes_text,
    metric_name,
    take,
)
from speech_pareto.runtime.formatting import aligned, columns, percent
from speech_pareto.study import quantities
from speech_pareto.study.quantities import QUANTITIES

# quantities of a row, in the leaderboard between what was removed and the score
COSTS = ("parameters", "nonzero_parameters", "bytes", "macs_per_second", "seconds", "speedup")
BOLD = (0, 10)  # recipe and score of a row on a front


def best_first(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the rows by ratio and, within a ratio, best score first, holes last."""
    signs = summary["better"].map(SIGNS).astype(float).fillna(1.0)
    order = pd.DataFrame({"ratio": summary["ratio"], "score": summary["score"] * signs})
    order["recipe"] = summary["recipe"]
    return summary.loc[order.sort_values(["ratio", "score", "recipe"], kind="stable").index]


def front_text(table: pd.DataFrame, comparisons=None, width: int = 100) -> str:
    """Return the non-dominated points of each task as text of at most `width` columns."""
    summary = summarise(table, comparisons)
    blocks = []
    for task, rows in summary.groupby("task"):
        done = completeness(table[table["task"] == task])
        what = heading(*rows[["metric", "better"]].iloc[0])
        lines = [*textwrap.wrap(f"{task}: {what}; {done}; {_chosen(rows)}", width), ""]
        front = best_first(rows[_on_a_front(rows)])
        lines += aligned(_front_cells(front), width)
        if front["macs_per_second_p95"].notna().any():
            lines += [
                "",
                *(f"  {line}" for line in textwrap.wrap(f"p95: {SPREAD_TEXT}", width - 2)),
            ]
        lines += _differences(front, width)
        for i, line in enumerate(holes_text(rows)):
            lines += [""] * (i == 0)
            lines += textwrap.wrap(line, width, initial_indent="  ", subsequent_indent="    ")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _chosen(rows: pd.DataFrame) -> str:
    """Return on which split a task's rows are chosen and reported."""
    return CHOSEN_ON[rows["chosen_on"].iloc[0]]


def _on_a_front(rows: pd.DataFrame) -> pd.Series:
    """Return of each row whether it is on the front of any cost."""
    return rows[[f"front_{cost}" for cost in quantities.main_axes()]].any(axis=1)


def _front_cells(front: pd.DataFrame) -> list[list[str]]:
    """Return header and rows of a task's front."""
    short = metric_name(front["metric"].iloc[0])[0] if len(front) else "score"
    shown = ("ratio", "parameters", "macs_per_second", "seconds")
    header = {name: QUANTITIES[name].label for name in shown}
    header |= {"seconds": take(front["audio_seconds"]) or header["seconds"], "score": f"{short} %"}
    header |= {"parameters": "params", "valid_score": "valid"}  # narrow columns
    cells = [["recipe", *header.values(), "n", "best for"]]
    many_teachers = front["teacher"].nunique() > 1
    mark = ("  ", f" {AS_GOOD}") if front["as_good"].any() else ("", "")
    for _, row in front.iterrows():
        text = points.texts(row)
        text["score"] += mark[bool(row["as_good"])]
        axes = quantities.main_axes().items()
        best = " ".join(one.drawn.front for cost, one in axes if row[f"front_{cost}"])
        numbers = [text[name] for name in header]
        cells.append([points.named(row, many_teachers), *numbers, str(row["n"]), best])
    return cells


def _differences(front: pd.DataFrame, width: int) -> list[str]:
    """Return lines with the differences of a front's students to their teacher, if known."""
    students = front[front["difference"].notna()]
    if students.empty:
        return []
    short = metric_name(front["metric"].iloc[0])[0]
    how = f"Against the teacher: points of {short} with 95 % interval; {AS_GOOD}: {AS_GOOD_TEXT} "
    lines = ["", *textwrap.wrap(f"{how}({TEST})", width - 2), ""]
    many_teachers = front["teacher"].nunique() > 1
    cells = []
    for _, row in students.iterrows():
        text, mark = points.texts(row), AS_GOOD if row["as_good"] else ""
        difference = text["difference"].removesuffix(f" {AS_GOOD}")
        cells.append([points.named(row, many_teachers), text["ratio"], difference, mark])
    return [*(f"  {line}" if line else "" for line in lines), *columns(cells, width)]


def _how(table: pd.DataFrame, compared: bool) -> str:
    """Return what a reader of the leaderboard must know."""
    how = (
        f"{completeness(table)}. Scores are the mean over seeds ± the sample standard deviation; "
        "`seeds` says how many are done of how many were asked for. Rows in bold are on the front "
        "(parameters, bytes, MACs or wall clock against the score on validation). Times are the "
        "teacher's typical time divided by the speed-up measured side by side with it; a cost that "
        f"is lower by less than {percent(RESOLUTION)} of the dearest model's counts as equal. "
        "Zeros of unstructured pruning (`non-zero`) make a model neither faster nor, stored "
        "densely, smaller."
    )
    if table["mean_layers"].notna().any():
        how += f" p95: {SPREAD_TEXT}."
    if compared:
        how += (
            " `against teacher` is the difference in points with its 95 % interval (bootstrap "
            f"over utterances); {AS_GOOD}: {AS_GOOD_TEXT} ({TEST})."
        )
    return how


def _tables(table: pd.DataFrame, comparisons) -> Iterator[tuple[str, str, list, list]]:
    """Yield each task, its metric in words, the header and [(whether on a front, cells)]."""
    labels = [QUANTITIES[name].label for name in COSTS]
    for task, rows in summarise(table, comparisons).groupby("task"):
        score = f"{metric_name(rows['metric'].iloc[0])[0]} %"
        header = ["recipe", "teacher", QUANTITIES["ratio"].label, "reached", *labels, score]
        header += ["validation", "against teacher", "seeds", "status"]
        rows = best_first(rows)
        cells = [_leaderboard_cells(row) for _, row in rows.iterrows()]
        what = f"{heading(*rows[['metric', 'better']].iloc[0])}; {_chosen(rows)}"
        ranked = list(zip(_on_a_front(rows), cells, strict=True))
        yield task, f"{what[0].upper()}{what[1:]}.", header, ranked


def markdown(table: pd.DataFrame, comparisons=None) -> str:
    """Return all rows of the summary as Markdown, a table per task, the front in bold."""
    lines = ["# Leaderboard", "", _how(table, comparisons is not None), ""]
    for task, what, header, rows in _tables(table, comparisons):
        lines += [f"## {task}", "", what, ""]
        lines += [_markdown_row(header), _markdown_row(["---"] * 2 + ["---:"] * 11 + ["---"])]
        for front, cells in rows:
            bold = [f"**{c}**" if front and i in BOLD else c for i, c in enumerate(cells)]
            lines.append(_markdown_row(bold))
        lines.append("")
    return "\n".join(lines)


def as_html(table: pd.DataFrame, comparisons=None) -> str:
    """Return the same as a page that needs no other file."""
    how = _how(table, comparisons is not None).split("`")  # every second part is code
    return render("leaderboard.html", how=how, tables=list(_tables(table, comparisons)))


def as_csv(table: pd.DataFrame, comparisons=None) -> str:
    """Return the same as numbers: a row per task, teacher, recipe and ratio, `done` n/N."""
    summary = summarise(table, comparisons)
    ranked = pd.concat([best_first(rows) for _, rows in summary.groupby("task")])
    done = [f"{n}/{seeds}" for n, seeds in zip(ranked["n"], ranked["seeds"], strict=True)]
    ranked.insert(list(ranked).index("seeds") + 1, "done", done)
    return ranked.to_csv(index=False, lineterminator="\n")


def _leaderboard_cells(row: pd.Series) -> list[str]:
    """Return one row of the leaderboard."""
    text = points.texts(row)
    numbers = ["ratio", "achieved_ratio", *COSTS, "score", "valid_score"]
    numbers += ["difference", "seeds", "status"]
    return [row["recipe"], row["teacher"], *(text[name] for name in numbers)]


def _markdown_row(cells: list[str]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
