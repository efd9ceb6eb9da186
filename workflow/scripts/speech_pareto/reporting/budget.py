"""A budget in words, and the best students within it.

The page does the same in page/assets/budget.js; a test runs both on the same budgets.
"""

import difflib
import itertools
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from speech_pareto.reporting.tables.pareto import SIGNS
from speech_pareto.reporting.tables.significance import ALPHA, holm
from speech_pareto.runtime.formatting import aligned, shortest
from speech_pareto.study.quantities import QUANTITIES

OPERATORS = {"<=": "<=", "=<": "<=", "≤": "<=", "at most": "<=", "up to": "<=", "<": "<"}
OPERATORS |= {">=": ">=", "=>": ">=", "≥": ">=", "at least": ">=", ">": ">"}
OPERATORS |= {"under": "<", "below": "<", "over": ">", "above": ">"}

EXAMPLE = "<= 3 M parameters, <= 0.05 RTF"
TIE = f"matched pairs, α = {shortest(ALPHA)} after Holm's correction over the budget"
_SIGN = "|".join(sorted(map(re.escape, OPERATORS), key=len, reverse=True))
_LIMIT = re.compile(rf"(.*?)\s*({_SIGN})\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*(.*)", re.I)


def grammar() -> dict:
    """Return what the page needs to read a budget as this module does."""
    return {
        "names": {name: one.names for name, one in QUANTITIES.items()},
        "units": {name: dict(one.dimension.units) for name, one in QUANTITIES.items()},
        "unnamed": _unnamed(),
        "operators": OPERATORS,
        "alpha": ALPHA,
        "example": EXAMPLE,
    }


def _unnamed() -> dict[str, str]:
    """Return unit -> the quantity that it limits where no name stands beside it."""
    alone = [(name, one) for name, one in QUANTITIES.items() if one.dimension.alone]
    return {unit: name for name, one in reversed(alone) for unit in one.dimension.units}


@dataclass(frozen=True)
class Limit:
    """One condition of a budget: a column, `<=`, `<`, `>=` or `>`, and a number in base units."""

    column: str
    operator: str
    value: float

    def holds(self, value: float | None) -> bool:
        """Return whether a point's value is within the limit; what is not known is not."""
        if value is None:
            return False
        if self.operator[0] == "<":
            return value <= self.value if self.operator == "<=" else value < self.value
        return value >= self.value if self.operator == ">=" else value > self.value


def parse(text: str) -> list[Limit]:
    """Return the limits of a budget: "<= 3 M parameters"; a mistake is a ValueError."""
    clauses = [clause.strip() for clause in re.split(r"[,;\n]|\band\b", text, flags=re.I)]
    return [_limit(clause) for clause in clauses if clause]


def _limit(clause: str) -> Limit:
    """Return the limit that a clause of a budget states."""
    found = _LIMIT.fullmatch(clause)
    if not found:
        raise ValueError(f"“{clause}” is no limit; write it as in “{EXAMPLE}”")
    before, sign, number, after = (part.strip() for part in found.groups())
    unit, name = _unit_and_name(after)
    if before and name:
        raise ValueError(f"“{clause}” names two things, {before} and {name}")
    named = before or name
    column = _column(named, clause) if named else _unnamed().get(unit, "")
    if not column:
        raise ValueError(f"“{clause}” does not say of what; write it as in “{EXAMPLE}”")
    units = QUANTITIES[column].dimension.units
    if unit not in units:
        known = ", ".join(u for u in units if u)
        what = f"cannot be in {unit}" if unit else "needs a unit"
        raise ValueError(f"“{clause}”: {QUANTITIES[column].names[0]} {what}, only in {known}")
    return Limit(column, OPERATORS[sign.lower()], float(number) * units[unit])


def _unit_and_name(words: str) -> tuple[str, str]:
    """Return the unit, if the first word is one, and the rest."""
    first, _, rest = words.partition(" ")
    known = any(first in one.dimension.units for one in QUANTITIES.values())
    return (first, rest.strip()) if known else ("", words)


def _column(name: str, clause: str) -> str:
    """Return the quantity that a name stands for."""
    spelt = {alias.lower(): alias for one in QUANTITIES.values() for alias in one.names}
    if name.lower() in spelt:
        alias = spelt[name.lower()]
        return next(column for column, one in QUANTITIES.items() if alias in one.names)
    # a unit that is misspelt, with a name after it
    first, _, rest = name.partition(" ")
    units = {u.lower(): u for one in QUANTITIES.values() for u in one.dimension.units if u}
    if rest.strip().lower() in spelt or first.lower() in units:
        near = units[_nearest(first, units)]
        raise ValueError(f"“{clause}”: unknown unit {first}; did you mean {near}?")
    near = spelt[_nearest(name, spelt)]
    raise ValueError(f"“{clause}”: unknown name {name}; did you mean {near}?")


