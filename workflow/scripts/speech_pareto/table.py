"""One tidy table of all cells, its summary over seeds, and both as text to read."""

import json
import textwrap
from collections.abc import Iterable

import numpy as np
import pandas as pd

from speech_pareto import result
from speech_pareto.pareto import SIGNS, non_dominated

KEY = ["task", "teacher", "recipe", "ratio", "seed"]
GROUP = KEY[:-1]
CONTROLS = ("identity", "random-pruning", "layer-drop")
TEACHER = "identity"  # the recipe that leaves the teacher as it is
# Ratios are met within ±0.01, so two students of one ratio may differ by 2 % of the teacher, and
# times are no surer than that: being cheaper by less puts nobody on the front.
RESOLUTION = 0.02

# column: where it stands in the JSON of `evaluate`; the order is the table's
FROM_METRICS = {
    "study": ("run", "study"),
    "task": ("run", "task"),
    "teacher": ("run", "teacher"),
    "recipe": ("run", "recipe"),
    "ratio": ("run", "ratio"),
    "seed": ("run", "seed"),
    "status": ("status",),
    "reason": ("reason",),
    "reachable": ("reachable",),
    "metric": ("metric", "name"),
    "better": ("metric", "better"),
}
FROM_PROFILE = {
    "scope": ("run", "scope"),
    "achieved_ratio": ("cost", "ratio"),
    "parameters": ("cost", "parameters", "total"),
    "nonzero_parameters": ("cost", "parameters", "nonzero"),
    "stem_parameters": ("cost", "parameters", "stem"),
    "encoder_parameters": ("cost", "parameters", "encoder"),
    "teacher_parameters": ("cost", "teacher_parameters"),
    "bytes": ("cost", "bytes"),
    "macs_per_second": ("cost", "macs_per_second"),
    "audio_seconds": ("cost", "wall_clock", "audio_seconds"),
    "batch": ("cost", "wall_clock", "batch"),
    "threads": ("cost", "wall_clock", "threads"),
    "device": ("cost", "wall_clock", "device"),
    "seconds": ("cost", "wall_clock", "seconds"),
    "teacher_seconds": ("cost", "wall_clock", "teacher_seconds"),
    "speedup": ("cost", "wall_clock", "speedup"),
    "speedup_low": ("cost", "wall_clock", "speedup_low"),
    "speedup_high": ("cost", "wall_clock", "speedup_high"),
    "rtf": ("cost", "wall_clock", "rtf"),
    "peak_memory_bytes": ("cost", "peak_memory_bytes"),
}
INTEGERS = [
    "seed",
    "parameters",
    "nonzero_parameters",
    "stem_parameters",
    "encoder_parameters",
    "teacher_parameters",
    "bytes",
    "batch",
    "threads",
    "peak_memory_bytes",
]
TEXTS = [
    "study",
    "task",
    "teacher",
    "recipe",
    "status",
    "reason",
    "metric",
    "better",
    "scope",
    "device",
    "commit",
    "versions",
    "hardware",
    "config",
    "metrics_file",
    "profile_file",
]
CONDITIONS = ["device", "threads", "batch", "audio_seconds"]

# cost axis: its column in the summary, in which the front is sought, and its name in front.txt
COSTS = {
    "parameters": ("parameters", "size"),
    "macs_per_second": ("macs_per_second", "MACs"),
    "seconds": ("paired_seconds", "time"),
}
METRIC_NAMES = {
    "per": ("PER", "phone error rate"),
    "cer": ("CER", "character error rate"),
    "wer": ("WER", "word error rate"),
    "accuracy": ("accuracy", "accuracy"),
}


def metric_name(metric: str) -> tuple[str, str]:
    """Return a metric's short and long name: ("PER", "phone error rate")."""
    return METRIC_NAMES.get(metric, (metric, metric.replace("_", " ")))


