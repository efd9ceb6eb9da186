"""The table of exported files: beside torch, tested against it, the fastest runtime named."""

import pandas as pd
import pytest

from helpers import synthetic_results
from helpers.figures import words
from speech_pareto.reporting.figures import runtime_times
from speech_pareto.reporting.tables import exported_files, results_table
from speech_pareto.reporting.tables.results_table import GROUP
from speech_pareto.runtime import result
from speech_pareto.study import config, exported, figures


@pytest.fixture(scope="module")
def table(tables):
    return results_table.read(tables / "runtimes.parquet")


def row_of(table, **values):
    """Return the one row with these values."""
    return table[(table[list(values)] == pd.Series(values)).all(axis=1)].iloc[0]


def test_each_file_has_a_row_beside_torch(table, tables):
    cells = results_table.read(tables / "results.parquet")
    assert len(table) == 4 * len(synthetic_results.EXPORTED)
    for (recipe, ratio), seeds in zip(synthetic_results.EXPORTED, (1, 3), strict=True):
        torch, fp32, dynamic, static = (
            row for _, row in table[table["recipe"] == recipe].iterrows()
        )
        own = cells[(cells["recipe"] == recipe) & (cells["ratio"] == ratio)]
        own = own[own["task"] == "phones"]
        assert torch["runtime"] == "torch" and torch["score"] == pytest.approx(own["score"].mean())
        assert (torch["n"], torch["seeds"]) == (seeds, seeds)
        assert [row["numbers"] for row in (fp32, dynamic, static)] == [
            "fp32",
            "int8-dynamic",
            "int8-static",
        ]
        # the same answers are the same score; an error more in each utterance shows
        assert (fp32["difference"], fp32["p"], fp32["significant"]) == (0, 1, False)
        assert dynamic["difference"] == pytest.approx(dynamic["score"] - torch["score"], abs=1e-3)
        assert dynamic["difference_low"] > 0 and dynamic["significant"]
        assert (static["status"], static["reason"]) == ("unsupported", "no scales")
        assert pd.isna(static["score"]) and static["n"] == 0
        assert dynamic["speedup.1_threads"] == pytest.approx(2.5)
        assert dynamic["seconds.1_threads"] == pytest.approx(torch["seconds.1_threads"] / 2.5)
        assert dynamic["fastest.1_threads"] and fp32["fastest.2_threads"]
    assert (table.groupby(GROUP)[["fastest.1_threads", "fastest.2_threads"]].sum() == 1).all(
        axis=None
    )
    assert not [column for column in table if "4_threads" in column]  # nobody had four


def test_readers_see_what_is_fastest(tables):
    text = (tables / "runtimes.md").read_text()
    line = next(line for line in text.splitlines() if "low-rank 0.5 | onnxruntime | int8-d" in line)
    assert "| **34.8 ms (2.50×)** | 34.8 ms (1.25×) |" in line and "1.50 MB" in line
    assert "| low-rank 0.5 | onnxruntime | int8-static | unsupported: no scales |" in text
    assert "| fp32 | 44" not in text.partition("torch")[0]


def test_the_figure_names_students_and_runtimes(table):
    figure = runtime_times.draw(table, "phones", {})
    ticks = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert sorted(ticks) == ["distillation 0.75", "low-rank 0.5"]
    assert [axes.get_title() for axes in figure.axes] == ["1 thread", "2 threads"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["torch", "fp32", "int8-dynamic"]  # what failed is not drawn
    assert "no exported file was timed" in words(runtime_times.draw(table, "characters", {}))


def test_a_report_of_another_study_is_refused(tables, tmp_path):
    folder = next((tables.parent / "runtimes").rglob("report.json"))
    value = result.read(folder)
    value["run"]["seed"] = 9
    with pytest.raises(ValueError, match="is it from another study"):
        exported_files.build(results_table.read(tables / "results.parquet"), {}, {"x": value})


def test_only_a_study_that_says_onnx_measures(study):
    plain = config.resolve(study)
    assert not exported.measured(plain)
    assert "runtimes" not in {one["kind"] for one in figures.figures_of(plain).values()}
    asked = config.resolve(study | {"onnx": {}})
    assert asked["onnx"]["threads"] == [1, 2, 4] and len(asked["onnx"]["numbers"]) == 3
    assert exported.measured(asked) == exported.students(asked)
    tasks = {cell.task for cell in exported.measured(asked)}
    kinds = [one["task"] for one in figures.figures_of(asked).values() if one["kind"] == "runtimes"]
    assert tasks == set(kinds) and tasks
    assert not exported.problems(asked)
    (said,) = exported.problems(asked | {"grid": []})
    assert said.startswith("onnx: no task of the grid is fine-tuned here")
