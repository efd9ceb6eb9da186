"""Figures that only some tasks have: layers of a probe, confusions, added errors, label budgets."""

import csv

import numpy as np
import pytest

import aggregate
import plot
from helpers import synthetic_results
from helpers.figures import words
from speech_pareto.reporting.figures import canvas, confusion, label_budgets, probes
from speech_pareto.reporting.figures import error_rates as errors_figure
from speech_pareto.reporting.tables import added_errors, analysis, confusions, results_table
from speech_pareto.reporting.tables.answers import Answered
from speech_pareto.runtime import result
from speech_pareto.study.figures import label_budgets as label_budgets_of

ROLES = synthetic_results.ROLES


def test_probes_are_drawn_by_depth(tmp_path):
    key = {"teacher": "tiny", "seed": 1, "pretrained": True}
    files = {}
    for name, run, shares in [
        ("a", {"recipe": "identity", "ratio": 0.0}, [0.1, 0.2, 0.7]),
        ("b", {"recipe": "low-rank", "ratio": 0.5}, [0.4, 0.6]),
        ("c", {"recipe": "layer-drop", "ratio": 0.5}, None),
    ]:
        own = {"task": "pr", "role": ROLES[run["recipe"]]}
        files[name] = {"run": key | run | own, "status": "ok"}
        if shares:
            files[name]["layer_weights"] = shares
    rows = analysis.probes_of(analysis.build({}, files), "pr")
    assert rows["value"].tolist() == [0.1, 0.2, 0.7, 0.4, 0.6]
    figure = probes.probes(rows, "pr", ROLES)
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 1]
    assert sorted(list(line.get_xdata()) for line in lines) == [[0, 0.5, 1], [0, 1]]
    assert {"teacher (tiny)", "low-rank −50 %"} <= set(words(figure).splitlines())
    assert "no probe" in words(probes.probes(rows[:0], "pr", []))


def results(tmp_path, tasks=("phones",)):
    """Return the files of a synthetic grid: metrics, utterances; its table, its summary."""
    metrics, profiles = synthetic_results.write(tmp_path, tasks)
    files = synthetic_results.write_hypotheses(metrics)
    return metrics, profiles, files


def tables(metrics, profiles, files, folder):
    """Aggregate the files; return the table's path and what was answered."""
    aggregate.main(metrics, profiles, folder / "r.parquet", folder / "r.csv")
    cells = results_table.read(folder / "r.parquet")
    named = {str(one): str(other) for one, other in zip(metrics, files, strict=True)}
    return folder / "r.parquet", Answered(cells, results_table.summarise(cells), named)


def test_confusions_are_of_the_best_student_and_its_teacher(tmp_path):
    metrics, profiles, files = results(tmp_path)
    synthetic_results.classify(metrics, files)
    table, answered = tables(metrics, profiles, files, tmp_path)
    classes, found = confusions.build(answered, "phones")
    assert classes == ["en", "es", "fr"]
    summary = answered.summary
    students = summary[(summary["kind"] == "student") & (summary["status"] == "ok")]
    best = students.loc[students["valid_score"].idxmax()]
    keys = [("tiny", "identity", 0.0), tuple(best[["teacher", "recipe", "ratio"]])]
    assert [one.key for one in found] == keys
    for one in found:
        assert one.counts.sum() == 412 and (one.counts.sum(1) >= 137).all()
        assert 100 * np.trace(one.counts) / 412 == pytest.approx(one.score, abs=1e-3)
        assert one.counts[0, 2] == 0 and one.counts[0, 1] > 0  # `classify` takes the next name
    figure = confusion.draw(answered, "phones", ROLES)
    assert str(found[0].counts[0, 1]) in words(figure).split()
    names = [axes.get_title() for axes in figure.axes]
    assert names[0].startswith("teacher (tiny): ") and names[1].startswith(best["recipe"])
    none = answered._replace(summary=summary[:0])
    assert "no model" in words(confusion.draw(none, "phones", ROLES))
    same_bytes(tmp_path, table, "confusion", files)


def test_many_classes_have_no_room_for_counts(tmp_path):
    metrics, profiles, files = results(tmp_path)
    synthetic_results.classify(metrics, files, [f"word{i}" for i in range(50)])
    _, answered = tables(metrics, profiles, files, tmp_path)
    figure = confusion.draw(answered, "phones", ROLES)
    assert not figure.axes[0].texts and not len(figure.axes[0].get_xticks())


def same_bytes(folder, table, kind, files):
    """Draw a figure twice and compare."""
    outputs = [folder / f"f.{suffix}" for suffix in canvas.FORMATS]
    plot.main(table, "phones", kind, outputs, hypotheses=files)
    before = [file.read_bytes() for file in outputs]
    plot.main(table, "phones", kind, outputs, hypotheses=files)
    assert [file.read_bytes() for file in outputs] == before


