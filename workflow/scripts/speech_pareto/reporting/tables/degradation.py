"""What conditions cost: students in noise, rooms and codecs, beside their teacher there.

A point loses what its errors rise by from its recordings as they are to a condition. What it loses
`beyond` its teacher is what compression costs there on top of what it costs anyway.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from speech_pareto.data.condition import WORST
from speech_pareto.reporting.tables import comparisons, results_table
from speech_pareto.reporting.tables.pareto import SIGNS
from speech_pareto.reporting.tables.points import named
from speech_pareto.reporting.tables.results_table import GROUP, KEY, summarise
from speech_pareto.reporting.tables.roles import TEACHER
from speech_pareto.reporting.tables.significance import ALPHA, holm, interval, matched_pairs
from speech_pareto.reporting.tables.systems import (
    ErrorSystems,
    Systems,
    by_bootstrap,
    key_of,
    systems_of,
)
from speech_pareto.reporting.tables.wording import at, metric_name
from speech_pareto.runtime.formatting import one_decimal, with_interval

NAMED = [*GROUP, "condition"]
ABOUT = ["target", "role", "pretrained", "metric", "better", "status", "reason", "n", "seeds"]
SCORES = ["score", "score_std", "valid_score", "clean_score"]
LOST = ["lost", "lost_low", "lost_high"]
BEYOND = ["beyond", "beyond_low", "beyond_high"]
TESTED = ["teacher_lost", *BEYOND, "z", "p", "p_corrected", "significant"]
COLUMNS = [*NAMED, *ABOUT, *SCORES, *LOST, *TESTED, "worst"]
TEXTS = ["task", "teacher", "recipe", "condition", *ABOUT[:2], *ABOUT[3:7]]
FROM_CLEAN = ["paired_seconds", "paired_seconds_p95"]  # medians over all tasks

SAYS = (
    "Scores as recordings are, then in each condition; in brackets the points that a student loses "
    "there beyond what its teacher loses, with the 95 % interval of a bootstrap over utterances. "
    "Bold: surely more (matched pairs, α = 0.05 after Holm's correction over all of a task).\n"
)


def cells_in(
    cells: pd.DataFrame, results: Mapping[str, dict], profiles: Mapping[str, dict]
) -> pd.DataFrame:
    """Return the table of `aggregate` as it is in conditions, a row per cell and `condition`.

    `cells` is that table, `results` and `profiles` are what `evaluate_condition` and `profile`
    wrote. The rows of `WORST` are those of the condition in which a student's score is worst: on
    validation, or on test where that chooses. It is one of those in which all its seeds are done.
    """
    by_name: dict[str, dict[str, dict]] = {}
    for file, value in results.items():
        by_name.setdefault(Path(file).stem, {})[file] = value
    found = []
    for name, own in by_name.items():
        table = results_table.build(own, dict(profiles))
        known = table[KEY].merge(cells[[*KEY, *FROM_CLEAN]], how="left", on=KEY)
        found.append(table.assign(condition=name, **{x: known[x].to_numpy() for x in FROM_CLEAN}))
    table = pd.concat(found, ignore_index=True)
    return pd.concat([table, _worst(table)], ignore_index=True)


def _worst(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each student in the condition that it does worst in."""
    summary = pd.concat(
        summarise(rows).assign(condition=name) for name, rows in table.groupby("condition")
    )
    errors = summary["choice_score"] * summary["better"].map(SIGNS).astype(float)
    order = summary.assign(errors=errors.where(summary["status"] == "ok", -np.inf))
    order = order.sort_values(["errors", "condition"], ascending=[False, True], kind="stable")
    chosen = order.drop_duplicates(GROUP)[[*GROUP, "condition"]]
    return table.merge(chosen, on=[*GROUP, "condition"]).assign(condition=WORST)


def compared(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, tuple]]:
    """Yield name, cells, and what `comparisons.build` makes of them, of each condition."""
    for name, rows in table.groupby("condition", sort=True):
        cells = rows.drop(columns="condition").reset_index(drop=True)
        files = {file: str(Path(file).with_suffix(".tsv")) for file in cells["metrics_file"]}
        yield str(name), cells, comparisons.build(cells, files)


def build(cells: pd.DataFrame, hypotheses: Mapping[str, str], table: pd.DataFrame) -> pd.DataFrame:
    """Return what each condition costs, a row per point and condition, teachers included.

    `cells` is the table of `aggregate`, `hypotheses` maps its `metrics_file` to the TSV of
    utterances, `table` is that of `cells_in`. Points lost are errors in percent, whatever the
    metric. `beyond`: those that a student loses more than its teacher, with the 95 % interval of a
    bootstrap over utterances, and a test of whether it is none: matched pairs of what each loses in
    an utterance; Holm's correction is over all students and conditions of a task. `worst` marks the
    condition in which a student's score is worst.
    """
    worst = table[table["condition"] == WORST]
    chosen = set(worst["metrics_file"])
    found = []
    for task, own in table[table["condition"] != WORST].groupby("task", sort=True):
        clean = cells[cells["task"] == task]
        before = summarise(clean)
        quiet = systems_of(clean, before, dict(hypotheses), "test")
        rows: list[dict] = []
        for name, inside in own.groupby("condition", sort=True):
            inside = inside.drop(columns="condition").reset_index(drop=True)
            files = {file: str(Path(file).with_suffix(".tsv")) for file in inside["metrics_file"]}
            points = summarise(inside)
            heard = systems_of(inside, points, files, "test")
            first = inside.drop_duplicates(GROUP).set_index(GROUP)["metrics_file"]
            for row in _points(points, before, heard, quiet):
                row |= {"condition": name}
                row["worst"] = first[tuple(row[x] for x in GROUP)] in chosen
                rows.append(row)
        tested = [row for row in rows if "p" in row]
        for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
            row |= {"p_corrected": float(p), "significant": bool(p < ALPHA and row["z"] > 0)}
        found += rows
    types: dict[str, Any] = dict.fromkeys(TEXTS, "string") | {"n": "Int64", "seeds": "Int64"}
    types |= dict.fromkeys(["pretrained", "significant", "worst"], "boolean")
    frame = pd.DataFrame(found, columns=COLUMNS)
    return frame.astype({column: types.get(column, "float64") for column in COLUMNS})