def look_up(value, path: tuple[str, ...]):
    """Return what stands in nested dicts at `path`, None where it ends early."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def read_results(files: Iterable) -> dict[str, dict]:
    """Return the checked results by file name."""
    return {str(file): result.read(file) for file in files}


def build(metrics: dict[str, dict], profiles: dict[str, dict]) -> pd.DataFrame:
    """Return the table: a row per (task, teacher, recipe, ratio, seed), sorted, holes included.

    A student made for one task has a profile of that scope, else the profile of scope `any`.
    Raises ValueError when two files describe one cell.
    """
    costs = _by_key(profiles, "scope")
    rows = []
    for key, (file, value) in _by_key(metrics, "task").items():
        profile_file, profile = costs.get(key) or costs.get(("any", *key[1:])) or (None, None)
        rows.append(_row(file, value, profile_file, profile))
    if not rows:
        raise ValueError("there are no results to put into a table")
    table = pd.DataFrame(rows).sort_values(KEY, kind="stable", ignore_index=True)
    table["paired_seconds"] = paired_seconds(table)

    numbers = sorted(c for c in table if c.startswith("metrics:"))
    numbers.sort(key=lambda column: "." in column)  # by-corpus columns after the plain ones
    tail = ["commit", "dirty", "versions", "hardware", "config", "metrics_file", "profile_file"]
    costs_in_order = list(FROM_PROFILE)
    costs_in_order.insert(costs_in_order.index("teacher_seconds") + 1, "paired_seconds")
    table = table[[*FROM_METRICS, "score", *numbers, *costs_in_order, *tail]]
    table = table.rename(columns={column: column.removeprefix("metrics:") for column in numbers})
    types = dict.fromkeys(INTEGERS, "Int64") | dict.fromkeys(TEXTS, "string")
    floats = [c for c in table if c not in types and c != "dirty"]
    return table.astype(types | {"dirty": "boolean"} | dict.fromkeys(floats, "float64"))


def _by_key(results: dict[str, dict], last: str) -> dict:
    """Return {(task or scope, teacher, recipe, ratio, seed): (file, result)}."""
    found = {}
    for file, value in sorted(results.items()):
        run = value["run"]
        if last not in run:
            raise ValueError(f"{file}: has no `run.{last}`; are metrics and profiles mixed up?")
        key = (run[last], run["teacher"], run["recipe"], float(run["ratio"]), run["seed"])
        if key in found:
            raise ValueError(f"{found[key][0]} and {file} describe the same cell")
        found[key] = (file, value)
    return found


def _row(file: str, value: dict, profile_file: str | None, profile: dict | None) -> dict:
    """Return one row of the table."""
    row = {column: look_up(value, path) for column, path in FROM_METRICS.items()}
    row |= {column: look_up(profile, path) for column, path in FROM_PROFILE.items()}
    if row["status"] == "ok" and profile and profile["status"] != "ok":
        # a score without a cost is no point of a front
        row |= {"status": profile["status"], "reason": f"profile: {profile['reason']}"}
    numbers = dict(value.get("metrics") or {})
    for corpus, parts in (numbers.pop("by_corpus", None) or {}).items():
        numbers |= {f"{name}.{corpus}": number for name, number in parts.items()}
    row |= {f"metrics:{name}": number for name, number in numbers.items()}
    row["score"] = numbers.get(row["metric"]) if value["status"] == "ok" else None
    meta = value["meta"]
    return row | {
        "commit": meta.get("commit"),
        "dirty": meta.get("dirty"),
        "versions": _compact(meta.get("versions")),
        "hardware": _compact(look_up(profile, ("meta", "hardware")) or meta.get("hardware")),
        "config": _compact(value["run"].get("config")),
        "metrics_file": file,
        "profile_file": profile_file,
    }


def _compact(value) -> str | None:
    """Return `value` as JSON in one line."""
    return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)


def paired_seconds(table: pd.DataFrame) -> pd.Series:
    """Return each student's time as the teacher's typical time divided by the paired speed-up.

    Jobs run on busier and idler machines; student and teacher of one job share the machine, so
    only their ratio is comparable between jobs.
    """
    teacher = table.groupby(["teacher", *CONDITIONS], dropna=False)["teacher_seconds"]
    return teacher.transform("median") / table["speedup"].astype(float)


def read(file) -> pd.DataFrame:
    """Return the table that `aggregate` wrote (Parquet)."""
    return pd.read_parquet(file)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per (task, teacher, recipe, ratio): mean and spread over the seeds.

    `n` of `seeds` cells are done.  `status` is `ok` only when all are, else the first other
    status; `score_std` is the sample standard deviation, a hole for a single seed.  Columns
    `front_parameters`, `front_macs_per_second`, `front_seconds` say whether a row is on the front
    of its task; a row with a hole never is.
    """
    rows = []
    means = ["achieved_ratio", "parameters", "nonzero_parameters", "bytes", "macs_per_second"]
    means += ["paired_seconds", "speedup", "speedup_low", "speedup_high", "peak_memory_bytes"]
    for key, cells in table.groupby(GROUP, sort=True):
        done = cells[cells["status"] == "ok"]
        holes = cells[cells["status"] != "ok"]
        score = done["score"].astype(float)
        row = dict(zip(GROUP, key, strict=True))
        row |= {"metric": cells["metric"].iloc[0], "better": cells["better"].iloc[0]}
        row |= {"n": len(done), "seeds": len(cells)}
        row["status"] = holes["status"].iloc[0] if len(holes) else "ok"
        row["reason"] = holes["reason"].iloc[0] if len(holes) else None
        row["reachable"] = holes["reachable"].iloc[0] if len(holes) else None
        row |= {"score": score.mean(), "score_std": score.std(ddof=1)}
        row |= {column: done[column].astype(float).mean() for column in means}
        # a thousandth of zeros is chance, a hundredth is pruning
        row["sparse"] = bool(row["nonzero_parameters"] < 0.99 * row["parameters"])
        rows.append(row | {column: cells[column].iloc[0] for column in CONDITIONS})
    summary = pd.DataFrame(rows)
    # a task's metric is known even where all seeds of a group failed before they had one
    for column in ("metric", "better"):
        summary[column] = summary.groupby("task")[column].transform(lambda x: x.ffill().bfill())
    summary = summary.fillna({"metric": "score", "better": "lower"})  # holes alone
    summary["reachable"] = summary["reachable"].astype(float)
    for cost, (column, _) in COSTS.items():
        summary[f"front_{cost}"] = _on_front(summary, column)
    return summary


