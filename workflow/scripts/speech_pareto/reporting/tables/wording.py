"""Numbers, metrics and holes in words, as figures, fronts and leaderboard print them."""

import pandas as pd

from speech_pareto.reporting.tables.results_table import PENDING, TEACHER
from speech_pareto.runtime import result

AS_GOOD = "†"  # marks a student that shows no significant increase in errors
AS_GOOD_TEXT = "no significant increase in errors over the teacher"
TEST = "matched pairs, α = 0.05 after Holm's correction"

METRIC_NAMES = {
    "per": ("PER", "phone error rate"),
    "cer": ("CER", "character error rate"),
    "wer": ("WER", "word error rate"),
    "accuracy": ("accuracy", "accuracy"),
    "slot_type_f1": ("slot F1", "slot-type F1"),
    "slot_value_cer": ("slot CER", "slot-value character error rate"),
    "eer": ("EER", "equal error rate"),
    "der": ("DER", "diarisation error rate"),
}


def metric_name(metric: str) -> tuple[str, str]:
    """Return a metric's short and long name: ("PER", "phone error rate")."""
    return METRIC_NAMES.get(metric, (metric, metric.replace("_", " ")))


def short_score(row) -> str:
    """Return a score with its spread: 31.2, or 31.2 ± 0.4 where there are several seeds."""
    if pd.isna(row["score"]):
        return "–"
    spread = "" if pd.isna(row["score_std"]) else f" ± {row['score_std']:.1f}"
    return f"{row['score']:.1f}{spread}"


def short_difference(row) -> str:
    """Return the difference to the teacher with its interval: "+2.7 [+2.3, +3.2]"."""
    if pd.isna(row["difference"]):
        return "–"
    names = ("difference", "difference_low", "difference_high")
    middle, low, high = (f"{row[name]:+z.1f}".replace("-", "−") for name in names)
    return f"{middle} [{low}, {high}]"


def status_text(row) -> str:
    """Return `ok`, or what stood in the way: "infeasible: heads hold too little ..."."""
    status = row["status"]
    if status == "ok":
        return status
    status = f"{status.replace('_', ' ')}: {row['reason']}"
    if pd.notna(row["reachable"]) and f"{row['reachable']:.2f}" not in row["reason"]:
        status += f" (reaches {row['reachable']:.2f})"
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