def _nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word, in small letters, that is most like a misspelt one."""
    return difflib.get_close_matches(word.lower(), known, n=1, cutoff=0)[0]


def choose(study: dict, limits: Iterable[Limit], task: str) -> list[dict]:
    """Return a task's students within the limits that nothing there is shown to beat, best first.

    The first has the best score (of equal ones, the first by name); the others are those that a
    matched-pairs test, after Holm's correction over all within the limits, cannot tell from it.
    `study`: see `points.study`.  Points with a hole, teachers and controls are left out.
    """
    limits, better = list(limits), study["tasks"][task]["better"]
    inside = [p for p in study["points"] if p["task"] == task and p["kind"] == "student"]
    inside = [point for point in inside if whole(point) and within(point, limits)]
    if not inside:
        return []
    inside.sort(key=lambda point: (SIGNS[better] * point["values"]["score"], point["key"]))
    best, known = inside[0], _tests(study["pairs"].get(task))
    tested = [point for point in inside[1:] if (best["key"], point["key"]) in known]
    corrected = holm([known[best["key"], point["key"]] for point in tested])
    return [best, *(point for point, p in zip(tested, corrected, strict=True) if p >= ALPHA)]


def whole(point: dict) -> bool:
    """Return whether a point has a score and no seed is missing."""
    return point["status"] == "ok" and point["values"]["score"] is not None


def within(point: dict, limits: list[Limit]) -> bool:
    """Return whether a point is within all limits."""
    return all(limit.holds(point["values"][limit.column]) for limit in limits)


def _tests(pairs: dict | None) -> dict[tuple[str, str], float]:
    """Return (key, other key) in both orders -> p."""
    if not pairs:
        return {}
    found = dict(zip(itertools.combinations(pairs["keys"], 2), pairs["p"], strict=True))
    return found | {(other, one): p for (one, other), p in found.items()}


def text(study: dict, budget: str, task: str, width: int = 100) -> str:
    """Return the answer for a task as text of at most `width` columns."""
    limits, facts = parse(budget), study["tasks"][task]
    asked = budget.strip() or "no limits"
    lines = [*textwrap.wrap(f"{task}: {facts['heading']}; {asked}", width), ""]
    chosen = choose(study, limits, task)
    if chosen:
        named = len({p["teacher"] for p in study["points"] if p["kind"] == "student"}) > 1
        lines += aligned(_cells(chosen, facts, named), width)
        if len(chosen) > 1:
            lines += ["", *textwrap.wrap(f"  tie: not told from the best ({TIE})", width)]
    else:
        lines += [f"  No student is within this budget.{_nearest_miss(study, limits, task)}"]
    for point in study["points"]:
        if point["task"] == task and point["kind"] == "teacher" and whole(point):
            inside = "within" if within(point, limits) else "not within"
            score = f"{point['text']['score']} %"
            lines += ["", f"  The teacher ({point['teacher']}), {inside} this budget: {score}"]
    return "\n".join(lines) + "\n"


def _cells(chosen: list[dict], facts: dict, named: bool) -> list[list[str]]:
    """Return header and rows of an answer; `named`: with the teacher of each student."""
    columns = ["ratio", "parameters", "macs_per_second", "seconds", "rtf", "bytes"]
    labels = {name: QUANTITIES[name].label for name in columns}
    labels |= {"seconds": facts["take"] or labels["seconds"], "bytes": "bytes"}
    header = [*["teacher"] * named, "recipe", *labels.values()]
    rows = [[*header, f"{facts['short']} %", "against teacher", ""]]
    for i, point in enumerate(chosen):
        texts = [point["text"][column] for column in [*columns, "score", "difference"]]
        names = [*[point["teacher"]] * named, point["recipe"]]
        rows.append([*names, *texts, "tie" if i else "best"])
    return rows


def _nearest_miss(study: dict, limits: list[Limit], task: str) -> str:
    """Return the best that each limit's column reaches among the students."""
    found = []
    students = [p for p in study["points"] if p["task"] == task and p["kind"] == "student"]
    for column in dict.fromkeys(limit.column for limit in limits):
        sign = 1 if next(x for x in limits if x.column == column).operator[0] == "<" else -1
        known = [p for p in students if whole(p) and p["values"][column] is not None]
        if known:
            end = min(known, key=lambda p: sign * p["values"][column])
            found.append(f"{QUANTITIES[column].names[0]} {end['text'][column]}")
    return f" The farthest any goes: {', '.join(found)}." if found else ""
