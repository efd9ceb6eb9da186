"""Validation chooses and test is reported: results in which the two splits disagree."""

import csv

import pandas as pd
import pytest

import aggregate
import compare
from helpers import synthetic_results
from speech_pareto.reporting import budget, leaderboard
from speech_pareto.reporting.figures import fronts
from speech_pareto.reporting.tables import points, results_table
from speech_pareto.reporting.tables.wording import CHOSEN_ON, UNSURE_TEXT
from speech_pareto.runtime import result
from speech_pareto.study import quantities

# Of two students of one ratio: the better on validation, and the better on test.
CHOSEN, OTHER = "distillation", "low-rank"
SCORES = {CHOSEN: {"valid": 31.0, "test": 36.0}, OTHER: {"valid": 35.0, "test": 32.0}}
SECTIONS = {"valid": "valid_metrics", "test": "metrics"}


def give(file, scores):
    """Give a cell these scores, in its metrics and in the errors of its utterances."""
    with file.with_suffix(".tsv").open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    value = result.read(file)
    for split, score in scores.items():
        own = [row for row in rows if row["split"] == split]
        for i, row in enumerate(own):
            row |= {"deletions": 0, "insertions": 0, "length": 20}
            row["substitutions"] = round(score / 5 + (-1) ** i)  # of 20
        errors = sum(row["substitutions"] for row in own)
        value[SECTIONS[split]]["per"] = 100 * errors / (20 * len(own))
    result.write(file, value)
    with file.with_suffix(".tsv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, rows[0], delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Return the folder of tables of a teacher and two students, as cheap as each other."""
    folder = tmp_path_factory.mktemp("study")
    metrics, profiles = synthetic_results.write(folder, tasks=("phones",))
    wanted = ("tiny/identity/0/1", f"{CHOSEN}/0.5/1", f"{OTHER}/0.5/1")
    metrics, profiles = (
        [f for f in kind if any(w in str(f) for w in wanted)] for kind in (metrics, profiles)
    )
    hypotheses = synthetic_results.write_hypotheses(metrics)
    give(next(f for f in metrics if "identity" in str(f)), {"valid": 25.0, "test": 25.0})
    costs = {}
    for recipe, scores in SCORES.items():
        give(next(f for f in metrics if recipe in str(f)), scores)
        file = next(f for f in profiles if recipe in str(f))
        value = result.read(file)
        costs = costs or value["cost"]
        result.write(file, value | {"cost": costs})
    paths = [
        folder / name for name in ("c.parquet", "c.csv", "fronts.csv", "pairs.csv", "examples.json")
    ]
    aggregate.main(metrics, profiles, folder / "results.parquet", folder / "results.csv")
    compare.main(folder / "results.parquet", hypotheses, *paths)
    (folder / "c.parquet").rename(folder / "comparisons.parquet")
    return folder


@pytest.fixture(scope="module")
def cells(tables):
    return results_table.read(tables / "results.parquet")


def test_both_scores_are_in_the_table(cells):
    rows = cells.set_index("recipe")
    for recipe, scores in SCORES.items():
        assert rows.loc[recipe, "valid_score"] == pytest.approx(scores["valid"], abs=3)
        assert rows.loc[recipe, "score"] == pytest.approx(scores["test"], abs=3)
    assert rows.loc[CHOSEN, "valid_score"] < rows.loc[OTHER, "valid_score"]
    assert rows.loc[CHOSEN, "score"] > rows.loc[OTHER, "score"]


def test_validation_makes_the_front_and_the_disagreement_is_kept(cells, tables):
    rows = results_table.summarise(cells).set_index("recipe")
    assert set(rows["chosen_on"]) == {"valid"}
    written = pd.read_csv(tables / "fronts.csv")
    for cost in quantities.main_axes():
        assert rows.loc[CHOSEN, f"front_{cost}"] and not rows.loc[OTHER, f"front_{cost}"]
        assert rows.loc[OTHER, f"test_front_{cost}"] and not rows.loc[CHOSEN, f"test_front_{cost}"]
        own = written[written["cost"] == cost].set_index("recipe")
        assert own.loc[CHOSEN, "on_front"] and not own.loc[CHOSEN, "on_test_front"]
        assert own.loc[OTHER, "on_test_front"] and not own.loc[OTHER, "on_front"]


def test_the_neighbours_of_a_front_and_pairs_are_compared_on_validation(tables):
    rows = pd.read_csv(tables / "fronts.csv").set_index(["cost", "recipe"])
    row = rows.loc[("parameters", CHOSEN)]
    assert row["next_recipe"] == "identity"
    assert row["difference"] == pytest.approx(row["valid_score"] - 25.0, abs=0.5)
    pair = pd.read_csv(tables / "pairs.csv").query("recipe == @CHOSEN and other_recipe == @OTHER")
    assert len(pair) == 1 and pair["p"].iloc[0] < 0.05


def test_the_teacher_is_compared_with_on_test(tables):
    rows = pd.read_parquet(tables / "comparisons.parquet").set_index("recipe")
    for recipe in SCORES:
        row = rows.loc[recipe]
        assert row["utterances"] == 412
        assert row["difference"] == pytest.approx(row["score"] - row["teacher_score"], abs=1e-3)


def test_a_budget_chooses_on_validation_and_says_the_test_score(tables):
    study = points.read(tables / "results.parquet")
    best = budget.choose(study, [], "phones")[0]
    assert best["recipe"] == CHOSEN
    said = budget.text(study, [], "phones")
    assert f"{best['values']['score']:.1f}" in said
    limit = budget.read({"max_valid_score": str(best["values"]["valid_score"] + 0.1)})
    assert [p["recipe"] for p in budget.choose(study, limit, "phones")] == [CHOSEN]


def test_figure_and_front_report_test_and_mark_what_it_denies(cells):
    summary = results_table.summarise(cells)
    score = summary.set_index("recipe").loc[CHOSEN, "score"]
    said = fronts.message(summary, "phones", "parameters")
    assert CHOSEN in said and f"{score:.1f} %" in said
    figure = fronts.pareto(summary, "phones", "parameters")
    words = " ".join(text.get_text() for text in figure.texts)
    assert CHOSEN_ON["valid"] in words and UNSURE_TEXT in words
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [line.get_ydata()[0] for line in crosses] == [score]
    text = leaderboard.front_text(cells)
    assert CHOSEN in text and OTHER not in text and f"{score:.1f}" in text


def test_splits_that_agree_have_no_mark(cells):
    alike = cells.assign(valid_score=cells["score"])
    figure = fronts.pareto(results_table.summarise(alike), "phones", "parameters")
    assert not any(line.get_marker() == "x" for line in figure.axes[0].lines)
    assert UNSURE_TEXT not in " ".join(text.get_text() for text in figure.texts)


def test_a_task_without_scores_on_validation_is_chosen_on_test(cells):
    lacking = cells.assign(valid_score=float("nan"))
    rows = results_table.summarise(lacking).set_index("recipe")
    assert set(rows["chosen_on"]) == {"test"} and rows.loc[OTHER, "front_parameters"]
    figure = fronts.pareto(results_table.summarise(lacking), "phones", "parameters")
    assert CHOSEN_ON["test"] in " ".join(text.get_text() for text in figure.texts)
