"""One tidy table of all cells, and its summary over seeds."""

import json
import logging
from collections.abc import Iterable

import numpy as np
import pandas as pd

from speech_pareto.reporting.tables import roles
from speech_pareto.reporting.tables.pareto import non_dominated
from speech_pareto.runtime import result
from speech_pareto.study import quantities

log = logging.getLogger(__name__)
KEY = ["task", "teacher", "recipe", "ratio", "seed"]
GROUP = KEY[:-1]
LANGUAGES = ("language_mean", "language_std", "worst_language_score", "worst_language")
PENDING = "pending"  # status of a cell that is not done yet, in interim tables
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
    "target": ("run", "target"),
    "seed": ("run", "seed"),
    "role": ("run", "role"),
    "pretrained": ("run", "pretrained"),
    "status": ("status",),
    "reason": ("reason",),
    "reachable": ("reachable",),
    "metric": ("metric", "name"),
    "better": ("metric", "better"),
}
LENGTHS = ("1", "5", "15", "30")  # seconds of audio at which MACs are counted
FROM_PROFILE = {
    "scope": ("run", "scope"),
    "achieved_ratio": ("cost", "ratio"),
    "parameters": ("cost", "parameters", "total"),
    "nonzero_parameters": ("cost", "parameters", "nonzero"),
    "stem_parameters": ("cost", "parameters", "stem"),
    "encoder_parameters": ("cost", "parameters", "encoder"),
    "task_head_parameters": ("cost", "parameters", "task_head"),
    "projection_parameters": ("cost", "parameters", "projections"),
    "parameters_with_heads": ("cost", "parameters", "with_heads"),
    "teacher_parameters": ("cost", "teacher_parameters"),
    "bytes": ("cost", "bytes"),
    "bytes_fp32": ("cost", "bytes_fp32"),
    "bytes_fp16": ("cost", "bytes_fp16"),
    "computed_in": ("cost", "computed_in"),
    "macs_per_second": ("cost", "macs_per_second"),
    "theoretical_macs_per_second": ("cost", "theoretical_macs_per_second"),
    **{f"macs_{n}s": ("cost", "macs", n, "total") for n in LENGTHS},
    **{f"macs_per_second_{n}s": ("cost", "macs", n, "per_second") for n in LENGTHS},
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
    "latency": ("cost", "latency"),
    "energy_joules": ("cost", "wall_clock", "energy_joules"),
    "teacher_energy_joules": ("cost", "wall_clock", "teacher_energy_joules"),
    "energy_source": ("cost", "wall_clock", "energy_source"),
    # Of students that utterances leave early; where there are none, holes.
    "mean_layers": ("cost", "exits", "mean_layers"),
    "macs_per_second_p95": ("cost", "exits", "macs_per_second_p95"),
    "seconds_p95": ("cost", "wall_clock", "seconds_p95"),
    "speedup_p95": ("cost", "wall_clock", "speedup_p95"),
}
# of each further condition: its columns are named as in `speedup.10s_batch1_threadsall_cpu_fp32`
UNDER = [
    "threads",
    "seconds",
    "teacher_seconds",
    "speedup",
    "speedup_low",
    "speedup_high",
    "rtf",
    "peak_memory_bytes",
    "energy_joules",
    "teacher_energy_joules",
]
INTEGERS = [
    "seed",
    "left_out",
    "parameters",
    "nonzero_parameters",
    "stem_parameters",
    "encoder_parameters",
    "task_head_parameters",
    "projection_parameters",
    "parameters_with_heads",
    "teacher_parameters",
    "bytes",
    "bytes_fp32",
    "bytes_fp16",
    "batch",
    "threads",
    "peak_memory_bytes",
]
BOOLEANS = ["pretrained", "dirty"]
TEXTS = [
    "study",
    "task",
    "teacher",
    "recipe",
    "target",
    "role",
    "status",
    "reason",
    "metric",
    "better",
    "worst_language",
    "scope",
    "computed_in",
    "device",
    "energy_source",
    "commit",
    "versions",
    "hardware",
    "config",
    "metrics_file",
    "profile_file",
]
CONDITIONS = ["device", "threads", "batch", "audio_seconds"]
COMPARED = ["difference", "difference_low", "difference_high", "significant"]


