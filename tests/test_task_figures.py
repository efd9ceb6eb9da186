"""Figures that only some tasks have: layers that a probe reads, confusions of classes."""

import numpy as np
import pytest

import aggregate
import plot
from helpers import synthetic_results
from helpers.figures import words
from speech_pareto.reporting.figures import canvas, confusion, probes
from speech_pareto.reporting.tables import analysis, confusions, results_table

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


def test_confusions_are_of_the_best_student_and_its_teacher(tmp_path):
    metrics, profiles = synthetic_results.write(tmp_path, ("phones",))
    files = synthetic_results.write_hypotheses(metrics)
    synthetic_results.classify(metrics, files)
    aggregate.main(metrics, profiles, tmp_path / "r.parquet", tmp_path / "r.csv")
    cells = results_table.read(tmp_path / "r.parquet")
    summary = results_table.summarise(cells)
    named = {str(one): str(other) for one, other in zip(metrics, files, strict=True)}
    classes, found = confusions.build(cells, summary, named, "phones")
    assert classes == ["en", "es", "fr"]
    students = summary[(summary["kind"] == "student") & (summary["status"] == "ok")]
    best = students.loc[students["valid_score"].idxmax()]
    keys = [("tiny", "identity", 0.0), tuple(best[["teacher", "recipe", "ratio"]])]
    assert [one.key for one in found] == keys
    for one in found:
        assert one.counts.sum() == 412 and (one.counts.sum(1) >= 137).all()
        assert 100 * np.trace(one.counts) / 412 == pytest.approx(one.score, abs=1e-3)
        assert one.counts[0, 2] == 0 and one.counts[0, 1] > 0  # `classify` takes the next name
    text = words(confusion.draw(classes, found, "phones"))
    assert str(found[0].counts[0, 1]) in text.split()
    names = [axes.get_title() for axes in confusion.draw(classes, found, "phones").axes]
    assert names[0].startswith("teacher (tiny): ") and names[1].startswith(best["recipe"])
    many = [one._replace(counts=np.eye(50, dtype=int)) for one in found]
    assert not confusion.draw([str(i) for i in range(50)], many, "phones").axes[0].texts
    assert "no model" in words(confusion.draw([], [], "phones"))
    outputs = [tmp_path / f"c.{kind}" for kind in canvas.FORMATS]
    plot.main(tmp_path / "r.parquet", "phones", "confusion", outputs, hypotheses=files)
    before = [file.read_bytes() for file in outputs]
    plot.main(tmp_path / "r.parquet", "phones", "confusion", outputs, hypotheses=files)
    assert [file.read_bytes() for file in outputs] == before
