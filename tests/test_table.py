"""The table has every cell once, merges the right profile and never hides a hole."""

import copy
import json
import math

import numpy as np
import pandas as pd
import pytest

from helpers import synthetic_results
from speech_pareto.reporting.tables import results_table, wording
from speech_pareto.runtime import result
from speech_pareto.study import quantities


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the table of the synthetic grid and the files it was made of."""
    folder = tmp_path_factory.mktemp("grid")
    files = synthetic_results.write(folder)
    return results_table.build(*map(results_table.read_results, files)), folder, files


def change(built, recipe, ratio, seed=None, task="phones", **values):
    """Return a copy of the table with some cells' values replaced."""
    cells = built[0].copy()
    rows = (cells["recipe"] == recipe) & (cells["ratio"] == ratio) & (cells["task"] == task)
    rows &= (cells["seed"] == seed) if seed else True
    assert rows.any()
    for column, value in values.items():
        cells.loc[rows, column] = value
    return cells


def row_of(summary, recipe, ratio, task="phones", teacher="tiny"):
    """Return one row of a summary."""
    key = {"recipe": recipe, "ratio": ratio, "task": task, "teacher": teacher}
    rows = summary
    for column, value in key.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def test_a_row_per_cell_in_stable_order(built):
    cells, _, (metrics, profiles) = built
    assert len(cells) == len(metrics) == len(list(synthetic_results.cells()))
    assert not cells.duplicated(results_table.KEY).any()
    again = results_table.build(
        results_table.read_results(reversed(metrics)),
        results_table.read_results(reversed(profiles)),
    )
    assert cells.equals(again)
    assert list(cells)[: len(results_table.FROM_METRICS)] == list(results_table.FROM_METRICS)


def test_numbers_are_those_of_the_files(built):
    cells, _, _ = built
    for _, row in cells[cells["status"] == "ok"].iterrows():
        metrics, profile = result.read(row["metrics_file"]), result.read(row["profile_file"])
        assert row["score"] == metrics["metrics"][row["metric"]]
        assert (
            row[f"{row['metric']}.prompts"]
            == (metrics["metrics"]["by_corpus"]["prompts"][row["metric"]])
        )
        assert row["parameters"] == profile["cost"]["parameters"]["total"]
        assert row["macs_per_second"] == profile["cost"]["macs_per_second"]
        assert row["speedup"] == profile["cost"]["wall_clock"]["speedup"]
        assert row["scope"] == row["task"] == profile["run"]["scope"]


def test_languages_are_summed_up(built):
    for row in built[0].query("status == 'ok'").to_dict("records"):
        assert row["worst_language"] == "nl"
        assert row["worst_language_score"] == pytest.approx(1.4 * row["score"])
        assert row["language_mean"] == pytest.approx(3.1 / 3 * row["score"])
        deviation = np.std([0.7, 1.4, 1.0], ddof=1) * row["score"]
        assert row["language_std"] == pytest.approx(deviation)
    row = row_of(results_table.summarise(built[0]), "distillation", 0.5)
    assert row["worst_language_score"] == pytest.approx(1.4 * row["score"])
    turned = results_table._languages({"a": {"x": 90.0}, "b": {"x": 70.0}}, "x", "higher")
    assert turned["worst_language"] == "b"
    assert set(results_table._languages({"a": {"x": 1.0}}, "x", "lower").values()) == {None}


def test_further_conditions_have_columns_of_their_own(built):
    cells = built[0]
    done = cells[cells["status"] == "ok"]
    name = "10s_batch1_threadsall_cpu_fp32"
    assert (done[f"threads.{name}"] == 2).all()
    assert (done[f"speedup.{name}"] == done["speedup"]).all()
    assert str(cells[f"threads.{name}"].dtype) == "Int64"
    assert cells.loc[cells["status"] != "ok", f"seconds.{name}"].isna().all()
    assert not [c for c in cells if "cuda" in c]  # nothing was measured there
    assert not [c for c in cells if c.startswith("energy_joules.")]
    own = [c for c in cells if c.endswith(name)]
    assert own == [f"{c}.{name}" for c in results_table.UNDER if "energy" not in c]


