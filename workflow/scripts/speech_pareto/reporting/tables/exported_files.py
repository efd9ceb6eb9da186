"""Students in torch and as exported files: a row per runtime, means over seeds.

In all other tables the score of a student, and its place on fronts, is that in torch.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from speech_pareto.reporting.tables.results_table import GROUP, KEY
from speech_pareto.reporting.tables.roles import STUDENT, TEACHER
from speech_pareto.reporting.tables.significance import ALPHA, holm
from speech_pareto.reporting.tables.systems import DIFFERENCE, key_of, systems_of
from speech_pareto.reporting.tables.wording import AS_GOOD, at, metric_name
from speech_pareto.runtime import formatting

TORCH, ONNX = "torch", "onnxruntime"
NAMED = [*GROUP, "runtime", "numbers"]
ABOUT = ["target", "role", "pretrained", "metric", "better", "status", "reason", "n", "seeds"]
TESTED = [*DIFFERENCE, "z", "p", "p_corrected", "significant"]
SIZES = ["bytes", "peak_memory_bytes", "peak_memory_bytes_without_arena"]
TIMES = ["seconds", "speedup", "speedup_low", "speedup_high", "fastest"]
MEASURED = ["score", "valid_score", *SIZES]
TEXTS = ["task", "teacher", "recipe", "runtime", "numbers", *ABOUT[:2], *ABOUT[3:7]]


def build(
    cells: pd.DataFrame, hypotheses: Mapping[str, str], measured: Mapping[str, dict]
) -> pd.DataFrame:
    """Return the table: each student in torch, then each of its files, with a status if it failed.

    `cells` is the table of `aggregate`, `hypotheses` maps its `metrics_file` to the TSV of
    utterances, `measured` the folders of `measure_export` to their report.json. Errors on test are
    compared with those in torch, as students with their teacher: `difference`, `z`, `p`, Holm's
    `p_corrected` over all files of a task. Of each number of threads there are `seconds.4_threads`
    and so on: torch's median, and that divided by the `speedup` over torch, which is paired.
    `fastest` is one runtime of each student.
    """
    rows = [row for folder, value in measured.items() for row in _rows(cells, folder, value)]
    if not rows:
        raise ValueError("no exported file was measured: the config does not say `onnx`")
    seeds, found = pd.DataFrame(rows), []
    files = {**hypotheses, **{row["metrics_file"]: row["rows"] for row in rows if row["rows"]}}
    times = sorted({c for c in seeds if c.startswith("speedup.")}, key=_threads)
    threads = [name.partition(".")[2] for name in times]
    columns = [f"{name}.{one}" for one in threads for name in TIMES]
    for _, own in seeds.groupby("task", sort=True):
        points = _over_seeds(own, [c for c in columns if not c.startswith("fastest")])
        found.append(_tested(own, points, files))
    table = pd.concat(found, ignore_index=True).reindex(
        columns=[*NAMED, *ABOUT, *MEASURED[:2], *TESTED, *SIZES, *columns]
    )
    for one in threads:
        seconds = table[f"seconds.{one}"].astype(float)
        table[f"fastest.{one}"] = seconds.eq(seconds.groupby(_student(table)).transform("min"))
    types: dict[str, Any] = dict.fromkeys(TEXTS, "string") | {"n": "Int64", "seeds": "Int64"}
    types |= dict.fromkeys(["pretrained", "significant"], "boolean")
    types |= {column: "bool" for column in columns if column.startswith("fastest")}
    return table.astype({column: types.get(column, "float64") for column in table})


def with_memory(cells: pd.DataFrame, table: pd.DataFrame | None) -> pd.DataFrame:
    """Return cells with the peak memory of their exported file in fp32, `exported_memory_bytes`.

    Its scores are those in torch. `table` is that of exported files, if there is one; the memory is
    by how much a process that runs the file grows, a mean over seeds.
    """
    if table is None:
        return cells
    own = table[(table["runtime"] == ONNX) & (table["numbers"] == "fp32")]
    own = own[[*GROUP, "peak_memory_bytes"]]
    own = own.rename(columns={"peak_memory_bytes": "exported_memory_bytes"})
    return cells.merge(own, how="left", on=GROUP)


def _student(table: pd.DataFrame) -> list[pd.Series]:
    """Return what tells students apart."""
    return [table[column] for column in GROUP]


def _threads(column: str) -> int:
    """Return the number in a column's name such as `speedup.4_threads`."""
    return int(column.partition(".")[2].partition("_")[0])


