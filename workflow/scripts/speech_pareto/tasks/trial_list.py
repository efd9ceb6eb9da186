"""A list of trials as VoxCeleb writes it: `1 one/a.wav one/b.wav`, a line for each pair.

The first field is 1 (`target`) for one speaker, 0 (`nontarget`) for two. Planning reads this, so it
imports no numpy.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from speech_pareto.runtime.problems import Problems

LABELS = {"1": True, "target": True, "0": False, "nontarget": False}


class Line(NamedTuple):
    """A trial: its line in the list, whether both are one speaker, the names of the utterances."""

    number: int
    target: bool
    first: str
    second: str


def read(path: str | Path) -> list[Line]:
    """Return the trials of a list; empty lines do not count.

    FileNotFoundError if it is not there; ValueError that names lines of another form, the first of
    each kind, or says that either sort of trial is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file '{path}'.")
    lines, problems = [], Problems()
    try:
        texts = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: it is no UTF-8 text ({error}).") from None
    for number, text in enumerate(texts, start=1):
        fields = text.split()
        if not fields:
            continue
        if len(fields) != 3:
            said = f"line {number}: three fields expected, label and two names, not {len(fields)}"
            problems.add("lines of another form", said)
        elif fields[0].lower() not in LABELS:
            said = f"line {number}: the label {fields[0]!r} must be one of {', '.join(LABELS)}"
            problems.add("unknown labels", said)
        else:
            lines.append(Line(number, LABELS[fields[0].lower()], *fields[1:]))
    if problems:
        raise ValueError(f"{path}:\n{problems}")
    need_both([line.target for line in lines], f"the list {path}")
    return lines


def need_both(targets, where: str) -> None:
    """Raise ValueError unless there are pairs of one speaker and pairs of two among `targets`."""
    there = set(map(bool, targets))
    for sort, said in ((True, "target trial: no pair of one speaker"), (False, "non-target trial")):
        if sort not in there:
            more = "" if sort else ": no pair of two speakers"
            raise ValueError(f"{where} has no {said}{more}, so it has no equal error rate.")