def test_theoretical_macs_stand_beside_the_dense_time(built):
    cells = built[0].query("recipe == 'weight-pruning' and ratio == 0.75")
    assert (cells["theoretical_macs_per_second"] < 0.3 * cells["macs_per_second"]).all()
    assert (cells["macs_5s"] == 5 * cells["macs_per_second_5s"]).all()


def test_tasks_share_the_profile_of_any_scope(tmp_path):
    metrics, profiles = synthetic_results.write(tmp_path, scope="any")
    assert len(profiles) == len(metrics) / 2
    cells = results_table.build(
        results_table.read_results(metrics), results_table.read_results(profiles)
    )
    assert set(cells["scope"]) == {"any"}
    assert cells["profile_file"].notna().all()


def test_infeasible_cells_stay_with_their_reason(built):
    cells = built[0]
    holes = cells[cells["status"] != "ok"]
    assert set(holes["recipe"]) == {"head-pruning"}
    assert holes["reason"].str.contains("heads hold too little").all()
    assert (holes["reachable"] == 0.26).all()
    assert holes["score"].isna().all()


def test_a_cell_without_profile_has_no_cost(built):
    _, _, (metrics, profiles) = built
    cells = results_table.build(
        results_table.read_results(metrics), results_table.read_results(profiles[1:])
    )
    lost = cells[cells["profile_file"].isna()]
    assert len(lost) == 1
    assert lost[["parameters", "seconds", "paired_seconds"]].isna().all(axis=None)
    summary = results_table.summarise(cells)
    assert not summary.loc[summary["parameters"].isna(), "front_parameters"].any()


def test_a_failed_profile_is_a_hole(built):
    _, _, (metrics, profiles) = built
    costs = results_table.read_results(profiles)
    file = next(iter(costs))
    status = {"status": "out_of_memory", "reason": "2 GiB were not enough"}
    costs[file] = result.compose(costs[file]["run"], {}, status=status)
    cells = results_table.build(results_table.read_results(metrics), costs)
    hole = cells[cells["profile_file"] == file].iloc[0]
    assert hole["status"] == "out_of_memory"
    assert hole["reason"] == "profile: 2 GiB were not enough"


def test_one_cell_from_two_files_is_an_error(built):
    _, _, (metrics, _) = built
    values = results_table.read_results(metrics)
    first = next(iter(values))
    with pytest.raises(ValueError, match="describe the same cell"):
        results_table.build({**values, "copy.json": values[first]}, {})


def test_mixed_up_files_are_an_error(built):
    _, _, (metrics, profiles) = built
    with pytest.raises(ValueError, match="metrics and profiles mixed up"):
        results_table.build(
            results_table.read_results(profiles), results_table.read_results(metrics)
        )
    with pytest.raises(ValueError, match="no results"):
        results_table.build({}, {})


def test_paired_seconds_undo_a_busy_machine(built):
    cells = built[0].query("teacher == 'tiny'").copy()
    before = cells["paired_seconds"]
    busy = cells["recipe"] == "low-rank"  # a node three times slower for student and teacher
    cells.loc[busy, ["seconds", "teacher_seconds"]] *= 3
    after = results_table.paired_seconds(cells)
    # the reference, a median over all jobs of the teacher, may move; ratios may not
    assert (after / before).dropna().max() == pytest.approx((after / before).dropna().min())


def test_mean_and_sample_deviation(built):
    scores = built[0].query("recipe == 'low-rank' and ratio == 0.75 and task == 'phones'")["score"]
    row = row_of(results_table.summarise(built[0]), "low-rank", 0.75)
    mean = sum(scores) / 3
    assert row["score"] == pytest.approx(mean)
    assert row["score_std"] == pytest.approx(math.sqrt(sum((s - mean) ** 2 for s in scores) / 2))
    assert (row["n"], row["seeds"]) == (3, 3)
    single = row_of(results_table.summarise(built[0]), "low-rank", 0.5)
    assert math.isnan(single["score_std"])


