"""Budgets: what numbers mean, who is chosen, which ties are named, and the command that answers."""

import copy
import re

import pandas as pd
import pytest

from helpers.commands import command
from speech_pareto.reporting import budget, unrun
from speech_pareto.reporting.budget import Limit
from speech_pareto.reporting.tables import points
from speech_pareto.study.quantities import QUANTITIES


@pytest.fixture(scope="module")
def study(tables):
    return points.read(tables / "results.parquet")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("parameters", "3M", 3e6),
        ("parameters", " 3000000 ", 3e6),
        ("parameters", "3e6", 3e6),
        ("macs_per_second", "150 M", 150e6),
        ("seconds", "50ms", 50 * 1e-3),
        ("seconds", "0.05", 0.05),
        ("rtf", ".01", 0.01),
        ("bytes", "5MB", 5e6),
        ("peak_memory_bytes", "1.5 GB", 1.5e9),
        ("speedup", "2", 2.0),
        ("score", "40%", 40.0),
        ("ratio", "0.5", 0.5),
    ],
)
def test_what_a_number_means(name, text, value):
    assert QUANTITIES[name].read(text) == value


@pytest.mark.parametrize(
    ("name", "text", "known"),
    [
        ("parameters", "3 Mio", "k, M, G or nothing"),
        ("parameters", "3m", "k, M, G or nothing"),
        ("parameters", "many", "k, M, G or nothing"),
        ("parameters", "-3", "k, M, G or nothing"),
        ("parameters", "nan", "k, M, G or nothing"),
        ("parameters", "1.2.3", "k, M, G or nothing"),
        ("parameters", "", "k, M, G or nothing"),
        ("seconds", "50 MB", "ms, s or nothing"),
        ("bytes", "5 mb", "B, kB, MB, GB or nothing"),
        ("rtf", "5%", "nothing"),
    ],
)
def test_mistakes_are_named_with_what_is_allowed(name, text, known):
    said = re.escape(
        f"--max-{name.replace('_', '-')}: '{text}' is not a number with {known} behind it"
    )
    with pytest.raises(ValueError, match=f"^{said}$"):
        budget.read({"max_macs_per_second": "9G", f"max_{name}": text})


def test_a_limit_is_either_the_most_or_the_least():
    most, least = budget.read(
        {"min_speedup": "2", "max_valid_score": "40", "min_valid_score": None}
    )[::-1]
    assert (most, least) == (Limit("max", "valid_score", 40.0), Limit("min", "speedup", 2.0))
    assert [most.holds(value) for value in (39.9, 40.0, 40.1, None)] == [True, True, False, False]
    assert [least.holds(value) for value in (1.9, 2.0, 2.1, None)] == [False, True, True, False]
    assert (most.text, least.text) == ("validation score at most 40.0", "speed-up at least 2.00×")


def test_the_best_within_the_budget_and_its_ties(study, tables):
    limits = [Limit("max", "parameters", 3.5e6), Limit("min", "speedup", 1.0)]
    best, *ties = budget.choose(study, limits, "phones")
    board = pd.read_csv(tables / "leaderboard.csv")
    inside = board.query(
        "task == 'phones' and status == 'ok' and parameters <= 3.5e6 and speedup >= 1"
    )
    inside = inside[~((inside.recipe == "identity") & (inside.teacher == "tiny"))]
    first = inside.sort_values("valid_score").iloc[0]
    assert (best["recipe"], best["ratio"]) == (first["recipe"], first["ratio"])
    pairs = pd.read_csv(tables / "pairs.csv").query("task == 'phones'")
    for tie in ties:
        ends = [(best["recipe"], best["ratio"]), (tie["recipe"], tie["ratio"])]
        row = next(
            row
            for row in pairs.itertuples()
            if sorted([(row.recipe, row.ratio), (row.other_recipe, row.other_ratio)])
            == sorted(ends)
        )
        assert row.p * len(inside) >= budget.ALPHA
    assert len(inside) > 5


def test_ties_are_what_the_test_cannot_tell_apart(study):
    keys = [p["key"] for p in study["points"] if p["task"] == "phones" and budget.whole(p)]
    count = len(keys) * (len(keys) - 1) // 2
    for p, everything in ((1.0, True), (0.0, False)):
        alike = study | {"pairs": {"phones": {"keys": keys, "p": [p] * count}}}
        chosen = budget.choose(alike, [], "phones")
        assert (len(chosen) > 1) == everything
        assert all(point["kind"] == "student" for point in chosen)
    scores = [point["values"]["valid_score"] for point in budget.choose(alike, [], "phones")]
    assert scores == sorted(scores)
    assert len(budget.choose(study | {"pairs": {}}, [], "phones")) == 1  # nothing was tested


