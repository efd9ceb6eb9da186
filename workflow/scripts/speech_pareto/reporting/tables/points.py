"""The points of a study as plain values: what the page embeds and a budget chooses from."""

import itertools
import json
import math
from pathlib import Path, PurePosixPath

import pandas as pd

from speech_pareto.reporting.tables.results_table import (
    COSTS,
    GROUP,
    PENDING,
    TEACHER,
    is_control,
    is_random,
    summarise,
)
from speech_pareto.reporting.tables.results_table import read as read_table
from speech_pareto.reporting.tables.wording import (
    AS_GOOD,
    completeness,
    metric_name,
    short_difference,
    short_score,
    status_text,
)
from speech_pareto.runtime.formatting import short_bytes, short_count, short_seconds

# what a point is known by: how it is called, its dimension (see `recommend.UNITS`), its column
COLUMNS = {
    "parameters": ("parameters", "count", "parameters"),
    "macs_per_second": ("MACs/s", "count", "macs_per_second"),
    "seconds": ("time", "seconds", "paired_seconds"),
    "rtf": ("RTF", "share", "rtf"),
    "bytes": ("on disk", "bytes", "bytes"),
    "peak_memory_bytes": ("memory", "bytes", "peak_memory_bytes"),
    "nonzero_parameters": ("non-zero", "count", "nonzero_parameters"),
    "speedup": ("speed-up", "times", "speedup"),
    "score": ("score", "percent", "score"),
    "ratio": ("ratio", "share", "ratio"),
}

BESIDE = ("fronts.csv", "pairs.csv")


def study(cells: pd.DataFrame, comparisons=None, fronts=None, pairs=None) -> dict:
    """Return tasks, points and tests of a study, from the tables of `aggregate` and `compare`."""
    return {
        "study": plain(cells["study"].dropna().iloc[0]) if cells["study"].notna().any() else None,
        "done": completeness(cells),
        "tasks": {task: _facts(rows) for task, rows in cells.groupby("task")},
        "points": points(cells, comparisons, fronts),
        "pairs": {} if pairs is None else {t: _flat(rows) for t, rows in pairs.groupby("task")},
    }


def read(table) -> dict:
    """Return the study of the table that `aggregate` wrote, and of those that lie beside it."""
    folder = Path(table).parent
    compared = folder / "comparisons.parquet"
    return study(
        read_table(table),
        read_table(compared) if compared.is_file() else None,
        *(_read_csv(folder / name) for name in BESIDE),
    )