def test_a_diverged_seed_is_not_averaged_away(built):
    before = row_of(results_table.summarise(built[0]), "distillation", 0.75)
    assert before["front_parameters"]
    hole = {"status": "diverged", "reason": "loss is NaN"}
    hole |= dict.fromkeys(("score", "valid_score"), float("nan"))
    cells = change(built, "distillation", 0.75, seed=2, **hole)
    row = row_of(results_table.summarise(cells), "distillation", 0.75)
    assert (row["n"], row["seeds"], row["status"]) == (2, 3, "diverged")
    assert not any(row[f"front_{cost}"] for cost in quantities.axes())


def test_zeros_do_not_make_the_front(built):
    summary = results_table.summarise(built[0])
    assert set(summary.loc[summary["sparse"], "recipe"]) == {"weight-pruning"}
    assert not summary.loc[summary["sparse"], "front_parameters"].any()


def test_a_teacher_that_was_never_trained_is_no_candidate(built):
    cells = built[0].copy()
    cells.loc[cells["teacher"] == "tiny-random", ["score", "valid_score"]] = 0.0  # better than all
    summary = results_table.summarise(cells).set_index("teacher")
    fronts = summary[[f"front_{cost}" for cost in quantities.axes()]]
    assert len(fronts.loc[["tiny-random"]]) and not fronts.loc[["tiny-random"]].any(axis=None)
    assert fronts.loc["tiny"].any(axis=None)


def test_a_lost_metric_name_is_found_again(built):
    cells = change(built, "head-pruning", 0.75, metric=None, better=None)
    row = row_of(results_table.summarise(cells), "head-pruning", 0.75)
    assert (row["metric"], row["better"]) == ("per", "lower")


def test_higher_may_be_better(built):
    cells = built[0].copy()
    for column in ("score", "valid_score"):
        cells[column] = 100 - cells[column]
    cells["better"] = "higher"
    summary, mirrored = results_table.summarise(built[0]), results_table.summarise(cells)
    for cost in quantities.axes():
        for front in (f"front_{cost}", f"test_front_{cost}"):
            assert (summary[front] == mirrored[front]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace('"per": ', '"per": NaN, "old": '), "NaN is no finite number"),
        (
            lambda text: text.replace('"per": ', '"per": 1e999, "old": '),
            "1e999 is no finite number",
        ),
        (lambda text: text.replace('"per": ', '"per": -1, "old": '), "-1 is less than the minimum"),
        (lambda text: text.replace('"per": ', '"per": null, "old": '), "is not of type 'number'"),
        (lambda text: text[:200], "not readable as JSON"),
        (lambda text: "[" * 100_000, "not readable as JSON"),
        (lambda text: "", "not readable as JSON"),
        (lambda text: text.replace('"seed": 1', '"seed": 7'), "result of another cell (seed 7)"),
        (lambda text: text.replace('"teacher": "tiny"', '"teacher": "big"'), "(teacher big)"),
    ],
)
def test_a_damaged_result_is_a_hole_and_enters_no_mean(tmp_path, damage, said):
    metrics, profiles = synthetic_results.write(tmp_path)
    phones = [file for file in metrics if file.stem == "phones"]
    file = next(f for f in phones if f.parts[-4:-1] == ("low-rank", "0.5", "1"))
    file.write_text(damage(file.read_text()))
    cells = results_table.build(
        results_table.read_results(phones), results_table.read_results(profiles)
    )
    rows = cells[(cells["recipe"] == "low-rank") & (cells["ratio"] == 0.5)]
    hole = rows[rows["seed"] == 1].iloc[0]
    assert hole["status"] == "damaged" and said in hole["reason"] and str(file) in hole["reason"]
    assert pd.isna(hole["score"])
    summary = results_table.summarise(cells)
    row = summary[(summary["recipe"] == "low-rank") & (summary["ratio"] == 0.5)].iloc[0]
    assert row["status"] == "damaged" and row["n"] == row["seeds"] - 1
    assert not any(row[f"front_{cost}"] for cost in quantities.axes())
    assert "1 damaged" in wording.completeness(cells)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value["metrics"].update(per=1e300), "is too high for a score in percent"),
        (lambda value: value["metric"].update(name="utterances"), "has no 'utterances'"),
        (
            lambda value: (
                value["metric"].update(better="higher") or value["metrics"].update(per=101)
            ),
            "too high",
        ),
        (lambda value: value.pop("metrics") and value.update(run=value["run"] | {}), "metrics"),
    ],
)
def test_a_score_that_is_none_is_damaged(tmp_path, change, said):
    file = synthetic_results.write(tmp_path)[0][0]
    value = result.read(file)
    value["metrics"]["per"] = 101.0
    change(value)
    file.write_text(json.dumps(value))
    found = result.read_cell(file)
    assert found["status"] == "damaged" and said in found["reason"] and str(file) in found["reason"]


