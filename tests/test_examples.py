"""What a student gets wrong: which utterances are shown, and how their errors are marked."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech_pareto.reporting.tables import examples, results_table
from speech_pareto.runtime.result import read_json


@pytest.mark.parametrize(
    ("reference", "hypothesis", "length", "runs"),
    [
        ("a b c", "a x c d", 3, "equal|a |a , replace|b |x , equal|c |c , insert||d "),
        ("chat", "hart", 4, "delete|c|, equal|ha|ha, insert||r, equal|t|t"),
        ("en", "es", 1, "replace|en |es "),
        ("two words", "one", 1, "replace|two words|one"),  # a label
        ("a", "", 1, "delete|a |"),
    ],
)
def test_errors_are_marked(reference, hypothesis, length, runs):
    assert ", ".join(map("|".join, examples.marked(reference, hypothesis, length))) == runs


@given(*[st.text("abc", max_size=12)] * 2)
def test_runs_spell_both_texts(reference, hypothesis):
    runs = examples.marked(reference, hypothesis, len(reference))
    for place, text in ((1, reference), (2, hypothesis)):
        joined = "".join(run[place] for run in runs)
        assert joined.replace(" ", "") == text
    for tag, spoken, said in runs:
        assert (spoken == said) == (tag == "equal")


def rows(rates):
    return [
        {"id": str(i), "corpus": "c", "deletions": str(rate), "insertions": "0"}
        | {"substitutions": "0", "length": "10"}
        for i, rate in enumerate(rates)
    ]


def test_the_middle_and_the_worst_are_chosen():
    chosen = examples.chosen(rows([0, 9, 1, 8, 2, 7, 3, 6, 4]))
    assert [row["deletions"] for sort, row in chosen if sort == "worst"] == ["9", "8", "7"]
    assert [row["deletions"] for sort, row in chosen if sort == "typical"] == ["3", "4"]


def test_short_utterances_are_shown_where_all_are_short():
    short = [row | {"length": "1"} for row in rows([9, 9, 9])]
    assert all(row["length"] == "10" for _, row in examples.chosen(rows(range(9)) + short))
    assert len(examples.chosen(short)) == 3


@pytest.mark.parametrize("count", range(7))
def test_few_utterances_are_shown_once(count):
    chosen = [row["id"] for _, row in examples.chosen(rows(range(count)))]
    assert len(chosen) == len(set(chosen)) == min(count, 5)


def test_each_student_stands_beside_its_teacher(tables):
    found = read_json(tables / "examples.json")
    cells = results_table.read(tables / "results.parquet")
    done = cells[cells["status"] == "ok"].drop_duplicates(results_table.GROUP)
    keys = [tuple(one[name] for name in results_table.GROUP) for one in found]
    assert sorted(keys) == sorted(done[results_table.GROUP].itertuples(index=False, name=None))
    one = next(x for x in found if x["recipe"] == "low-rank" and x["ratio"] == 0.5)
    file = Path(f"metrics/tiny/low-rank/0.5/1/{one['task']}.tsv")
    with (tables.parent / file).open(newline="") as stream:
        known = {row["id"]: row for row in csv.DictReader(stream, delimiter="\t")}
    for utterance in one["utterances"]:
        assert known[utterance["id"]]["split"] == "test"
        assert utterance["reference"] == known[utterance["id"]]["reference"]
        assert utterance["teacher"] is not None
    untaught = next(x for x in found if x["teacher"] == "tiny-random")
    assert all(utterance["student"] for utterance in untaught["utterances"])