def _rows(cells: pd.DataFrame, folder: str, value: dict) -> list[dict]:
    """Return a row per runtime of one cell."""
    run = value["run"]
    own = cells[(cells[KEY] == [run[name] for name in KEY]).all(axis=1)]
    if own.empty:
        raise ValueError(f"{folder}: no result is of its cell; is it from another study?")
    cell = own.iloc[0].to_dict()
    about = {
        name: cell[name] for name in (*KEY, "target", "role", "pretrained", "metric", "better")
    }
    kept = ("status", "reason", "score", "valid_score", "bytes", "metrics_file")
    torch = about | {"runtime": TORCH, "rows": None} | {name: cell[name] for name in kept}
    torch["numbers"] = cell["computed_in"] if pd.notna(cell["computed_in"]) else "fp32"
    if value["status"] != "ok" or cell["status"] != "ok":
        return [torch]
    found = value["runtimes"]
    torch["peak_memory_bytes"] = found["peak_memory_bytes"]
    files = [about | _file(one, folder, cell["metric"]) for one in found["files"]]
    timed = [one for file in found["files"] for one in file.get("times", ()) if "speedup" in one]
    for threads in {one["threads"] for one in timed}:
        typical = pd.Series([x["torch_seconds"] for x in timed if x["threads"] == threads]).median()
        for row in (torch, *files):
            paired = row.setdefault(f"speedup.{threads}_threads", 1.0 if row is torch else None)
            if paired is not None:
                row[f"seconds.{threads}_threads"] = typical / paired
    return [torch, *files]


def _file(one: dict, folder: str, metric: str) -> dict:
    """Return what a file's row has of its own."""
    row = {"runtime": ONNX, "numbers": one["numbers"], "status": one["status"]}
    row |= {"reason": one.get("reason"), "metrics_file": f"{folder}/{one['numbers']}"}
    row["rows"] = f"{folder}/{one['numbers']}.tsv"
    row["score"] = one.get("metrics", {}).get(metric)
    row["valid_score"] = one.get("valid_metrics", {}).get(metric)
    row |= {name: one.get(name) for name in SIZES}
    for timed in one.get("times", ()):
        for name in TIMES:
            if name != "seconds" and name in timed:
                row[f"{name}.{timed['threads']}_threads"] = timed[name]
    return row


def _over_seeds(rows: pd.DataFrame, times: list[str]) -> pd.DataFrame:
    """Return a row per runtime of each student: means, and the first status that is not ok."""
    found = []
    for key, own in rows.groupby(NAMED, sort=False):
        done, holes = own[own["status"] == "ok"], own[own["status"] != "ok"]
        first = (holes if len(holes) else own).iloc[0]
        row = dict(zip(NAMED, key, strict=True)) | {name: first[name] for name in ABOUT[:7]}
        row |= {"n": len(done), "seeds": len(own)}
        present = [name for name in (*MEASURED, *times) if name in own]
        found.append(row | {name: done[name].astype(float).mean() for name in present})
    table = pd.DataFrame(found)
    order = table.assign(onnx=table["runtime"] == ONNX)
    return table.loc[order.sort_values([*GROUP, "onnx", "numbers"], kind="stable").index]


