"""The table of what a model recognised: reference, hypothesis and errors of each utterance.

A task that compares pairs of utterances has a row for each pair instead, with its score.
"""

import csv
from pathlib import Path

ERRORS = ("deletions", "insertions", "substitutions")
COLUMNS = ("id", "corpus", "split", "reference", "hypothesis", *ERRORS, "length")
WORDS = ("word_errors", "words")  # of tasks that are scored by words too
FURTHER = (*WORDS, "with_lm")  # and of those with a language model, what a beam search found
# of tasks that compare pairs: both utterances, 1 if they are of one speaker, the score
TRIALS = ("id", "corpus", "split", "other", "other_corpus", "reference", "score")


def write_table(path: str | Path, rows: list[dict]) -> None:
    """Write a row per utterance, or per pair, as tab-separated values.

    There are those columns of `FURTHER` that the rows have.
    """
    columns: tuple[str, ...] = COLUMNS + tuple(x for x in FURTHER if rows and x in rows[0])
    if rows and TRIALS[-1] in rows[0]:
        columns = TRIALS
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
