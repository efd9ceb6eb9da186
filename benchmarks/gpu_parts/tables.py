"""What the GPU kit found, as Markdown for docs/performance.md."""

from collections.abc import Callable, Mapping

GIB = 2**30
HEADS = {
    "correctness": (
        "method",
        "heads, ranks",
        "same rows",
        "same zeros",
        "losses apart",
        "same words",
    )
    + ("same bytes again", "after a kill", "bf16 losses apart"),
    "training": ("model", "method", "batch", "steps/s", "audio s/s", "MFU", "GiB", "GPU idle")
    + ("waits", "bare / ours"),
    "inference": ("student", "precision", "rival", "batch", "audio s", "ms", "speed-up")
    + ("MACs ratio", "efficiency"),
    "workflow": ("study", "statuses"),
    "rehearsal": ("model", "training", "batch", "GiB", "foretold / taken", "s")
    + ("foretold / taken",),
    "sharing": ("job", "largest difference"),
}
TITLES = {
    "correctness": "CPU and GPU, again, and after a kill",
    "training": "Training",
    "inference": "Inference: does time follow MACs?",
    "workflow": "A study through `profiles/workstation`",
    "rehearsal": "Does a rehearsal foretell memory and time?",
    "sharing": "Two processes on one GPU",
}


def page(about: Mapping, rows: Mapping[str, Mapping[str, Mapping]]) -> str:
    """Return all tables; `rows` are results by part and by name."""
    lines = [summary(about), ""]
    for part, found in rows.items():
        head = (*HEADS[part], "status")
        lines += [f"## {TITLES[part]}", "", _line(head), "|" + "---|" * len(head)]
        for name, row in found.items():
            cells = CELLS[part](name, row) if row["status"] in ("ok", "differs") else [[name]]
            for line in cells:
                gap = [""] * (len(head) - 1 - len(line))
                lines.append(_line([*line, *gap, status_of(row)]))
        lines.append("")
    return "\n".join(lines)


def summary(about: Mapping) -> str:
    """Return on what machine it was measured, in one line."""
    parts = [about["device"], f"driver {about['driver']}" if about.get("driver") else None]
    parts += [f"torch {about['torch']}", f"transformers {about['transformers']}"]
    parts += [f"Python {about['python']}", about["cpu"], f"commit {about['commit']}"]
    return ", ".join(part for part in parts if part)


def _line(cells) -> str:
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def status_of(row: Mapping) -> str:
    """Return a status with its reason or note."""
    reason = row.get("reason") or row.get("note")
    return f"{row['status']}: {reason}" if reason else row["status"]


def _say(value, form: str = "{:.3g}", scale: float = 1.0) -> str:
    """Return a number as a cell; a dash for what was not measured."""
    return "–" if value is None else form.format(scale * value)


def _yes(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "–"}[value]


def _correctness(name: str, row: Mapping) -> list[list[str]]:
    percent = "{:.3f} %"
    same = "same" if row["choices"] else "differ"
    words = _say(row["hypotheses"], "{:.0f} %", 100)
    far = [_say(row[key], "{:.2g} %", 100) for key in ("losses", "bf16")]
    rows, zeros = (_say(row[key], percent, 100) for key in ("rows", "zeros"))
    again = _yes(row["repeated"]), _yes(row["resumed"])
    return [[name, same, rows, zeros, far[0], words, *again, far[1]]]


def _training(name: str, row: Mapping) -> list[list[str]]:
    numbers = [_say(row["steps_per_second"]), _say(row["audio_per_second"], "{:.0f}")]
    numbers += [_say(row["mfu"], "{:.0f} %", 100), _say(row["bytes"], "{:.1f}", 1 / GIB)]
    numbers += [_say(row["idle"], "{:.0f} %", 100), _say(row["waits"], "{:.0f}")]
    numbers += [_say(row["bare"], "{:.2f}")]
    return [[*name.split(", "), *numbers]]


def _inference(name: str, row: Mapping) -> list[list[str]]:
    lines = []
    for one in row["conditions"]:
        cells = [*name.split(", "), one["batch"], f"{one['audio_seconds']:g}"]
        if "reason" in one:
            lines.append([*cells, one["reason"]])
            continue
        spread = f"{one['speedup']:.2f} ({one['speedup_low']:.2f}–{one['speedup_high']:.2f})"
        cells += [_say(one["seconds"], "{:.1f}", 1000), spread]
        lines.append([*cells, _say(one["macs_ratio"]), _say(one["efficiency"], "{:.2f}")])
    return lines


def _workflow(name: str, row: Mapping) -> list[list[str]]:
    return [[name, ", ".join(row.get("statuses", []))]]


def _rehearsal(name: str, row: Mapping) -> list[list[str]]:
    numbers = [_say(row["bytes"], "{:.2f}", 1 / GIB), _say(row["memory"], "{:.2f}")]
    numbers += [_say(row["took"], "{:.0f}"), _say(row["time"], "{:.2f}")]
    return [[*name.split(", "), *numbers]]


def _sharing(name: str, row: Mapping) -> list[list[str]]:
    return [[name, f"{row['apart']:.1e}"]]


CELLS: Mapping[str, Callable[[str, Mapping], list[list[str]]]] = {
    "correctness": _correctness,
    "training": _training,
    "inference": _inference,
    "workflow": _workflow,
    "rehearsal": _rehearsal,
    "sharing": _sharing,
}