def _tested(seeds: pd.DataFrame, points: pd.DataFrame, files: Mapping[str, str]) -> pd.DataFrame:
    """Return a task's rows with how far each file's errors are from those in torch."""
    named, whole = (rows.assign(recipe=_names(rows)) for rows in (seeds, points))
    whole = whole.assign(role=[TEACHER if x == TORCH else STUDENT for x in whole["runtime"]])
    systems = systems_of(named, whole, dict(files), "test")
    done = {key_of(row) for row in whole.itertuples() if row.status == "ok"}
    found, tested = [], []
    for row, name in zip(points.to_dict("records"), whole["recipe"], strict=True):
        own, base = ((row["teacher"], x, row["ratio"]) for x in (name, f"{row['recipe']} {TORCH}"))
        if row["runtime"] == ONNX and {own, base} <= done and systems.utterances:
            row |= systems.difference(own, base, row["better"])
            tested.append(row)
        found.append(row)
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row |= {"p_corrected": float(p), "significant": bool(p < ALPHA and row["z"] > 0)}
    return pd.DataFrame(found)


def _names(rows: pd.DataFrame) -> list[str]:
    """Return what tells runtimes of a recipe apart, in torch alone the recipe's number format."""
    pairs = zip(rows["recipe"], rows["runtime"], rows["numbers"], strict=True)
    return [f"{a} {TORCH}" if b == TORCH else f"{a} {b} {c}" for a, b, c in pairs]


def shown(table: pd.DataFrame) -> dict[str, list[list[tuple[str, bool]]]]:
    """Return by task a header and rows of (text, whether it stands out: as a student's fastest)."""
    times = [column for column in table if column.startswith("seconds.")]
    found = {}
    for task, rows in table.groupby("task", sort=True):
        score = metric_name(next(iter(rows["metric"].dropna()), "score"))[0]
        header = ["recipe", "runtime", "numbers", score, "against torch", "file", "memory"]
        header += [_heading(_threads(column)) for column in times]
        several = rows["teacher"].nunique() > 1
        lines = [_line(row, several, times) for row in rows.to_dict("records")]
        found[str(task)] = [[(text, False) for text in header], *lines]
    return found


def _heading(threads: int) -> str:
    """Return what a column of times is called."""
    return f"{threads} thread{'' if threads == 1 else 's'}"


def _line(row: dict, several: bool, times: list[str]) -> list[tuple[str, bool]]:
    """Return the texts of one row."""
    name = f"{row['recipe']} {at(row['ratio'], row['target'])}"
    texts = [f"{name} ({row['teacher']})" if several else name, row["runtime"], row["numbers"]]
    if row["status"] != "ok":
        return [(text, False) for text in (*texts, f"{row['status']}: {row['reason']}")]
    change = formatting.with_interval(*(row[name] for name in DIFFERENCE))
    # `significant` is a hole in torch's own row
    change += f" {AS_GOOD}" * (row["significant"] is False)
    texts += [formatting.one_decimal(row["score"]), change]
    texts += [formatting.short_bytes(row[name]) for name in SIZES[:2]]
    found = [(text, False) for text in texts]
    for column in times:
        where = column.partition(".")[2]
        text = formatting.short_seconds(row[column])
        if row["runtime"] == ONNX and pd.notna(row[column]):
            text += f" ({formatting.times(row[f'speedup.{where}'])})"
        found.append((text, bool(row[f"fastest.{where}"])))
    return found


def markdown(table: pd.DataFrame) -> str:
    """Return the table for readers in Markdown; the fastest runtime of a student is bold."""
    parts = []
    for task, (header, *rows) in shown(table).items():
        wide = [[*row, *[("", False)] * (len(header) - len(row))] for row in rows]
        lines = [[f"**{text}**" if bold else text for text, bold in row] for row in (header, *wide)]
        lines.insert(1, ["---"] * len(header))
        parts.append(f"## {task}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines))
    return "\n".join(parts)
