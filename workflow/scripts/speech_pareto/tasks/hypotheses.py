"""The table of what a model recognised: reference, hypothesis and errors of each utterance."""

import csv
from pathlib import Path

ERRORS = ("deletions", "insertions", "substitutions")
COLUMNS = ("id", "corpus", "split", "reference", "hypothesis", *ERRORS, "length")
WORDS = ("word_errors", "words")  # of tasks that are scored by words too
FURTHER = (*WORDS, "with_lm")  # and of those with a language model, what a beam search found


def write_table(path: str | Path, rows: list[dict]) -> None:
    """Write a row per utterance as tab-separated values, with those of `FURTHER` that they have."""
    columns = COLUMNS + tuple(column for column in FURTHER if rows and column in rows[0])
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