def _points(
    points: pd.DataFrame, before: pd.DataFrame, heard: Systems, quiet: Systems
) -> Iterator[dict]:
    """Yield a row per point of a task in a condition; `heard` there, `quiet` without it."""
    scores = {key_of(row): row.score for row in before.itertuples()}
    own = points[points["role"] == TEACHER].drop_duplicates("teacher")
    teachers = {row.teacher: key_of(row) for row in own.itertuples()}
    both = set(heard.rates) & set(quiet.rates)
    for point in points.itertuples():
        key, teacher = key_of(point), teachers.get(point.teacher)
        row = {name: getattr(point, name) for name in (*GROUP, *ABOUT, *SCORES[:3])}
        row["clean_score"] = scores.get(key)
        if key in both:
            row |= _named(LOST, heard.rate(key) - quiet.rate(key), _drawn(heard, quiet, key))
            if teacher in both:
                row["teacher_lost"] = heard.rate(teacher) - quiet.rate(teacher)
                if key != teacher:
                    row |= beyond(heard, quiet, key, teacher)
        yield row


def _drawn(heard: Systems, quiet: Systems, key: tuple) -> np.ndarray:
    """Return the resampled points that a student loses; both have the same draws."""
    return heard.rates[key] - quiet.rates[key]


def _named(names: Sequence[str], value: float, drawn: np.ndarray) -> dict:
    """Return a number and the bounds of its 95 % interval, by name."""
    return dict(zip(names, (x + 0.0 for x in (value, *interval(drawn))), strict=True))  # no -0.0


def beyond(heard: Systems, quiet: Systems, student: tuple, teacher: tuple) -> dict:
    """Return the points that a student loses beyond its teacher, and how sure that is."""
    lost, taught = (heard.rate(x) - quiet.rate(x) for x in (student, teacher))
    drawn = _drawn(heard, quiet, student) - _drawn(heard, quiet, teacher)
    if isinstance(heard, ErrorSystems) and isinstance(quiet, ErrorSystems):
        more = [heard.errors[x] - quiet.errors[x] for x in (student, teacher)]
        z, p = matched_pairs(*more)
    else:
        z, p = by_bootstrap(lost - taught, drawn)
    return _named(BEYOND, lost - taught, drawn) | {"z": z, "p": p}


def shown(table: pd.DataFrame) -> dict[str, list[list[tuple[str, bool]]]]:
    """Return by task a header and rows of (text, whether it stands out)."""
    found = {}
    for task, rows in table.groupby("task", sort=True):
        names = condition_order(rows)
        score = metric_name(next(iter(rows["metric"].dropna()), "score"))[0]
        header = [(text, False) for text in ("recipe", score, *names)]
        several = rows.loc[rows["role"] != TEACHER, "teacher"].nunique() > 1
        groups = [own for _, own in rows.groupby(GROUP, sort=False)]
        groups.sort(key=lambda own: (own["role"].iloc[0] != TEACHER, own["ratio"].iloc[0]))
        found[str(task)] = [header, *(_line(own, names, several) for own in groups)]
    return found


def condition_order(rows: pd.DataFrame) -> list[str]:
    """Return the conditions of a task by what they cost teachers, then by name."""
    costs = rows[rows["role"] == TEACHER].groupby("condition")["lost"].mean()
    return sorted(rows["condition"].unique(), key=lambda name: (costs.get(name, np.inf), name))


def _line(own: pd.DataFrame, names: list[str], several: bool) -> list[tuple[str, bool]]:
    """Return the texts of one point: its score as it is, then in each condition."""
    first, by_name = own.iloc[0], own.set_index("condition")
    name = named(first, several)
    if first["role"] != TEACHER:
        name += f" {at(first['ratio'], first['target'])}"
    cells = [(name, False), (one_decimal(first["clean_score"]), False)]
    for condition in names:
        row = by_name.loc[condition] if condition in by_name.index else None
        if row is None or row["status"] != "ok":
            cells.append(("–" if row is None else str(row["status"]), False))
            continue
        text = one_decimal(row["score"])
        if pd.notna(row["beyond"]):
            text += f" ({with_interval(*(row[x] for x in BEYOND))})"
        cells.append((text, pd.notna(row["significant"]) and bool(row["significant"])))
    return cells


def markdown(table: pd.DataFrame) -> str:
    """Return the table for readers in Markdown; sure losses beyond the teacher's are bold."""
    parts = [SAYS]
    for task, (header, *rows) in shown(table).items():
        lines = [[f"**{text}**" if bold else text for text, bold in row] for row in (header, *rows)]
        lines.insert(1, ["---"] * len(header))
        parts.append(f"## {task}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines))
    return "\n".join(parts)
