"""What a student gets wrong: its typical and its worst utterances of the test split, beside its
teacher's answers."""

import pandas as pd
from rapidfuzz.distance import Levenshtein

from speech_pareto.reporting.tables.answers import Row, of_test, symbols
from speech_pareto.reporting.tables.results_table import GROUP
from speech_pareto.reporting.tables.roles import TEACHER

TYPICAL, WORST = 2, 3  # utterances of either sort
SHORTEST = 5  # symbols: of fewer the error rate says little


def build(cells: pd.DataFrame, hypotheses: dict[str, str]) -> list[dict]:
    """Return the examples of each done point of the table of cells, as plain values.

    Each has the columns `GROUP`, the `seed` whose answers they are (the first), and `utterances`:
    the `sort` (`typical`: of the middle error rate; `worst`), id, corpus, reference, and the
    answers of `student` and `teacher` (None if its row is missing) as runs, see `marked`.
    `hypotheses` maps each `metrics_file` of the table to its TSV of utterances. Tasks that compare
    pairs have no examples: a score is nothing to read.
    """
    done = cells[cells["status"] == "ok"].drop_duplicates(GROUP)  # sorted: the first seed
    own = done[done["role"] == TEACHER].drop_duplicates(["task", "teacher"])
    of_teachers = {
        (cell.task, cell.teacher): {
            _name(row): row for row in of_test(hypotheses[cell.metrics_file])
        }
        for cell in own.itertuples()
    }
    found = []
    for cell in done.itertuples():
        rows = of_test(hypotheses[cell.metrics_file])
        if not rows:
            continue
        answers = of_teachers.get((cell.task, cell.teacher), {})
        point = {"task": cell.task, "teacher": cell.teacher, "recipe": cell.recipe}
        point |= {"ratio": float(cell.ratio), "seed": int(cell.seed)}
        utterances = [_example(sort, row, answers.get(_name(row))) for sort, row in chosen(rows)]
        found.append(point | {"utterances": utterances})
    return found


def _name(row: Row) -> tuple[str, str]:
    """Return what names an utterance."""
    return row["corpus"], row["id"]


def _rate(row: Row) -> float:
    """Return the errors of an utterance per symbol of its reference."""
    errors = sum(int(row[kind]) for kind in ("deletions", "insertions", "substitutions"))
    return errors / max(1, int(row["length"]))


def chosen(rows: list[Row]) -> list[tuple[str, Row]]:
    """Return (sort, row) of the examples; of equal rates the longest is worst."""
    rows = [row for row in rows if int(row["length"]) >= SHORTEST] or rows
    ranked = sorted(rows, key=lambda row: (_rate(row), int(row["length"]), *_name(row)))
    worst = ranked[-WORST:][::-1]
    middle = ranked[: len(ranked) - len(worst)]
    begin = max(0, min((len(ranked) - TYPICAL) // 2, len(middle) - TYPICAL))
    typical = middle[begin : begin + TYPICAL]
    return [("typical", row) for row in typical] + [("worst", row) for row in worst]


def _example(sort: str, row: Row, teachers: Row | None) -> dict:
    """Return one example."""
    reference, length = row["reference"], int(row["length"])
    return {
        "sort": sort,
        "id": row["id"],
        "corpus": row["corpus"],
        "reference": reference,
        "student": marked(reference, row["hypothesis"], length),
        "teacher": teachers and marked(reference, teachers["hypothesis"], length),
    }


def marked(reference: str, hypothesis: str, length: int) -> list[tuple[str, str, str]]:
    """Return the runs (operation, of the reference, of the hypothesis) that lead to a hypothesis.

    Operations are `equal`, `replace`, `delete` and `insert`, the fewest there can be.
    """
    one, other, space = symbols(reference, hypothesis, length)

    def text(some: list[str]) -> str:
        return "".join(symbol + space for symbol in some)

    codes = Levenshtein.opcodes(one, other)
    return [
        (
            code.tag,
            text(one[code.src_start : code.src_end]),
            text(other[code.dest_start : code.dest_end]),
        )
        for code in codes
    ]
