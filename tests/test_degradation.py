"""What conditions cost: beside what the teacher loses, by utterances; the worst one is named."""

import math

import numpy as np
import pandas as pd
import pytest

import conditions
from helpers import synthetic_results
from helpers.commands import command
from helpers.figures import words
from speech_pareto.reporting.figures import robustness
from speech_pareto.reporting.tables import degradation, points, results_table
from speech_pareto.reporting.tables.results_table import GROUP
from speech_pareto.reporting.tables.roles import roles_of
from speech_pareto.reporting.tables.systems import read_errors
from speech_pareto.study import config, figures, paths


@pytest.fixture(scope="module")
def lost(tables):
    return results_table.read(tables / "conditions.parquet")


def row_of(table, recipe, ratio, condition, teacher="tiny"):
    """Return the one row of a student of phones in a condition."""
    named = {"recipe": recipe, "ratio": ratio, "condition": condition, "teacher": teacher}
    (row,) = table[(table[list(named)] == pd.Series(named)).all(axis=1)].to_dict("records")
    return row


def test_what_a_student_loses_beyond_its_teacher_is_counted(lost, tables):
    file = tables.parent / "metrics/tiny/identity/0/1/phones.tsv"
    errors, lengths = read_errors(file, "per")[1:]
    one = 100 * len(errors) / lengths.sum()  # an error more in each utterance, in points
    teacher = row_of(lost, "identity", 0, "noisy")
    assert teacher["lost"] == pytest.approx(one) and math.isnan(teacher["beyond"])
    student = row_of(lost, "distillation", 0.5, "noisy")
    assert student["lost"] == pytest.approx(5 * one)
    assert student["teacher_lost"] == pytest.approx(one)
    assert student["beyond"] == pytest.approx(4 * one)
    assert student["score"] - student["clean_score"] == pytest.approx(5 * one, abs=1e-3)
    assert student["beyond_low"] < 4 * one < student["beyond_high"] < 5 * one
    # each utterance has as many more, so the test is as sure as it can be
    assert student["z"] == math.inf and student["significant"] is True
    same = row_of(lost, "low-rank", 0.25, "noisy")
    assert (same["beyond"], same["z"], same["p"], same["significant"]) == (0, 0, 1, False)
    quiet = lost[(lost["condition"] == "quiet") & (lost["status"] == "ok")]
    assert (quiet["lost"] == 0).all() and not quiet["significant"].fillna(False).any()


def test_every_point_has_a_row_in_each_condition(lost, tables):
    cells = results_table.read(tables / "results.parquet")
    summary = results_table.summarise(cells[cells["task"] == "phones"])
    assert len(lost) == 2 * len(summary) and not lost.duplicated([*GROUP, "condition"]).any()
    holes = lost[lost["status"] != "ok"]
    assert set(holes["status"]) == {"infeasible"} and holes["score"].isna().all()
    done = lost[lost["status"] == "ok"]
    assert (done["worst"] == (done["condition"] == "noisy")).all()
    three = row_of(lost, "distillation", 0.75, "noisy")
    assert (three["n"], three["seeds"]) == (3, 3) and three["score_std"] > 0


def test_the_test_is_of_each_utterance_and_the_interval_a_bootstrap():
    random = np.random.default_rng(0)
    lengths = random.integers(5, 40, 300)
    keys = ["student", "teacher"]

    def systems(errors):
        made = object.__new__(degradation.ErrorSystems)
        made.errors, made.lengths = dict(zip(keys, errors, strict=True)), lengths
        drawn = degradation_rates(errors, lengths)
        made.rates = dict(zip(keys, drawn.T, strict=True))
        return made

    def degradation_rates(errors, lengths):
        picks = np.random.default_rng(5).integers(len(lengths), size=(1000, len(lengths)))
        return np.stack([100 * e[picks].sum(1) / lengths[picks].sum(1) for e in errors], axis=1)

    quiet = [random.binomial(lengths, 0.2), random.binomial(lengths, 0.1)]
    heard = [quiet[0] + random.binomial(lengths, 0.3), quiet[1] + random.binomial(lengths, 0.2)]
    found = degradation.beyond(systems(heard), systems(quiet), *keys)
    more = (heard[0] - quiet[0]) - (heard[1] - quiet[1])
    assert found["beyond"] == pytest.approx(100 * more.sum() / lengths.sum())
    assert found["z"] == pytest.approx(more.mean() / (more.std(ddof=1) / math.sqrt(300)))
    width = 2 * 1.96 * 100 * more.std(ddof=1) / math.sqrt(300) / lengths.mean()
    assert found["beyond_high"] - found["beyond_low"] == pytest.approx(width, rel=0.15)


