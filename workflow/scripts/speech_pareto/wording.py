"""Numbers, metrics and holes in words, as figures, fronts and leaderboard print them."""

import pandas as pd

from speech_pareto import result
from speech_pareto.table import PENDING, TEACHER

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


def short_count(value: float) -> str:
    """Return a count with three digits: 4.01 M, 310 M, 1.20 G, 20.0 T."""
    if pd.isna(value):
        return "–"
    units = ((1e18, " E"), (1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))
    for size, unit in units:
        if abs(value) >= 0.9995 * size:
            return three_digits(value / size) + unit
    return f"{value:.0f}"


def short_seconds(value: float) -> str:
    """Return a duration with three digits: 92.0 ms, 1.20 s."""
    if pd.isna(value):
        return "–"
    return f"{three_digits(value)} s" if value >= 1 else f"{three_digits(value * 1e3)} ms"


def short_bytes(value: float) -> str:
    """Return a number of bytes with three digits: 6.00 MB."""
    if pd.isna(value):
        return "–"
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= 0.9995 * size:
            return f"{three_digits(value / size)} {unit}"
    return f"{value:.0f} B"


def three_digits(value: float) -> str:
    """Return `value` with three significant digits, never in powers of ten."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


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


def aligned(cells: list[list[str]], width: int) -> list[str]:
    """Return a header and rows of text as `columns`, with a line below the header."""
    lines = columns(cells, width)
    lines.insert(1, "  " + "─" * (max(map(len, lines)) - 2))
    return lines


def columns(cells: list[list[str]], width: int) -> list[str]:
    """Return rows of text in aligned columns: the first and last to the left, others right."""
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sizes[0] = max(10, min(sizes[0], width - sum(sizes[1:]) - 2 * len(sizes)))
    lines = []
    for row in cells:
        first = row[0] if len(row[0]) <= sizes[0] else row[0][: sizes[0] - 1] + "…"
        middle = [cell.rjust(size) for cell, size in zip(row[1:-1], sizes[1:-1], strict=True)]
        lines.append("  ".join(["", first.ljust(sizes[0]), *middle, row[-1]]).rstrip())
    return lines


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.0f} %"


def filled(notes: list[str], width: int) -> list[str]:
    """Return the notes in lines of at most `width` letters, none broken."""
    lines = [""]
    for note in notes:
        joined = f"{lines[-1]}  ·  {note}" if lines[-1] else note
        if len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(note)
    return lines


def trimmed(text: str) -> str:
    """Return a number without idle zeros: 1.00 M becomes 1 M."""
    number, _, unit = text.partition(" ")
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} {unit}".strip()
