"""The points of a study as plain values: what the page embeds and a budget chooses from."""

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from speech_pareto.data.condition import CLEAN, WORST
from speech_pareto.reporting.tables import results_table, roles
from speech_pareto.reporting.tables.exported_files import with_memory
from speech_pareto.reporting.tables.results_table import GROUP, PENDING, summarise
from speech_pareto.reporting.tables.wording import (
    AS_GOOD,
    at,
    completeness,
    heading,
    metric_name,
    status_text,
    take,
)
from speech_pareto.runtime.formatting import (
    shortest,
    three_decimals,
    with_interval,
    with_spread,
)
from speech_pareto.runtime.suggest import unknown
from speech_pareto.study import paths, quantities
from speech_pareto.study.quantities import QUANTITIES
from speech_pareto.tasks.kind import kind_of

BESIDE = ("fronts.csv", "pairs.csv")


def study(cells: pd.DataFrame, comparisons=None, fronts=None, pairs=None) -> dict:
    """Return tasks, points and tests of a study, from the tables of `aggregate` and `compare`."""
    summary = summarise(cells, comparisons)
    split = summary.groupby("task")["chosen_on"].first()
    return {
        "study": plain(cells["study"].dropna().iloc[0]) if cells["study"].notna().any() else None,
        "done": completeness(cells),
        "tasks": {task: _facts(rows, split[task]) for task, rows in cells.groupby("task")},
        "points": points(cells, summary, fronts),
        "pairs": {} if pairs is None else {t: _flat(rows) for t, rows in pairs.groupby("task")},
    }


def inside(tables: Sequence, name: str) -> dict:
    """Return a study as it is in one condition, or in that in which each student does worst.

    `tables` are the cells, comparisons, fronts and pairs of all conditions that `conditions` wrote.
    Tasks without the condition are not in it.
    """
    own = [rows[rows["condition"] == name].drop(columns="condition") for rows in tables]
    found = study(*own)
    for facts in found["tasks"].values():
        facts["heading"] += f", in {'the worst condition' if name == WORST else name}"
    return found


def read_conditions(table) -> list[pd.DataFrame]:
    """Return the tables of `inside`, which lie beside that of `aggregate`; ValueError if not."""
    files = [Path(table).with_name(Path(name).name) for name in paths.IN_CONDITIONS]
    if not files[0].is_file():
        raise ValueError(f"{files[0]} is not there: no task of the study says `conditions`")
    found = [results_table.read(x) if x.suffix == ".parquet" else read_csv(x) for x in files]
    return [_with_memory(found[0], table), *found[1:]]


def _with_memory(cells: pd.DataFrame, table) -> pd.DataFrame:
    """Return cells with what the table of exported files beside that of `aggregate` says."""
    timed = Path(table).with_name(Path(paths.RUNTIMES_TABLE).name)
    return with_memory(cells, results_table.read(timed) if timed.is_file() else None)


def read(table, condition: str | None = None) -> dict:
    """Return the study of the table that `aggregate` wrote, and of those that lie beside it.

    With a `condition`, as it is there; ValueError for one that no task has.
    """
    if condition and condition != CLEAN:
        tables = read_conditions(table)
        if condition not in (known := sorted(tables[0]["condition"].unique())):
            raise ValueError(unknown("condition", condition, [CLEAN, *known]))
        return inside(tables, condition)
    folder = Path(table).parent
    compared = folder / "comparisons.parquet"
    return study(
        _with_memory(results_table.read(table), table),
        results_table.read(compared) if compared.is_file() else None,
        *(read_csv(folder / name) for name in BESIDE),
    )