def look_up(value, path: tuple[str, ...]):
    """Return what stands in nested dicts at `path`, None where it ends early."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def read_results(files: Iterable) -> dict[str, dict]:
    """Return the results by file name, with the status `damaged` where a file is none."""
    found = {str(file): result.read_cell(file) for file in files}
    for value in found.values():
        if value["status"] == result.DAMAGED:
            log.warning("%s", value["reason"])
    return found


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
    table = roles.filled(table)
    table["paired_seconds"] = paired_seconds(table)
    table["paired_seconds_p95"] = paired_seconds(table, "speedup_p95")

    numbers = sorted(c for c in table if c.startswith("metrics:"))
    numbers.sort(key=lambda column: "." in column)  # by-corpus columns after the plain ones
    tail = ["commit", "dirty", "versions", "hardware", "config", "metrics_file", "profile_file"]
    costs_in_order = list(FROM_PROFILE)
    costs_in_order.insert(costs_in_order.index("teacher_seconds") + 1, "paired_seconds")
    costs_in_order.append("paired_seconds_p95")
    further = sorted((c for c in table if c.partition(".")[0] in UNDER and "." in c), key=_place)
    table = table[
        [
            *FROM_METRICS,
            "score",
            "valid_score",
            *LANGUAGES,
            "left_out",
            *numbers,
            *costs_in_order,
            *further,
            *tail,
        ]
    ]
    table = table.rename(columns={column: column.removeprefix("metrics:") for column in numbers})
    whole = [c for c in further if c.partition(".")[0] in INTEGERS]
    types = dict.fromkeys(INTEGERS + whole, "Int64") | dict.fromkeys(TEXTS, "string")
    types |= dict.fromkeys(BOOLEANS, "boolean")
    return table.astype({column: types.get(column, "float64") for column in table})


def _place(column: str) -> tuple[str, int]:
    """Return where a condition's column stands: beside the others of that condition."""
    number, _, condition = column.partition(".")
    return condition, UNDER.index(number)


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
    for column in ("role", "pretrained"):  # of a damaged file its profile may still tell
        if row[column] is None:
            row[column] = look_up(profile, ("run", column))
    for condition in look_up(profile, ("cost", "conditions")) or ():
        measured = {key: condition[key] for key in UNDER if key in condition}
        row |= {f"{key}.{condition['name']}": number for key, number in measured.items()}
    if row["status"] == "ok" and profile and profile["status"] != "ok":
        # a score without a cost is no point of a front
        row |= {"status": profile["status"], "reason": f"profile: {profile['reason']}"}
    valid = value.get("valid_metrics") or {}
    numbers = dict(value.get("metrics") or {})
    row |= _languages(numbers.pop("by_language", None) or {}, row["metric"], row["better"])
    for corpus, parts in (numbers.pop("by_corpus", None) or {}).items():
        numbers |= {f"{name}.{corpus}": number for name, number in parts.items()}
    row |= {f"metrics:{name}": number for name, number in numbers.items()}
    row["score"] = numbers.get(row["metric"]) if value["status"] == "ok" else None
    row["valid_score"] = valid.get(row["metric"]) if value["status"] == "ok" else None
    left_out = value.get("left_out")
    row["left_out"] = None if left_out is None else lacking(left_out)
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


def _languages(scores: dict[str, dict], metric: str, better: str) -> dict:
    """Return mean, sample deviation and worst of a score over languages, holes if there is one.

    As ML-SUPERB 2.0 reports systems, arXiv 2406.08641.
    """
    values = {name: parts[metric] for name, parts in scores.items() if metric in parts}
    if len(values) < 2:
        return dict.fromkeys(LANGUAGES)
    worst = (max if better == "lower" else min)(values, key=lambda name: values[name])
    spread = float(np.std(list(values.values()), ddof=1))
    mean = sum(values.values()) / len(values)
    return dict(zip(LANGUAGES, (mean, spread, values[worst], worst), strict=True))


def lacking(left_out: dict) -> int:
    """Return how many test utterances a score lacks, from `left_out` of a result."""
    return sum(sum(splits.get("test", {}).values()) for splits in left_out.values())


def _compact(value) -> str | None:
    """Return `value` as JSON in one line."""
    return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)


def paired_seconds(table: pd.DataFrame, speedup: str = "speedup") -> pd.Series:
    """Return each student's time as the teacher's typical time divided by a paired speed-up.

    Jobs run on busier and idler machines; student and teacher of one job share the machine, so
    only their ratio is comparable between jobs.
    """
    teacher = table.groupby(["teacher", *CONDITIONS], dropna=False)["teacher_seconds"]
    return teacher.transform("median") / table[speedup].astype(float)


def read(file) -> pd.DataFrame:
    """Return a table that a job wrote (Parquet); ValueError with its name if it is damaged."""
    try:
        return pd.read_parquet(file)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError) as error:  # pyarrow's own are of these
        raise ValueError(f"{file} is no sound table ({error}); delete it and run again") from None


# Columns that older tables lack, and what only some studies measure (`exported_files.with_memory`).
LATER = ("macs_per_second_p95", "paired_seconds_p95", "latency", "exported_memory_bytes")


def paired_joules(table: pd.DataFrame) -> pd.Series:
    """Return each student's energy as the teacher's typical energy times the share of it.

    As with `paired_seconds`: a counter sees all that its chip does, on busier and idler machines.
    """
    teacher = table.groupby(["teacher", "energy_source", *CONDITIONS], dropna=False)
    typical = teacher["teacher_energy_joules"].transform("median").astype(float)
    share = table["energy_joules"].astype(float) / table["teacher_energy_joules"].astype(float)
    return typical * share


