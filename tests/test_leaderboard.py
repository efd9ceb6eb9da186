"""The fronts and the leaderboard as text: in order, narrow enough, every hole named."""

import pytest

from helpers import synthetic_results
from speech_pareto.reporting import leaderboard
from speech_pareto.reporting.tables import comparisons, results_table
from speech_pareto.runtime import result


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Return the table of the synthetic grid."""
    files = synthetic_results.write(tmp_path_factory.mktemp("grid"))
    return results_table.build(*map(results_table.read_results, files))


def test_front_text_fits_and_says_it_all(cells):
    text = leaderboard.front_text(cells)
    assert max(map(len, text.splitlines())) <= 100
    assert "phones: phone error rate in %, lower is better; 33 of 37 cells done" in text
    assert "head-pruning: infeasible at 0.5, 0.75; reaches 0.26" in text
    assert "teacher (tiny)" in text
    assert "size MACs time" in text
    assert "random-pruning" not in text
    narrow = leaderboard.front_text(cells.replace("distillation", "distillation" * 9))
    assert max(map(len, narrow.splitlines())) <= 100
    assert "…" in narrow


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Return the table and the comparisons of the synthetic grid."""
    metrics, profiles = synthetic_results.write(tmp_path_factory.mktemp("grid"))
    files = dict(zip(map(str, metrics), synthetic_results.write_hypotheses(metrics), strict=True))
    cells = results_table.build(
        results_table.read_results(metrics), results_table.read_results(profiles)
    )
    return cells, comparisons.build(cells, files)[0]


@pytest.mark.slow
def test_differences_to_the_teacher_are_marked(compared):
    cells, rows = compared
    row = rows.query("task == 'phones' and recipe == 'low-rank' and ratio == 0.5").iloc[0]
    names = ("difference", "difference_low", "difference_high")
    known = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*row[list(names)])
    rows = rows.copy()
    for significant, mark in ((True, ""), (False, " †")):
        rows.loc[(rows["recipe"] == "low-rank") & (rows["ratio"] == 0.5), "significant"] = (
            significant
        )
        text = leaderboard.markdown(cells, rows)
        part = text[text.index("## phones") :]
        assert f"| {known}{mark} |" in part
        teacher = next(line for line in part.splitlines() if line.startswith("| **identity**"))
        assert teacher.split(" | ")[12] == "–"
        front = leaderboard.front_text(cells, rows)
        assert max(map(len, front.splitlines())) <= 100
        part = front[front.index("phones: ") :]
        lines = [line for line in part.splitlines() if "low-rank" in line and " 0.5 " in line]
        assert known in lines[-1]
        assert all(("†" in line) == bool(mark) for line in lines) and len(lines) == 2
    assert "Against the teacher" not in leaderboard.front_text(cells)


def test_leaderboard_ranks_within_a_ratio(cells):
    text = leaderboard.markdown(cells)
    part = text[text.index("## phones") :]
    rows = [line.split(" | ") for line in part.splitlines() if line.startswith("| ")][2:]
    half = [row[0].strip("| *") for row in rows if row[2] == "0.5"]
    assert half[-2:] == ["random-pruning", "head-pruning"]
    assert "±" in next(row for row in rows if row[2] == "0.75")[10]
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
    order, turned = (
        leaderboard.best_first(results_table.summarise(x)).index for x in (cells, mirrored)
    )
    assert (order == turned).all()


def test_nothing_from_a_result_becomes_markup(tmp_path):
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    metrics, profiles = synthetic_results.write(tmp_path)
    for file in metrics:
        value = result.read(file)
        if value["status"] == "ok":
            for section in ("metrics", "valid_metrics"):
                value[section][evil] = value[section].pop(value["metric"]["name"])
            value["metric"]["name"] = evil
            result.write(file, value)
    cells = results_table.build(
        results_table.read_results(metrics), results_table.read_results(profiles)
    )
    text = leaderboard.as_html(cells)
    assert "<script" not in text and "<img" not in text and "&lt;script&gt;" in text


def test_a_table_of_before_exits_is_read(cells):
    older = cells[[name for name in cells if not name.endswith("_p95")]]
    assert leaderboard.front_text(older) == leaderboard.front_text(cells)
