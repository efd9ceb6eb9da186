"""Budgets: what words mean, who is chosen, which ties are named, and the command that answers."""

import copy

import pandas as pd
import pytest

from speech_pareto import __main__
from speech_pareto.reporting import budget
from speech_pareto.reporting.tables import points
from speech_pareto.study.quantities import QUANTITIES


@pytest.fixture(scope="module")
def study(tables):
    return points.read(tables / "results.parquet")


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("", []),
        (" , ;", []),
        ("<= 3 M parameters, <= 0.05 RTF", [("parameters", "<=", 3e6), ("rtf", "<=", 0.05)]),
        ("parameters≤3M and time < 50ms", [("parameters", "<=", 3e6), ("seconds", "<", 50 * 1e-3)]),
        ("<= 20 ms; <= 5 MB", [("seconds", "<=", 20 * 1e-3), ("bytes", "<=", 5e6)]),
        ("at most 150 M MACs", [("macs_per_second", "<=", 150e6)]),
        (
            "memory under 1.5 GB\nspeed-up >= 2×",
            [("peak_memory_bytes", "<", 1.5e9)] + [("speedup", ">=", 2.0)],
        ),
        ("PER <= 40 %, ratio >= 50 %", [("score", "<=", 40.0), ("ratio", ">=", 0.5)]),
        ("real-time factor at most .01", [("rtf", "<=", 0.01)]),
        ("non-zero parameters <= 2 million", [("nonzero_parameters", "<=", 2e6)]),
    ],
)
def test_what_words_mean(text, limits):
    assert budget.parse(text) == [budget.Limit(*limit) for limit in limits]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<= 3 M parametres", "unknown name parametres; did you mean parameters?"),
        ("<= 3 M rft", "unknown name rft; did you mean RTF?"),
        ("<= 3 mb size", "unknown unit mb; did you mean MB?"),
        ("<= 3 Mio parameters", "unknown unit Mio; did you mean"),
        ("<= 3 M", "does not say of what"),
        ("3 M parameters", "is no limit; write it as in"),
        ("time <= 50", "time needs a unit, only in ms, s"),
        ("<= 3 ms parameters", "parameters cannot be in ms, only in k, M, G"),
        ("time <= 3 ms RTF", "names two things, time and RTF"),
        ("<= many parameters", "is no limit"),
    ],
)
def test_mistakes_are_named(text, words):
    with pytest.raises(ValueError, match=r"^“") as caught:
        budget.parse(f"<= 9 G MACs, {text}")
    assert words in str(caught.value)


def test_no_name_and_no_unit_of_a_budget_stands_for_two_things():
    names = [name.lower() for one in QUANTITIES.values() for name in one.names]
    assert len(names) == len(set(names))
    units = {unit for one in QUANTITIES.values() for unit in one.dimension.units if unit}
    assert not {unit.lower() for unit in units} & set(names)


def test_the_best_within_the_budget_and_its_ties(study, tables):
    limits = budget.parse("<= 3.5 M parameters, speed-up > 1")
    best, *ties = budget.choose(study, limits, "phones")
    board = pd.read_csv(tables / "leaderboard.csv")
    inside = board.query(
        "task == 'phones' and status == 'ok' and parameters <= 3.5e6 and speedup > 1"
    )
    inside = inside[~((inside.recipe == "identity") & (inside.teacher == "tiny"))]
    first = inside.sort_values("score").iloc[0]
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
    scores = [point["values"]["score"] for point in budget.choose(alike, [], "phones")]
    assert scores == sorted(scores)
    assert len(budget.choose(study | {"pairs": {}}, [], "phones")) == 1  # nothing was tested


def test_higher_may_be_better(study):
    turned = study | {"tasks": {"phones": study["tasks"]["phones"] | {"better": "higher"}}}
    worst = budget.choose(turned | {"pairs": {}}, [], "phones")[0]["values"]["score"]
    assert worst > budget.choose(study, [], "phones")[0]["values"]["score"]


def command(tables, *arguments):
    __main__.main(["recommend", *arguments, "--table", str(tables / "results.parquet")])


def test_the_command_answers(tables, capsys):
    command(tables, "<= 2.1 M parameters", "--task", "phones")
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    assert "low-rank" in text and "best" in text and "characters" not in text
    assert "The teacher (tiny), not within this budget: 29.5 %" in text
    command(tables, "")
    assert "characters: " in capsys.readouterr().out
    command(tables, "<= 9 parameters", "--task", "phones")
    text = capsys.readouterr().out
    assert "No student is within this budget. The farthest any goes: parameters 9" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["<= 3 M parametres"], "did you mean parameters?"),
        (["", "--task", "words"], "which has characters, phones"),
    ],
)
def test_the_command_says_what_is_wrong(tables, arguments, words):
    with pytest.raises(SystemExit, match=words.replace("?", r"\?")):
        command(tables, *arguments)


def test_without_a_table_the_command_says_so(tmp_path):
    with pytest.raises(SystemExit, match="is not there"):
        command(tmp_path, "")


def test_a_control_is_never_recommended_and_teachers_are_named(study):
    study = copy.deepcopy(study)
    for point in study["points"]:
        if point["kind"] == "control" and point["values"]["score"] is not None:
            point["values"]["score"] = 0.1
    chosen = budget.choose(study, budget.parse(""), "phones")
    assert chosen and {point["kind"] for point in chosen} == {"student"}
    student = next(point for point in study["points"] if point["kind"] == "student")
    assert "teacher " not in budget.text(study, "", "phones").splitlines()[2]
    study["points"].append(student | {"teacher": "base", "key": "base " + student["key"]})
    header, *rows = budget.text(study, "", "phones").splitlines()[2:]
    assert header.split()[0] == "teacher" and any(row.split()[:1] == ["tiny"] for row in rows)