def read_csv(file: Path) -> pd.DataFrame | None:
    """Return a table beside that of `aggregate`; ValueError with its name if it is damaged."""
    if not file.is_file():
        return None
    try:
        return pd.read_csv(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is no sound table ({error}); delete it and run again") from None


def _facts(cells: pd.DataFrame, chosen_on: str) -> dict:
    """Return what a task's scores are."""
    known = cells.dropna(subset=["metric", "better"])
    metric, better = ("score", "lower") if known.empty else known.iloc[0][["metric", "better"]]
    return {
        "metric": metric,
        "better": better,
        "short": metric_name(metric)[0],
        "heading": heading(metric, better),
        "take": take(cells["audio_seconds"]),
        "audioSeconds": plain(cells["audio_seconds"].dropna().median()),
        "chosenOn": chosen_on,
        "done": completeness(cells),
    }


def _flat(pairs: pd.DataFrame) -> dict:
    """Return the keys of a task's points, and p of all pairs in the order of combinations."""
    ends = [
        [key(*ends) for ends in zip(*(pairs[column] for column in columns), strict=True)]
        for columns in (GROUP[1:], [f"other_{column}" for column in GROUP[1:]])
    ]
    found = dict(zip(zip(*ends, strict=True), pairs["p"], strict=True))
    keys = list(dict.fromkeys([*ends[0], *ends[1]]))
    return {"keys": keys, "p": [float(found[pair]) for pair in itertools.combinations(keys, 2)]}


def key(teacher: str, recipe: str, ratio: float) -> str:
    """Return what names a point within its task."""
    return f"{recipe} {shortest(ratio)} of {teacher}"


def points(cells: pd.DataFrame, summary: pd.DataFrame, fronts=None) -> list[dict]:
    """Return the points of the table `cells` and its summary as dicts of JSON, holes as None.

    `values` has the `QUANTITIES`, `text` the same as the tables print them; `front` names the
    costs on whose front the point is by the score that chooses, `testFront` those on whose front it
    would be by test, `choice` the score that chooses, `ties` those of which the next dearer point
    of the front (see `fronts` of `compare`) is not shown to be better.
    """
    seeds = dict(list(cells.groupby(GROUP, sort=False)))
    ties = {} if fronts is None else _ties(fronts)
    return [_point(row, seeds[tuple(row[GROUP])], ties) for _, row in summary.iterrows()]


def _point(row: pd.Series, cells: pd.DataFrame, ties: dict) -> dict:
    """Return one point."""
    names = {name: plain(row[name]) for name in GROUP}
    return names | {
        "key": key(*list(names.values())[1:]),
        "role": row["role"],
        "kind": row["kind"],
        "status": row["status"],
        "reason": plain(row["reason"]),
        "n": int(row["n"]),
        "seeds": int(row["seeds"]),
        "spread": plain(row["score_std"]),
        "as_good": bool(row["as_good"]),
        "sparse": bool(row["sparse"]),
        "choice": plain(row["choice_score"]),
        "front": [cost for cost in quantities.page_axes() if row[f"front_{cost}"]],
        "testFront": [cost for cost in quantities.page_axes() if row[f"test_front_{cost}"]],
        "ties": {cost: name for (cost, *ends), name in ties.items() if ends == [*names.values()]},
        "values": {name: plain(row[one.column]) for name, one in QUANTITIES.items()},
        "text": texts(row),
        "links": [_links(cell) for cell in cells.to_dict("records")],
    }


def texts(row: pd.Series) -> dict[str, str]:
    """Return the numbers of a row of the summary in words: in every table they read alike."""
    difference = with_interval(*(row[f"difference{end}"] for end in ("", "_low", "_high")))
    return {name: _printed(row, one) for name, one in QUANTITIES.items()} | {
        "ratio": at(row["ratio"], row["target"]),
        "achieved_ratio": three_decimals(row["achieved_ratio"]),
        "score": with_spread(row["score"], row["score_std"]),
        "difference": difference + f" {AS_GOOD}" * bool(row["as_good"]),
        "seeds": f"{row['n']}/{row['seeds']}",
        "status": status_text(row),
    }


def _printed(row: pd.Series, one: quantities.Quantity) -> str:
    """Return a quantity, and its 95th percentile over utterances where they differ in it."""
    text = one.form(row[one.column])
    if one.high is None or pd.isna(row[one.high]):
        return text
    return f"{text} (p95 {one.form(row[one.high])})"


def named(row: pd.Series, with_teacher: bool) -> str:
    """Return what a row of the summary is called: its recipe, or the teacher that it is."""
    if row["role"] == roles.TEACHER:
        return f"teacher ({row['teacher']})"
    return f"{row['recipe']} ({row['teacher']})" if with_teacher else row["recipe"]


def _ties(fronts: pd.DataFrame) -> dict[tuple, str]:
    """Return (cost, *GROUP) of a front's points -> the dearer neighbour that is no better."""
    found = {}
    tied = fronts["tie"].eq(True).fillna(False).astype(bool)
    for row in fronts[tied].to_dict("records"):
        name = f"{row['next_recipe']} {shortest(row['next_ratio'])}"
        found[row["cost"], *(row[column] for column in GROUP)] = name
    return found


def _links(cell: dict) -> dict:
    """Return where a cell's files lie, seen from the results folder."""
    key = {name: cell[name] for name in ("teacher", "recipe", "seed", "task", "scope")}
    key |= {"ratio": shortest(cell["ratio"])}  # at most 4 decimals, so this is all of it
    config = json.loads(cell["config"]) if isinstance(cell["config"], str) else {}
    own = kind_of(config.get("task", {}).get("kind", "ctc"))

    def place(pattern: str) -> str:
        return str(PurePosixPath(pattern.format(**key)).relative_to("results"))

    links: dict[str, Any] = {"seed": int(cell["seed"])}
    if cell["status"] != PENDING:
        links["metrics"] = place(paths.METRICS)
    if cell["status"] == "ok":
        folder = place(paths.FINETUNED if own.finetunes else paths.STUDENT)
        links["model card"] = f"{folder}/README.md"
        links["config"] = f"{folder}/config.json"
        links["cost"] = place(paths.PROFILE)
    if cell["status"] != PENDING:
        links["log"] = f"../logs/{own.rules[0]}/{paths.CELL}/{{task}}.log".format(**key)
    return links


def plain(value):
    """Return a cell of a table as what JSON can hold."""
    if value is None or pd.isna(value):
        return None
    if isinstance(value, str | bool | int):
        return value
    value = float(value)
    return value if math.isfinite(value) else None