def test_an_analysis_has_its_layers_and_a_folder_its_kind(tmp_path):
    layer = {"heads": [0, 1], "rows": 5, "attention": 3, "ffn": 2, "zeros": 0}
    sound = {"seconds": 1.0, "frames": 2, "cka": [[1.0]]}
    sound |= {"layers": {m: [layer] for m in ("teacher", "student")}}
    sound |= {"diagonality": {m: {"d": [[0.1, 0.2]]} for m in ("teacher", "student")}}
    run = {"study": "s", "teacher": "t", "recipe": "r", "ratio": 0.5, "seed": 1, "scope": "any"}
    run |= {"role": "student", "pretrained": True}
    run |= {"role": "student", "pretrained": True}
    good = result.compose(run, {}) | {"analysis": sound}
    bad = [
        (lambda a: a["layers"].update(teacher=None), "is not of type 'array'"),
        (lambda a: a["layers"]["teacher"][0].pop("rows"), "'rows' is a required property"),
        (lambda a: a["layers"]["teacher"][0].update(rows=-5), "-5 is less than the minimum"),
        (lambda a: a["diagonality"]["student"]["d"].append([0.1]), "other layers or heads"),
        (lambda a: a["diagonality"]["student"].update(d=[["x", 1]]), "is not of type 'number'"),
    ]
    file = tmp_path / "analysis" / "t" / "r" / "0.5" / "1" / "any.json"
    result.write(file, good)
    assert result.read_cell(file)["status"] == "ok"
    for change, said in bad:
        broken = copy.deepcopy(good)
        change(broken["analysis"])
        file.write_text(json.dumps(broken))
        found = result.read_cell(file)
        assert found["status"] == "damaged" and said in found["reason"], found["reason"]
    other = tmp_path / "profile" / "t" / "r" / "0.5" / "1" / "any.json"
    result.write(other, good)
    assert "has no `cost`" in result.read_cell(other)["reason"]


def test_a_damaged_profile_is_a_hole_too(tmp_path):
    metrics, profiles = synthetic_results.write(tmp_path)
    phones = [file for file in metrics if file.stem == "phones"]
    file = next(f for f in profiles if f.parts[-4:-1] == ("low-rank", "0.5", "1"))
    file.write_text(file.read_text().replace('"speedup": ', '"speedup": -1, "old": '))
    cells = results_table.build(
        results_table.read_results(phones), results_table.read_results(profiles)
    )
    hole = cells[(cells["recipe"] == "low-rank") & (cells["ratio"] == 0.5) & (cells["seed"] == 1)]
    assert (hole["status"] == "damaged").all() and hole["reason"].str.contains("profile: ").all()