def test_a_student_is_chosen_by_what_it_scores_there(tables, lost, capsys):
    file = tables / "results.parquet"
    command("recommend", "--task", "phones", "--min-ratio", "0.25", "--table", file)
    clean = capsys.readouterr().out
    command("recommend", "--condition", "noisy", "--min-ratio", "0.25", "--table", file)
    there = capsys.readouterr().out
    assert "weight-pru" in clean.splitlines()[4]  # the header, a line, then the best
    assert "low-rank" in there.splitlines()[4] and ", in noisy; ratio at least" in there
    assert "characters" not in there  # which has no conditions
    score = row_of(lost, "low-rank", 0.25, "noisy")["score"]
    assert f"{score:.1f}" in there.splitlines()[4]
    command("recommend", "--condition", "worst", "--max-valid-score", "20", "--table", file)
    assert "No student is within this budget." in capsys.readouterr().out
    with pytest.raises(SystemExit) as told:
        command("recommend", "--condition", "noisi", "--table", file)
    assert "unknown condition 'noisi'; did you mean 'noisy'? Known: clean, noisy, quiet" in str(
        told.value.code
    )


def test_without_conditions_nobody_is_chosen_by_them(tables, tmp_path):
    (tmp_path / "results.parquet").write_bytes((tables / "results.parquet").read_bytes())
    with pytest.raises(ValueError, match="no task of the study says `conditions`"):
        points.read(tmp_path / "results.parquet", "noisy")
    assert points.read(tmp_path / "results.parquet", "clean")["points"]


def test_worst_is_each_students_own(tmp_path):
    metrics, profiles = synthetic_results.write(tmp_path, tasks=("phones",))
    hypotheses = synthetic_results.write_hypotheses(metrics)
    files = synthetic_results.write_conditions(metrics)
    swapped = {"quiet": "noisy", "noisy": "quiet"}  # of one student
    own = [x for x in files if "head-pruning/0.25" in str(x)]
    texts = {x: [x.with_suffix(s).read_text() for s in (".json", ".tsv")] for x in own}
    for x in own:
        other = texts[x.with_name(f"{swapped[x.stem]}.json")]
        x.write_text(other[0].replace(f'"{swapped[x.stem]}"', f'"{x.stem}"'))
        x.with_suffix(".tsv").write_text(other[1])
    tables = tmp_path / "tables"
    cells = tables / "results.parquet"
    tables.mkdir()
    results_table.build(*map(results_table.read_results, (metrics, profiles))).to_parquet(cells)
    out = [tables / f"conditions.{kind}" for kind in ("parquet", "csv", "md")]
    inside = [tables / name.rpartition("/")[2] for name in paths.IN_CONDITIONS]
    conditions.main(cells, hypotheses, files, profiles, *out, inside)
    lost = results_table.read(out[0])
    assert row_of(lost, "head-pruning", 0.25, "quiet")["worst"]
    assert row_of(lost, "low-rank", 0.25, "noisy")["worst"]
    worst = {p["key"]: p["values"]["score"] for p in points.read(cells, "worst")["points"]}
    for recipe, name in (("head-pruning", "quiet"), ("low-rank", "noisy")):
        assert worst[f"{recipe} 0.25 of tiny"] == row_of(lost, recipe, 0.25, name)["score"]


def test_the_figure_says_where_compression_costs_more(lost):
    said = words(robustness.draw(lost, "phones", roles_of(lost)))
    assert "Compression costs more in these conditions in 12 of 26 cases, less in 0" in said
    assert "as recorded" in said and "teacher 29.5 → 33.9 %" in said
    assert "no student and teacher were heard" in words(robustness.draw(lost, "characters", {}))


def test_only_tasks_with_conditions_are_drawn(study):
    study["tasks"]["other"] = study["tasks"]["phones"] | {"conditions": ["fast"]}
    study["teachers"]["tiny"].pop("finetuned")
    found = figures.figures_of(config.resolve(study))
    assert "other-robustness" in found and "phones-robustness" not in found
