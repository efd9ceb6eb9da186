"""The fronts and the leaderboard as text: in order, narrow enough, every hole named."""

import pytest

import synthetic_results
from speech_pareto import leaderboard, table


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Return the table of the synthetic grid."""
    files = synthetic_results.write(tmp_path_factory.mktemp("grid"))
    return table.build(*map(table.read_results, files))


def test_front_text_fits_and_says_it_all(cells):
    text = leaderboard.front_text(cells)
    assert max(map(len, text.splitlines())) <= 100
    assert "phones: phone error rate in %, lower is better; 33 of 37 cells done" in text
    assert "head-pruning: infeasible at 0.5, 0.75; reaches 0.26" in text
    assert "teacher (tiny)" in text
    assert "size, MACs, time" in text
    assert "random-pruning" not in text
    narrow = leaderboard.front_text(cells.replace("distillation", "distillation" * 9))
    assert max(map(len, narrow.splitlines())) <= 100
    assert "…" in narrow


def test_leaderboard_ranks_within_a_ratio(cells):
    text = leaderboard.markdown(cells)
    part = text[text.index("## phones") :]
    rows = [line.split(" | ") for line in part.splitlines() if line.startswith("| ")][2:]
    half = [row[0].strip("| *") for row in rows if row[2] == "0.5"]
    assert half[-2:] == ["random-pruning", "head-pruning"]
    assert "±" in next(row for row in rows if row[2] == "0.75")[9]
    assert "66 of 74 cells done, 8 infeasible." in text


def test_a_diverged_seed_is_named(cells):
    lost = (cells["recipe"] == "distillation") & (cells["ratio"] == 0.75) & (cells["seed"] == 2)
    columns = ["status", "reason", "score"]
    cells = cells.copy()
    cells.loc[lost & (cells["task"] == "phones"), columns] = ["diverged", "loss is NaN", None]
    text = leaderboard.front_text(cells)
    assert "distillation: diverged at 0.75 (2 of 3 seeds done)" in text
    assert "| 2/3 | diverged: loss is NaN |" in leaderboard.markdown(cells)


def test_best_first_in_either_direction(cells):
    mirrored = cells.assign(score=100 - cells["score"], better="higher")
    order, turned = (leaderboard.best_first(table.summarise(x)).index for x in (cells, mirrored))
    assert (order == turned).all()
