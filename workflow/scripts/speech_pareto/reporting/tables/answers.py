"""What models answered on the test split: the rows of their utterances, and the symbols in them."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from speech_pareto.reporting.tables.results_table import GROUP

Row = dict[str, str]  # see `tasks.hypotheses`


def of_test(file) -> list[Row]:
    """Return the rows of the test split in a TSV of utterances, none of one of trials."""
    with Path(file).open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="\t")
        if "hypothesis" not in (rows.fieldnames or ()):
            return []
        return [row for row in rows if row["split"] == "test"]


class Answered(NamedTuple):
    """A table of cells, its summary over seeds, and by `metrics_file` the TSV of utterances."""

    cells: pd.DataFrame
    summary: pd.DataFrame
    hypotheses: Mapping[str, str]

    def by(self, points: Iterable[Any]) -> Iterator[tuple[Any, float, list[Row]]]:
        """Yield (point, score, rows) for some rows of the summary: of each, of its first seed."""
        for point in points:
            key = [getattr(point, name) for name in GROUP]
            own = self.cells[(self.cells[GROUP] == key).all(axis=1)]
            cell = own.sort_values("seed").iloc[0]
            yield point, float(cell["score"]), of_test(self.hypotheses[cell["metrics_file"]])


def symbols(reference: str, hypothesis: str, length: int) -> tuple[list[str], list[str], str]:
    """Return the symbols of a reference and of a hypothesis, and what stands between two.

    What a symbol is follows from `length`, that of the reference: a word or phone, a character, or
    all of it.
    """
    if length == len(reference.split()):
        return reference.split(), hypothesis.split(), " "
    if length == len(reference):
        return list(reference), list(hypothesis), ""
    return [reference], [hypothesis], ""
