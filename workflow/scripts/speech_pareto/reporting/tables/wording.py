"""Metrics, statuses and holes in words, as figures, fronts, leaderboard and page print them."""

import pandas as pd

from speech_pareto.reporting.tables import roles
from speech_pareto.reporting.tables.results_table import PENDING
from speech_pareto.runtime import result
from speech_pareto.runtime.formatting import percent, shortest, two_decimals

AS_GOOD = "†"  # marks a student that shows no significant increase in errors
AS_GOOD_TEXT = "no significant increase in errors over the teacher"
CHOSEN_ON = {
    "valid": "chosen on validation, reported on test",
    "test": "chosen and reported on test, as validation has no score",
}
UNSURE_TEXT = "on the front by validation, which chooses, and not by test"
SPREAD_TEXT = "95th percentile over utterances, which leave early; the cost is their mean"
TEST = "paired tests, α = 0.05 after Holm's correction"

METRIC_NAMES = {
    "per": ("PER", "phone error rate"),
    "cer": ("CER", "character error rate"),
    "wer": ("WER", "word error rate"),
    "accuracy": ("accuracy", "accuracy"),
    "macro_f1": ("macro-F1", "macro-averaged F1"),
    "slot_type_f1": ("slot F1", "slot-type F1"),
    "slot_value_cer": ("slot CER", "slot-value character error rate"),
    "eer": ("EER", "equal error rate"),
    "der": ("DER", "diarisation error rate"),
}


def metric_name(metric: str) -> tuple[str, str]:
    """Return a metric's short and long name: ("PER", "phone error rate")."""
    return METRIC_NAMES.get(metric, (metric, metric.replace("_", " ")))


def less(ratio: float, target=None) -> str:
    """Return what a student lacks: "−40 %" of the parameters, or "−40 % of MACs".

    `target` is what the ratio stands for, such as "0.4 of MACs", if that is no share of parameters.
    """
    if not isinstance(target, str):
        return f"−{percent(ratio)}"
    share, _, cost = target.partition(" of ")
    return f"−{percent(float(share))} of {cost}"


def cost_of(target) -> str:
    """Return what a target is a share of: "MACs"; without a target, "parameters"."""
    return target.partition(" of ")[2] if isinstance(target, str) else "parameters"


def asked_text(summary: pd.DataFrame) -> str | None:
    """Return what students save shares of: "MACs or of bytes"; None if of parameters alone."""
    costs = sorted({cost_of(target) for target in summary["target"].dropna()})
    return " or of ".join(costs) or None


def status_text(row) -> str:
    """Return `ok`, or what stood in the way: "infeasible: heads hold too little ..."."""
    status = row["status"]
    if status == "ok":
        return status
    status = f"{status.replace('_', ' ')}: {row['reason']}"
    reachable = two_decimals(row["reachable"])
    if pd.notna(row["reachable"]) and reachable not in row["reason"]:
        status += f" (reaches {reachable})"
    return status


def completeness(table: pd.DataFrame) -> str:
    """Return how much of the grid is there: "46 of 48 cells done, 2 infeasible"."""
    counts = table["status"].value_counts()
    parts = [f"{counts.get('ok', 0)} of {len(table)} cells done"]
    parts += [
        f"{counts[s]} {s.replace('_', ' ')}"
        for s in (*result.STATUSES[1:], result.DAMAGED, PENDING)
        if s in counts
    ]
    return ", ".join(parts)


def at(ratio: float, target=None) -> str:
    """Return a ratio with what it stands for, if that is no share of parameters."""
    return shortest(ratio) + (f" ({target})" if isinstance(target, str) else "")


def holes_text(summary: pd.DataFrame) -> list[str]:
    """Return a line per recipe that has holes: "head-pruning: infeasible at 0.5, 0.75 (...)"."""
    lines = []
    teachers = summary.loc[summary["role"] != roles.TEACHER, "teacher"].nunique()
    holes = summary[summary["status"] != "ok"]
    for (teacher, recipe, status), rows in holes.groupby(["teacher", "recipe", "status"]):
        ratios = ", ".join(
            at(row.ratio, row.target) + (f" ({row.n} of {row.seeds} seeds done)" if row.n else "")
            for row in rows.itertuples()
        )
        name = recipe if teachers < 2 else f"{recipe} of {teacher}"
        line = f"{name}: {status.replace('_', ' ')} at {ratios}"
        if rows["reachable"].notna().any():
            line += f"; reaches {two_decimals(rows['reachable'].max())}"
        lines.append(line)
    return lines


def heading(metric: str, better: str) -> str:
    """Return a metric with unit and direction: "phone error rate in %, lower is better"."""
    return f"{metric_name(metric)[1]} in %, {better} is better"


def take(audio_seconds: pd.Series) -> str | None:
    """Return the recording that was timed, "10 s take"; None where nothing was."""
    known = audio_seconds.dropna()
    return f"{shortest(known.iloc[0])} s take" if len(known) else None


def speech_on(row) -> str:
    """Return what was timed and where: "10 s of speech on 1 CPU thread"."""
    threads = "thread" if row["threads"] == 1 else "threads"
    seconds, device = shortest(row["audio_seconds"]), str(row["device"]).upper()
    return f"{seconds} s of speech on {row['threads']} {device} {threads}"