def test_higher_may_be_better(study):
    turned = study | {"tasks": {"phones": study["tasks"]["phones"] | {"better": "higher"}}}
    worst = budget.choose(turned | {"pairs": {}}, [], "phones")[0]["values"]["valid_score"]
    assert worst > budget.choose(study, [], "phones")[0]["values"]["valid_score"]


def recommend(tables, *arguments):
    command("recommend", *arguments, "--table", tables / "results.parquet")


@pytest.mark.slow
def test_the_command_answers(tables, capsys):
    recommend(tables, "--max-parameters", "2.1M", "--task", "phones")
    text = capsys.readouterr().out
    assert "†" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert text.splitlines()[0].endswith("; parameters at most 2.10 M")
    assert "low-rank" in text and "best" in text and "characters" not in text
    assert "The teacher (tiny), not within this budget: 29.5 %" in text
    recommend(tables)
    text = capsys.readouterr().out
    assert "characters: " in text and "] †" in text
    assert "  †: no significant increase in errors over the teacher\n" in text
    recommend(tables, "--max-parameters", "9", "--min-speedup", "99", "--task", "phones")
    text = capsys.readouterr().out
    assert "No student is within this budget. The farthest any goes: parameters 9" in text
    fastest = max(float(x) for x in pd.read_csv(tables / "leaderboard.csv")["speedup"].dropna())
    assert f"speed-up {fastest:.2f}×" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-bytes", "5 mb"], "error: --max-bytes: '5 mb' is not a number with B, kB, MB, GB"),
        (["--task", "words"], "which has characters, phones"),
    ],
)
def test_the_command_says_what_is_wrong(tables, arguments, words):
    with pytest.raises(SystemExit, match=words):
        recommend(tables, *arguments)


def test_without_a_table_the_command_says_so(tmp_path):
    with pytest.raises(SystemExit, match="is not there"):
        recommend(tmp_path)


def test_a_control_is_never_recommended_and_teachers_are_named(study):
    study = copy.deepcopy(study)
    for point in study["points"]:
        if point["kind"] == "control" and point["values"]["score"] is not None:
            point["values"]["score"] = 0.1
    chosen = budget.choose(study, [], "phones")
    assert chosen and {point["kind"] for point in chosen} == {"student"}
    student = next(point for point in study["points"] if point["kind"] == "student")
    assert "teacher " not in budget.text(study, [], "phones").splitlines()[2]
    study["points"].append(student | {"teacher": "base", "key": "base " + student["key"]})
    limits = budget.read({"max_peak_memory_bytes": "9 GB"})
    assert (
        "memory" in budget.text(study, limits, "phones").splitlines()[2]
    )  # what is asked is shown
    header, *rows = budget.text(study, [], "phones").splitlines()[2:]
    assert header.split()[0] == "teacher" and any(row.split()[:1] == ["tiny"] for row in rows)


def test_a_recipe_that_was_not_run_is_named_where_it_promises_more(study):
    def candidate(recipe, macs, error, rung=None):
        expected = {"error": error, "low": error - 1, "high": error + 2}
        costs = {"macs_per_second": macs, "parameters": 1e6, "bytes": 4e6}
        return {"recipe": recipe, "ratio": "0.5", "rung": rung, "expected": expected, **costs}

    pool = [candidate("run", 5e7, 0.1, 1), candidate("best", 9e7, 0.2), candidate("next", 5e7, 0.3)]
    found = {"task": "phones", "cost": "macs_per_second", "better": "lower", "worst": 100.0}
    found["pool"] = pool
    said = " ".join(unrun.text(study, found, [], "phones").split())
    assert said.startswith(
        "Predicted, not run yet: best at ratio 0.5, 90.0 M MACs/s; on validation"
    )
    assert "0.2 % [-0.8, 2.2] with 95 %" in said.replace("−", "-")
    limits = budget.read({"max_macs_per_second": "60M"})
    assert "next at" in unrun.text(study, found, limits, "phones")
    assert unrun.text(study, found, budget.read({"max_seconds": "1s"}), "phones") == ""  # unknown
    poor = {**found, "pool": [candidate("poor", 5e7, 99.0)]}
    assert unrun.text(study, poor, [], "phones") == "" == unrun.text(study, found, [], "letters")
    higher = {**found, "better": "higher"}
    assert unrun.best(higher, [])[1] == {"error": 99.8, "low": 97.8, "high": 100.8}
