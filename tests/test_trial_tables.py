"""Tables of verification: students are compared over trials, and what cannot be is refused."""

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

import aggregate
import compare
import report
from helpers import synthetic_results
from speech_pareto.reporting.tables import results_table
from speech_pareto.reporting.tables.systems import read_trials, systems_of
from speech_pareto.runtime import result
from speech_pareto.tasks.detection import curve


def verified(metrics, hypotheses):
    """Turn the files of a task into those of a verification, the worse the higher its error was."""
    random = np.random.default_rng(0)
    pairs = random.permutation(list(itertools.combinations(range(60), 2)))[:400]
    hardness = random.normal(0, 1, 400)
    for number, (file, table) in enumerate(zip(metrics, hypotheses, strict=True)):
        value = result.read(file)
        if value["status"] != "ok":
            continue
        rows = []
        own = np.random.default_rng(number).normal(0, 0.3, (2, 400))
        for split, key, noise in (("valid", "valid_metrics", own[0]), ("test", "metrics", own[1])):
            target = np.arange(400) < 200
            apart = 4 - value[key]["per"] / 20
            scores = (target * apart + hardness + noise).round(6)
            value[key] = {"eer": round(100 * float(curve(scores, target).eer()), 4)}
            for (a, b), same, score in zip(pairs, target, scores, strict=True):
                row = {"id": f"{split}{a}", "corpus": "c", "split": split, "other": f"{split}{b}"}
                row |= {"other_corpus": "c", "reference": int(same), "score": f"{score:.6f}"}
                rows.append(row)
        value["metric"] = {"name": "eer", "better": "lower"}
        result.write(file, value)
        with table.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Return the folder of tables and the page of a made-up study of verification."""
    import pandas as pd

    root = tmp_path_factory.mktemp("grid")
    metrics, profiles = synthetic_results.write(root, ("phones",))
    hypotheses = synthetic_results.write_hypotheses(metrics)
    verified(metrics, hypotheses)
    folder = root / "tables"
    cells, compared = folder / "results.parquet", folder / "comparisons.parquet"
    beside = [folder / name for name in ("fronts.csv", "pairs.csv", "examples.json")]
    aggregate.main(metrics, profiles, cells, folder / "results.csv")
    compare.main(cells, hypotheses, compared, folder / "comparisons.csv", *beside)
    report.main(cells, compared, *beside, [folder / "front.txt", root / "report.html"])
    return root, pd.read_parquet(compared), dict(zip(metrics, hypotheses, strict=True))


def test_students_are_compared_by_a_paired_bootstrap_of_utterances(tables):
    root, rows, _ = tables
    rows = rows[rows["status"] == "ok"]
    far, near = rows.loc[rows["score"].idxmax()], rows.loc[rows["score"].idxmin()]
    assert far["significant"] and far["difference"] > 5 and far["difference_low"] > 0
    assert not near["significant"]
    for row in rows.itertuples():
        assert row.difference == pytest.approx(row.score - row.teacher_score, abs=1e-3)
        assert row.difference_low <= row.difference <= row.difference_high
        assert row.utterances == 400
        if row.z:
            assert row.p == pytest.approx(math.erfc(abs(row.z) / math.sqrt(2)))
            width = (row.difference_high - row.difference_low) / (2 * 1.96)
            assert abs(row.difference / row.z) == pytest.approx(width, rel=0.25)
    assert result.read_json(root / "tables" / "examples.json") == []  # a score is nothing to read
    fronts = (root / "tables" / "fronts.csv").read_text()
    assert "True" in fronts and len((root / "tables" / "pairs.csv").read_text().splitlines()) > 50
    text = (root / "tables" / "front.txt").read_text()
    assert "EER" in text
    assert "equal error rate" in (root / "report.html").read_text()


def with_score(line, score):
    """Return a row of a table with another score."""
    return "\t".join([*line.split("\t")[:-1], score])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: [*rows[:500], rows[500][:20]], "evaluate this cell again"),
        (lambda rows: [*rows[:500], with_score(rows[500], "nan"), *rows[501:]], "that are none"),
        (lambda rows: [*rows[:-100], *(with_score(row, "9") for row in rows[-100:])], "give eer"),
        (lambda rows: [*rows[:-1], rows[-1].replace("\t0\t", "\t1\t")], "another reference"),
        (lambda rows: rows[:-1], "is in one alone"),
    ],
)
def test_tables_of_trials_that_cannot_be_compared_are_refused(tables, change, said, tmp_path):
    root, _, files = tables
    cells = results_table.read(root / "tables" / "results.parquet")
    points = results_table.summarise(cells)
    hypotheses = {str(one): str(table) for one, table in files.items()}
    assert systems_of(cells, points, hypotheses, "test").utterances
    done = cells[(cells["status"] == "ok") & (cells["role"] == "student")].iloc[0]["metrics_file"]
    header, *rows = files[Path(done)].read_text().splitlines()
    changed = tmp_path / "changed.tsv"
    changed.write_text("\n".join([header, *change(rows)]) + "\n")
    hypotheses[done] = str(changed)
    if said in ("another reference", "is in one alone"):  # what is told first is a wrong score
        _, trials, values = read_trials(changed)
        own = cells["metrics_file"] == done
        cells.loc[own, "score"] = 100 * float(curve(values, trials.target).eer())
    with pytest.raises(ValueError, match=said) as told:
        systems_of(cells, points, hypotheses, "test")
    assert "changed.tsv" in str(told.value)