def _read_csv(file: Path) -> pd.DataFrame | None:
    """Return a table beside that of `aggregate`; ValueError with its name if it is damaged."""
    if not file.is_file():
        return None
    try:
        return pd.read_csv(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is no sound table ({error}); delete it and run again") from None


def _facts(cells: pd.DataFrame) -> dict:
    """Return what a task's scores are."""
    known = cells.dropna(subset=["metric", "better"])
    metric, better = ("score", "lower") if known.empty else known.iloc[0][["metric", "better"]]
    short, long = metric_name(metric)
    take = cells["audio_seconds"].dropna()
    return {
        "metric": metric,
        "better": better,
        "short": short,
        "heading": f"{long} in %, {better} is better",
        "take": f"{take.iloc[0]:g} s take" if len(take) else None,
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
    return f"{recipe} {ratio:g} of {teacher}"


def points(cells: pd.DataFrame, comparisons=None, fronts=None) -> list[dict]:
    """Return the points of the table `cells`, each a dict that JSON can hold, holes as None.

    `values` has the numbers of `COLUMNS`, `text` the same as the tables print them; `front` names
    the costs on whose front the point is, `ties` those of which the next dearer point of the front
    (see `fronts` of `compare`) is not shown to be better.
    """
    summary = summarise(cells, comparisons)
    # the wall clock of `profile` is for batch 1; pairing corrects for busy machines, as in figures
    summary["rtf"] = summary["paired_seconds"] / (summary["audio_seconds"] * summary["batch"])
    seeds = dict(list(cells.groupby(GROUP, sort=False)))
    ties = {} if fronts is None else _ties(fronts)
    return [_point(row, seeds[tuple(row[GROUP])], ties) for _, row in summary.iterrows()]


def _point(row: pd.Series, cells: pd.DataFrame, ties: dict) -> dict:
    """Return one point."""
    names = {name: plain(row[name]) for name in GROUP}
    return names | {
        "key": key(*list(names.values())[1:]),
        "kind": _kind(row["teacher"], row["recipe"]),
        "status": row["status"],
        "reason": plain(row["reason"]),
        "n": int(row["n"]),
        "seeds": int(row["seeds"]),
        "spread": plain(row["score_std"]),
        "as_good": bool(row["as_good"]),
        "sparse": bool(row["sparse"]),
        "front": [cost for cost in COSTS if row[f"front_{cost}"]],
        "ties": {cost: name for (cost, *ends), name in ties.items() if ends == [*names.values()]},
        "values": {name: plain(row[column]) for name, (_, _, column) in COLUMNS.items()},
        "text": _text(row),
        "links": [_links(cell) for cell in cells.to_dict("records")],
    }


def _kind(teacher: str, recipe: str) -> str:
    """Return what a point is: the teacher itself, a control, or a student to be used."""
    if recipe == TEACHER and not is_random(teacher):
        return "teacher"
    return "control" if is_control(teacher, recipe) else "student"


def _text(row: pd.Series) -> dict[str, str]:
    """Return the numbers of a point in words, as the leaderboard prints them."""
    missing = pd.isna(row["speedup"])
    return {
        "parameters": short_count(row["parameters"]),
        "macs_per_second": short_count(row["macs_per_second"]),
        "seconds": short_seconds(row["paired_seconds"]),
        "rtf": "–" if pd.isna(row["rtf"]) else f"{row['rtf']:#.2g}",
        "bytes": short_bytes(row["bytes"]),
        "peak_memory_bytes": short_bytes(row["peak_memory_bytes"]),
        "nonzero_parameters": short_count(row["nonzero_parameters"]),
        "speedup": "–" if missing else f"{row['speedup']:.2f}×",
        "score": short_score(row),
        "ratio": f"{row['ratio']:g}",
        "difference": short_difference(row) + f" {AS_GOOD}" * bool(row["as_good"]),
        "seeds": f"{row['n']}/{row['seeds']}",
        "status": status_text(row),
    }


def _ties(fronts: pd.DataFrame) -> dict[tuple, str]:
    """Return (cost, *GROUP) of a front's points -> the dearer neighbour that is no better."""
    found = {}
    tied = fronts["tie"].eq(True).fillna(False).astype(bool)
    for row in fronts[tied].to_dict("records"):
        name = f"{row['next_recipe']} {row['next_ratio']:g}"
        found[row["cost"], *(row[column] for column in GROUP)] = name
    return found


def _links(cell: dict) -> dict:
    """Return where a cell's files lie, seen from the results folder."""
    teacher, recipe, ratio, seed = PurePosixPath(cell["metrics_file"]).parts[-5:-1]
    path, task = f"{teacher}/{recipe}/{ratio}/{seed}", cell["task"]
    config = json.loads(cell["config"]) if isinstance(cell["config"], str) else {}
    superb = config.get("task", {}).get("kind") == "superb"
    links = {"seed": int(seed), "metrics": f"metrics/{path}/{task}.json"}
    if cell["status"] == "ok":
        folder = f"models/{path}/{cell['scope']}" if superb else f"finetuned/{path}/{task}"
        links["model card"] = f"{folder}/README.md"
        links["config"] = f"{folder}/config.json"
        links["cost"] = f"profile/{path}/{cell['scope']}.json"
    if cell["status"] != PENDING:
        links["log"] = f"../logs/{'superb' if superb else 'finetune'}/{path}/{task}.log"
    else:
        del links["metrics"]
    return links


def plain(value):
    """Return a cell of a table as what JSON can hold."""
    if value is None or pd.isna(value):
        return None
    if isinstance(value, str | bool | int):
        return value
    value = float(value)
    return value if math.isfinite(value) else None