def spoil(file, make):
    """Give each row of a TSV of utterances the reference and hypothesis that `make` returns."""
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    for number, row in enumerate(rows):
        reference, hypothesis = make(number)
        row |= {"reference": " ".join(reference), "hypothesis": " ".join(hypothesis)}
        row |= {"length": len(reference)}
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_errors_that_compression_adds_are_counted(tmp_path):
    """All take p for t; students leave out r the more the smaller they are, and some a is e."""
    metrics, profiles, files = results(tmp_path)

    def student(number, ratio):
        return "pat" if number % 4 < 4 * ratio else "petr"

    for file in files:
        recipe, ratio = file.parts[-4:-2]
        if result.read(file.with_suffix(".json"))["status"] == "ok":
            known = recipe == "identity"
            spoil(file, lambda n: ("tatr", "patr" if known else student(n, float(ratio))))  # noqa: B023
    table, answered = tables(metrics, profiles, files, tmp_path)
    sorts, models = added_errors.build(answered, "phones")
    assert sorts == [[("a", "e")], [("r", "")]]
    teacher, *students = models
    assert teacher.rates == {("t", "p"): 250.0}
    sizes = [one.key[2] for one in students]
    assert sizes == sorted(sizes) and 2 <= len(students) <= 3
    summary = answered.summary
    front = summary[summary["front_parameters"] & (summary["kind"] == "student")]
    on_front = {tuple(row) for row in front[["teacher", "recipe", "ratio"]].to_numpy().tolist()}
    assert {one.key for one in students} <= on_front
    upper, lower = errors_figure.draw(answered, "phones", ROLES).axes
    assert [label.get_text() for label in upper.get_yticklabels()] == ["a → e"]
    assert [label.get_text() for label in lower.get_yticklabels()] == ["r left out"]
    names = [text.get_text() for text in upper.get_legend().get_texts()]
    assert names[0].startswith("teacher (tiny): ") and len(names) == len(models)
    same_bytes(tmp_path, table, "errors", files)
    none = answered._replace(summary=summary[summary["kind"] != "student"])
    assert "no student" in words(errors_figure.draw(none, "phones", ROLES))


def test_symbols_are_phones_characters_or_whole_answers():
    row = {"reference": "a b", "hypothesis": "a c", "length": "2"}
    assert added_errors.rates([row]) == {("b", "c"): 500.0}
    row = {"reference": "a b", "hypothesis": "ab", "length": "3"}
    assert added_errors.rates([row]) == {(" ", ""): pytest.approx(1000 / 3)}
    row = {"reference": "left", "hypothesis": "right", "length": "1"}
    assert added_errors.rates([row, row | {"hypothesis": "left"}]) == {("left", "right"): 500.0}


def test_scores_are_drawn_over_labelled_hours(tmp_path):
    metrics, profiles, _ = results(tmp_path, ("phones", "characters"))
    _, answered = tables(metrics, profiles, [*metrics], tmp_path)
    summary = answered.summary
    # two tasks of one metric, as a family has
    summary.loc[summary["task"] == "characters", "metric"] = "per"
    hours = {"characters": 0.17, "phones": None}
    figure = label_budgets.draw(summary, hours, ROLES)
    figure.canvas.draw()
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks == ["10 min", "all"]
    curves = [one for one in figure.axes[0].containers if len(one[0].get_xdata()) == 2]
    assert curves and all(list(one[0].get_xdata()) == [0.17, 0.34] for one in curves)
    drawn = {round(float(one[0].get_ydata()[1]), 6) for one in curves}
    own = summary[(summary["task"] == "phones") & summary["score"].notna()]
    assert drawn == {round(min(score, 100.0), 6) for score in own["score"]}
    assert "never pretrained (tiny-random)" in words(figure)
    assert "no task" in words(label_budgets.draw(summary[:0], hours, ROLES))


def test_tasks_that_differ_in_their_hours_are_a_family():
    task = {"kind": "ctc", "unit": "phones", "protocol": "finetune"}
    tasks = {
        "all": task,
        "hour": task | {"train_hours": 1.0},
        "minutes": task | {"train_hours": 0.17},
        "probe": task | {"protocol": "probe", "train_hours": 1.0},
        "again": task | {"unit": "characters"},
        "same": task | {"unit": "characters"},
    }
    found = label_budgets_of({"tasks": tasks}, tasks)
    assert found == {"all": {"all": None, "hour": 1.0, "minutes": 0.17}}
