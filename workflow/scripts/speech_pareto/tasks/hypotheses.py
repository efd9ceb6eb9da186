"""The table of a test split: reference, hypothesis and errors of each utterance."""

import csv
from pathlib import Path

COLUMNS = (
    "id",
    "corpus",
    "reference",
    "hypothesis",
    "deletions",
    "insertions",
    "substitutions",
    "length",
)


def write_table(path: str | Path, rows: list[dict]) -> None:
    """Write a row per utterance as tab-separated values."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
