"""What `analyse` and probes measured inside all students, as one long table: a row per number."""

from typing import Any

import pandas as pd

STUDENT = ["teacher", "recipe", "ratio", "seed", "scope"]
ABOUT = ["role", "pretrained", "target"]
COLUMNS = [*STUDENT, *ABOUT, "model", "quantity", "layer", "other", "value"]
WEIGHTS = ("rows", "attention", "ffn", "zeros")
DIAGONALITY = "row_normalised"  # the definition that is drawn, see `diagonality.py`
CKA = "cka"
LAYER_WEIGHT = "layer_weight"  # of a probe; its `scope` is the task


def build(results: dict[str, dict], metrics: dict[str, dict]) -> pd.DataFrame:
    """Return the table of what `analyse` and `evaluate` wrote, checked results by file.

    Students that failed have no rows. `model` is `teacher` or `student`; `layer` counts from 1 (for
    `cka` and `layer_weight` from 0, the input of layer 1); `other` is a head, or the teacher's
    layer for `cka`.
    """
    rows = []
    for value in results.values():
        key = [value["run"].get(name) for name in [*STUDENT, *ABOUT]]
        rows += [[*key, *row] for row in _rows(value.get("analysis"))]
    for value in metrics.values():
        names = [*STUDENT[:-1], "task", *ABOUT]
        key = [value["run"].get(name) for name in names]
        for layer, share in enumerate(value.get("layer_weights", ())):
            rows.append([*key, "student", LAYER_WEIGHT, layer, None, share])
    types: dict[str, Any] = {"pretrained": "boolean"}
    types |= {"ratio": float, "seed": "Int64", "layer": "Int64", "other": "Int64", "value": float}
    table = pd.DataFrame(rows, columns=COLUMNS).astype(
        {column: types.get(column, "string") for column in COLUMNS}
    )
    return table.sort_values(COLUMNS[:-1], kind="stable", ignore_index=True)


def _rows(found: dict | None):
    """Yield (model, quantity, layer, other, value) of one student."""
    if not found:
        return
    for model, layers in found["layers"].items():
        for layer, shape in enumerate(layers, start=1):
            yield model, "heads", layer, None, len(shape["heads"])
            for name in WEIGHTS:
                yield model, name, layer, None, shape[name]
        for definition, values in found["diagonality"][model].items():
            for layer, (shape, heads) in enumerate(zip(layers, values, strict=True), start=1):
                for head, value in zip(shape["heads"], heads, strict=True):
                    yield model, f"diagonality:{definition}", layer, head, value
    for ours, line in enumerate(found[CKA]):
        for theirs, value in enumerate(line):
            yield "student", CKA, ours, theirs, value


def students_of(table: pd.DataFrame, cells: pd.DataFrame, task: str) -> pd.DataFrame:
    """Return the rows of a task's students, the first seed of each."""
    wanted = cells.loc[cells["task"] == task, STUDENT].drop_duplicates()
    rows = table[table["quantity"] != LAYER_WEIGHT]
    return _first_seeds(rows.merge(wanted.astype(dict(table[STUDENT].dtypes)), on=STUDENT))


def probes_of(table: pd.DataFrame, task: str) -> pd.DataFrame:
    """Return the layer weights of a task's probes, the first seed of each student."""
    return _first_seeds(table[(table["quantity"] == LAYER_WEIGHT) & (table["scope"] == task)])


def _first_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each student's first seed."""
    first = rows.groupby(["teacher", "recipe", "ratio"])["seed"].transform("min")
    return rows[rows["seed"] == first]