def summarise(table: pd.DataFrame, comparisons: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return a row per (task, teacher, recipe, ratio): mean and spread over the seeds.

    `n` of `seeds` cells are done.  `status` is `ok` only when all are, else the first other
    status; `score_std` is the sample standard deviation, a hole for a single seed.  `kind` says
    what a row is to a reader (see `roles.kind`).

    `score` is of the test split, `valid_score` of validation, and `choice_score` is the one that
    chooses: validation where all whole rows of a task have it (`chosen_on`), else test. A column
    `front_{axis}` for each of `quantities.axes` says whether a row is on that front of its task by
    the score that chooses, `test_front_{axis}` whether it is by test; a row with a hole never is.

    `comparisons` (of `compare`) adds the `difference` to the teacher and `as_good`, whether it is
    no significant increase in errors.
    """
    table = table.assign(**{name: float("nan") for name in LATER if name not in table})
    table["paired_joules"] = paired_joules(table)
    rows, means = [], _means()
    for key, cells in table.groupby(GROUP, sort=True):
        done = cells[cells["status"] == "ok"]
        holes = cells[cells["status"] != "ok"]
        score = done["score"].astype(float)
        row = dict(zip(GROUP, key, strict=True))
        row |= {column: cells[column].iloc[0] for column in ("role", "pretrained", "target")}
        row |= {"metric": cells["metric"].iloc[0], "better": cells["better"].iloc[0]}
        row |= {"n": len(done), "seeds": len(cells)}
        row["status"] = holes["status"].iloc[0] if len(holes) else "ok"
        row["reason"] = holes["reason"].iloc[0] if len(holes) else None
        row["reachable"] = holes["reachable"].iloc[0] if len(holes) else None
        row |= {"score": score.mean(), "score_std": score.std(ddof=1)}
        row["valid_score"] = done["valid_score"].astype(float).mean()
        row |= {column: done[column].astype(float).mean() for column in means}
        # a thousandth of zeros is chance, a hundredth is pruning
        row["sparse"] = bool(row["nonzero_parameters"] < 0.99 * row["parameters"])
        rows.append(row | {column: cells[column].iloc[0] for column in CONDITIONS})
    summary = roles.with_kinds(pd.DataFrame(rows))
    # a task's metric is known even where all seeds of a group failed before they had one
    for column in ("metric", "better"):
        summary[column] = summary.groupby("task")[column].transform(lambda x: x.ffill().bfill())
    summary = summary.fillna({"metric": "score", "better": "lower"})  # holes alone
    summary["reachable"] = summary["reachable"].astype(float)
    # pairing corrects for busy machines, which the real-time factor of a single job does not
    spoken = [pd.to_numeric(summary[column], "coerce") for column in ("audio_seconds", "batch")]
    summary["rtf"] = (summary["paired_seconds"] / (spoken[0] * spoken[1])).astype(float)
    chosen = {task: _chosen_on(rows) for task, rows in summary.groupby("task")}
    summary["chosen_on"] = summary["task"].map(chosen)
    on_valid = summary["chosen_on"] == "valid"
    summary["choice_score"] = summary["valid_score"].where(on_valid, summary["score"])
    for name, axis in quantities.axes().items():
        summary[f"front_{name}"] = _on_front(summary, axis.column, "choice_score")
        summary[f"test_front_{name}"] = _on_front(summary, axis.column, "score")
    if comparisons is None:
        return summary.assign(**dict.fromkeys(COMPARED, np.nan), as_good=False)
    summary = summary.merge(comparisons[[*GROUP, *COMPARED]], how="left", on=GROUP)
    return summary.assign(as_good=summary["significant"].eq(False).fillna(False).astype(bool))


def _means() -> list[str]:
    """Return the columns whose means over seeds are in the summary."""
    measured = [quantity.column for quantity in quantities.QUANTITIES.values()]
    measured += [quantity.high for quantity in quantities.QUANTITIES.values() if quantity.high]
    measured = [
        column for column in measured if column not in (*GROUP, "score", "valid_score", "rtf")
    ]
    return list(dict.fromkeys(["achieved_ratio", *measured, "speedup_low", "speedup_high"]))


def _chosen_on(rows: pd.DataFrame) -> str:
    """Return the split that chooses among a task's rows: `valid`, or `test` if one lacks that."""
    whole = rows[(rows["status"] == "ok") & rows["score"].notna()]
    return "valid" if whole["valid_score"].notna().all() else "test"


def _on_front(summary: pd.DataFrame, column: str, score: str) -> np.ndarray:
    """Return whether each complete row is non-dominated in (cost `column`, `score`) in its task.

    Controls say what pretraining and choosing are worth; they are no candidates. An algorithm's
    latency is exact, and spans decades: there no difference is too small.
    """
    resolution = 0.0 if column == "latency" else RESOLUTION
    front = pd.Series(False, index=summary.index)
    whole = (summary["status"] == "ok") & summary[column].notna() & summary[score].notna()
    whole &= summary["kind"] != roles.CONTROL
    for _, rows in summary[whole].groupby("task"):
        better = ("lower", rows["better"].iloc[0])
        slack = (resolution * rows[column].max(), 0.0)
        points = rows[[column, score]].to_numpy(dtype=float)
        front[rows.index] = non_dominated(points, better, slack)
    return front.to_numpy()