def _on_front(summary: pd.DataFrame, column: str) -> np.ndarray:
    """Return whether each complete row is non-dominated in (cost `column`, score) in its task."""
    front = pd.Series(False, index=summary.index)
    whole = (summary["status"] == "ok") & summary[column].notna() & summary["score"].notna()
    for _, rows in summary[whole].groupby("task"):
        better = ("lower", rows["better"].iloc[0])
        slack = (RESOLUTION * rows[column].max(), 0.0)
        points = rows[[column, "score"]].to_numpy(dtype=float)
        front[rows.index] = non_dominated(points, better, slack)
    return front.to_numpy()


def best_first(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the rows by ratio and, within a ratio, best score first, holes last."""
    signs = summary["better"].map(SIGNS).astype(float).fillna(1.0)
    order = pd.DataFrame({"ratio": summary["ratio"], "score": summary["score"] * signs})
    order["recipe"] = summary["recipe"]
    return summary.loc[order.sort_values(["ratio", "score", "recipe"], kind="stable").index]


def short_count(value: float) -> str:
    """Return a count with three digits: 4.01 M, 310 M, 1.20 G."""
    if pd.isna(value):
        return "–"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= 0.9995 * size:
            return _three_digits(value / size) + unit
    return f"{value:.0f}"


def short_seconds(value: float) -> str:
    """Return a duration with three digits: 92.0 ms, 1.20 s."""
    if pd.isna(value):
        return "–"
    return f"{_three_digits(value)} s" if value >= 1 else f"{_three_digits(value * 1e3)} ms"


def _three_digits(value: float) -> str:
    """Return `value` with three significant digits, never in powers of ten."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def short_score(row) -> str:
    """Return a score with its spread: 31.2, or 31.2 ± 0.4 where there are several seeds."""
    if pd.isna(row["score"]):
        return "–"
    spread = "" if pd.isna(row["score_std"]) else f" ± {row['score_std']:.1f}"
    return f"{row['score']:.1f}{spread}"


def completeness(table: pd.DataFrame) -> str:
    """Return how much of the grid is there: "46 of 48 cells done, 2 infeasible"."""
    counts = table["status"].value_counts()
    parts = [f"{counts.get('ok', 0)} of {len(table)} cells done"]
    parts += [f"{counts[s]} {s.replace('_', ' ')}" for s in result.STATUSES[1:] if s in counts]
    return ", ".join(parts)


def holes_text(summary: pd.DataFrame) -> list[str]:
    """Return a line per recipe that has holes: "head-pruning: infeasible at 0.5, 0.75 (...)"."""
    lines = []
    teachers = summary.loc[summary["recipe"] != TEACHER, "teacher"].nunique()
    holes = summary[summary["status"] != "ok"]
    for (teacher, recipe, status), rows in holes.groupby(["teacher", "recipe", "status"]):
        ratios = ", ".join(
            f"{row.ratio:g}" + (f" ({row.n} of {row.seeds} seeds done)" if row.n else "")
            for row in rows.itertuples()
        )
        name = recipe if teachers < 2 else f"{recipe} of {teacher}"
        line = f"{name}: {status.replace('_', ' ')} at {ratios}"
        if rows["reachable"].notna().any():
            line += f"; reaches {rows['reachable'].max():.2f}"
        lines.append(line)
    return lines


def heading(rows: pd.DataFrame) -> str:
    """Return a task's metric with unit and direction: "phone error rate in %, lower is better"."""
    long = metric_name(rows["metric"].iloc[0])[1]
    return f"{long} in %, {rows['better'].iloc[0]} is better"


def front_text(table: pd.DataFrame, width: int = 100) -> str:
    """Return the non-dominated points of each task as text of at most `width` columns."""
    summary = summarise(table)
    blocks = []
    for task, rows in summary.groupby("task"):
        done = completeness(table[table["task"] == task])
        lines = [*textwrap.wrap(f"{task}: {heading(rows)}; {done}", width), ""]
        flags = rows[[f"front_{cost}" for cost in COSTS]]
        front = best_first(rows[flags.any(axis=1)])
        lines += _columns(_front_cells(front), width)
        for i, line in enumerate(holes_text(rows)):
            lines += [""] * (i == 0)
            lines += textwrap.wrap(line, width, initial_indent="  ", subsequent_indent="    ")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _front_cells(front: pd.DataFrame) -> list[list[str]]:
    """Return header and rows of a task's front."""
    many_teachers = front["teacher"].nunique() > 1
    short = metric_name(front["metric"].iloc[0])[0] if len(front) else "score"
    audio = front["audio_seconds"].dropna()
    time = f"{audio.iloc[0]:g} s take" if len(audio) else "time"
    cells = [["recipe", "ratio", "parameters", "MACs/s", time, f"{short} %", "seeds", "best for"]]
    for _, row in front.iterrows():
        name = f"{row['recipe']} ({row['teacher']})" if many_teachers else row["recipe"]
        if row["recipe"] == TEACHER:
            name = f"teacher ({row['teacher']})"
        best = ", ".join(word for cost, (_, word) in COSTS.items() if row[f"front_{cost}"])
        cells.append(
            [
                name,
                f"{row['ratio']:g}",
                short_count(row["parameters"]),
                short_count(row["macs_per_second"]),
                short_seconds(row["paired_seconds"]),
                short_score(row),
                str(row["n"]),
                best,
            ]
        )
    return cells


def _columns(cells: list[list[str]], width: int) -> list[str]:
    """Return rows of text in aligned columns: the first and last to the left, others right."""
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sizes[0] = max(10, min(sizes[0], width - sum(sizes[1:]) - 2 * len(sizes)))
    lines = []
    for row in cells:
        first = row[0] if len(row[0]) <= sizes[0] else row[0][: sizes[0] - 1] + "…"
        middle = [cell.rjust(size) for cell, size in zip(row[1:-1], sizes[1:-1], strict=True)]
        lines.append("  ".join(["", first.ljust(sizes[0]), *middle, row[-1]]).rstrip())
    lines.insert(1, "  " + "─" * (max(map(len, lines)) - 2))
    return lines


def leaderboard(table: pd.DataFrame) -> str:
    """Return all rows of the summary as Markdown, a table per task, the front in bold."""
    summary = summarise(table)
    how = (
        f"{completeness(table)}. Scores are the mean over seeds ± the sample standard deviation; "
        "`seeds` says how many are done of how many were asked for. Rows in bold are on the front "
        "(parameters, MACs or wall clock against the score). Times are the teacher's typical time "
        "divided by the speed-up measured side by side with it; a cost that is lower by less than "
        f"{100 * RESOLUTION:.0f} % of the dearest model's counts as equal. Zeros of unstructured "
        "pruning (`non-zero`) make a model neither faster nor, stored densely, smaller."
    )
    lines = ["# Leaderboard", "", how, ""]
    for task, rows in summary.groupby("task"):
        short = metric_name(rows["metric"].iloc[0])[0]
        lines += [f"## {task}", "", f"{heading(rows)[0].upper()}{heading(rows)[1:]}.", ""]
        header = ["recipe", "teacher", "ratio", "reached", "parameters", "non-zero", "MACs/s"]
        header += ["time", "speed-up", f"{short} %", "seeds", "status"]
        lines += [_markdown(header), _markdown(["---"] * 2 + ["---:"] * 9 + ["---"])]
        for _, row in best_first(rows).iterrows():
            lines.append(_markdown(_leaderboard_cells(row)))
        lines.append("")
    return "\n".join(lines)


def _leaderboard_cells(row) -> list[str]:
    """Return one row of the leaderboard."""
    front = any(row[f"front_{cost}"] for cost in COSTS)
    status = row["status"]
    if status != "ok":
        status = f"{status.replace('_', ' ')}: {row['reason']}"
        if pd.notna(row["reachable"]) and f"{row['reachable']:.2f}" not in row["reason"]:
            status += f" (reaches {row['reachable']:.2f})"
    score = short_score(row)
    return [
        f"**{row['recipe']}**" if front else row["recipe"],
        row["teacher"],
        f"{row['ratio']:g}",
        "–" if pd.isna(row["achieved_ratio"]) else f"{row['achieved_ratio']:.3f}",
        short_count(row["parameters"]),
        short_count(row["nonzero_parameters"]),
        short_count(row["macs_per_second"]),
        short_seconds(row["paired_seconds"]),
        "–" if pd.isna(row["speedup"]) else f"{row['speedup']:.2f}×",
        f"**{score}**" if front else score,
        f"{row['n']}/{row['seeds']}",
        status,
    ]


def _markdown(cells: list[str]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
