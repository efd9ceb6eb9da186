"""`compare`: students against the right teacher, on the same utterances, no hole without a word."""

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import aggregate
import compare
from helpers import synthetic_results
from helpers.checkout import ROOT
from helpers.hypervolume import hypervolume
from speech_pareto.reporting.tables import comparisons, systems
from speech_pareto.reporting.tables import results_table as table
from speech_pareto.reporting.tables.significance import holm, matched_pairs, mcnemar
from speech_pareto.runtime import result
from speech_pareto.study import quantities
from speech_pareto.tasks import hypotheses
from speech_pareto.tasks.kinds import ctc

NAMES = {
    "parquet": "c.parquet",
    "csv": "c.csv",
    "fronts": "f.csv",
    "pairs": "p.csv",
    "examples": "e.json",
}


def run(files, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare into `folder`; return the two tables."""
    metrics, hypotheses, profiles = files
    outputs = {key: folder / name for key, name in NAMES.items()}
    aggregate.main(metrics, profiles, folder / "r.parquet", folder / "r.csv")
    compare.main(folder / "r.parquet", hypotheses, **outputs)
    return pd.read_parquet(outputs["parquet"]), pd.read_csv(outputs["fronts"])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the synthetic grid's metrics, hypotheses and profiles."""
    metrics, profiles = synthetic_results.write(tmp_path_factory.mktemp("grid"))
    return metrics, synthetic_results.write_hypotheses(metrics), profiles


@pytest.fixture(scope="module")
def made(written, tmp_path_factory):
    """Return the comparisons and the fronts of the synthetic grid."""
    return run(written, tmp_path_factory.mktemp("tables"))


@pytest.fixture
def files(written, tmp_path):
    """Return copies of the phones' files, which a test may change."""
    root = written[0][0].parents[5]
    shutil.copytree(root, tmp_path / "grid", dirs_exist_ok=True)
    own = ([tmp_path / "grid" / f.relative_to(root) for f in kind] for kind in written)
    return tuple([f for f in kind if f.stem == "phones"] for kind in own)


def the(frame: pd.DataFrame, **values):
    """Return the only row with these values."""
    for column, value in values.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1, frame
    return frame.iloc[0]


def cell(files, recipe, ratio="0.5", seed=1, kind=1, teacher="tiny"):
    """Return the file of a cell: metrics (0), hypotheses (1) or profile (2)."""
    part = f"{teacher}/{recipe}/{ratio}/{seed}/phones"
    return next(file for file in files[kind] if part in str(file))


def errors_of(file, split="test") -> np.ndarray:
    """Return errors and lengths of a TSV's utterances, read in another way than `compare` does."""
    rows = pd.read_csv(file, sep="\t", keep_default_na=False)
    rows = rows[rows["split"] == split].reset_index(drop=True)
    return rows[["deletions", "insertions", "substitutions"]].sum(axis=1), rows["length"]


def edit(file, change):
    """Rewrite a TSV with its rows changed by a function."""
    with file.open(newline="") as stream:
        header, *rows = csv.reader(stream, delimiter="\t")
    rows = change(rows)
    with file.open("w", newline="") as stream:
        table = csv.writer(stream, delimiter="\t", lineterminator="\n")
        table.writerows([header, *rows])


def test_numbers_of_a_student(written, made):
    row = the(made[0], task="phones", recipe="low-rank", ratio=0.5)
    (errors, lengths), (teachers, _) = (
        errors_of(cell(written, recipe, ratio))
        for recipe, ratio in (("low-rank", "0.5"), ("identity", "0"))
    )
    difference = errors - teachers
    assert row["difference"] == pytest.approx(100 * difference.sum() / lengths.sum())
    assert row["difference"] == pytest.approx(row["score"] - row["teacher_score"], abs=2e-4)
    z = difference.mean() / (difference.std(ddof=1) / len(lengths) ** 0.5)
    assert row["z"] == pytest.approx(z)
    assert row["difference_low"] < row["difference"] < row["difference_high"]
    assert row["utterances"] == 412
    assert row["significant"]


def test_p_values_are_corrected_within_a_task(made):
    for _, rows in made[0][made[0]["status"] == "ok"].groupby("task"):
        assert rows["p_corrected"].to_list() == holm(rows["p"]).tolist()
        assert (rows["p_corrected"] > rows["p"]).any()
        expected = (rows["p_corrected"] < 0.05) & (rows["z"] > 0)
        assert rows["significant"].to_list() == expected.to_list()


def test_seeds_are_averaged_utterance_by_utterance(written, made):
    row = the(made[0], task="phones", recipe="low-rank", ratio=0.75)
    seeds = [errors_of(cell(written, "low-rank", "0.75", seed))[0] for seed in (1, 2, 3)]
    teachers, lengths = errors_of(cell(written, "identity", "0"))
    difference = sum(seeds) / 3 - teachers
    assert row["difference"] == pytest.approx(100 * difference.sum() / lengths.sum())
    assert row["z"] == pytest.approx(difference.mean() / (difference.std() / 412**0.5), rel=2e-3)
    assert row["difference_low"] < row["difference"] < row["difference_high"]
    assert (row["n"], row["seeds"]) == (3, 3)


def test_every_student_has_a_row_and_no_teacher(written, made):
    summary = table.summarise(
        table.build(table.read_results(written[0]), table.read_results(written[2]))
    )
    students = summary[summary["recipe"] != "identity"]
    assert made[0][table.GROUP].to_numpy().tolist() == students[table.GROUP].to_numpy().tolist()
    assert len(made[1]) == len(summary) * len(quantities.main_axes())


def test_holes_keep_their_reason(made):
    holes = made[0][made[0]["status"] != "ok"]
    assert set(holes["recipe"]) == {"head-pruning"} and len(holes) == 4
    assert holes["reason"].str.contains("heads hold too little").all()
    numbers = ["difference", "z", "p", "p_corrected", "significant", "utterances"]
    assert holes[numbers].isna().all(axis=None)
    points = made[1][made[1]["status"] != "ok"]
    assert set(points["recipe"]) == {"head-pruning"}
    assert points[["cost_value", "score", "tie"]].isna().all(axis=None)


@pytest.mark.slow
def test_a_student_with_a_diverged_seed_is_not_tested(files, tmp_path):
    file = cell(files, "low-rank", "0.75", 2, kind=0)
    value = result.read(file)
    status = {"status": "diverged", "reason": "loss is NaN"}
    result.write(file, result.compose(value["run"], {}, status=status))
    edit(file.with_suffix(".tsv"), lambda rows: [])
    row = the(run(files, tmp_path)[0], recipe="low-rank", ratio=0.75)
    assert (row["status"], row["n"], row["seeds"]) == ("diverged", 2, 3)
    assert np.isnan(row["difference"]) and pd.isna(row["significant"])


def moved(files, recipe: str, teacher: str):
    """Move the files of a recipe to where the students of another teacher have theirs."""
    for kind in files:
        for index, file in enumerate(kind):
            parts = list(file.parts)
            if parts[-4] != recipe:
                continue
            parts[-5] = teacher
            kind[index] = Path(*parts)
            kind[index].parent.mkdir(parents=True, exist_ok=True)
            file.rename(kind[index])
            if file.suffix == ".json":
                value = result.read(kind[index])
                value["run"]["teacher"] = teacher
                result.write(kind[index], value)


def test_each_student_meets_its_own_teacher(files, tmp_path):
    moved(files, "low-rank", "tiny-random")
    rows, _ = run(files, tmp_path)
    row = the(rows, recipe="low-rank", ratio=0.25)
    control, _ = errors_of(cell(files, "identity", "0", teacher="tiny-random"))
    errors, lengths = errors_of(cell(files, "low-rank", "0.25", teacher="tiny-random"))
    assert row["difference"] == pytest.approx(100 * (errors - control).sum() / lengths.sum())
    assert row["difference"] < 0 and row["z"] < 0 and not row["significant"]


@pytest.mark.slow
def test_without_a_teacher_there_is_no_verdict(files, tmp_path):
    moved(files, "low-rank", "orphan")
    row = the(run(files, tmp_path)[0], recipe="low-rank", ratio=0.25)
    assert (row["status"], row["reason"]) == ("no_teacher", "the study has no identity of orphan")
    file = cell(files, "identity", "0", kind=0)
    status = {"status": "out_of_memory", "reason": "2 GiB were not enough"}
    result.write(file, result.compose(result.read(file)["run"], {}, status=status))
    rows, _ = run(files, tmp_path)
    assert (rows["status"] != "ok").all() and rows["p"].isna().all()
    assert the(rows, recipe="distillation", ratio=0.5)["reason"] == "identity: out_of_memory"


@pytest.mark.parametrize("recipe", ["identity", "head-pruning/0.5"])
def test_teachers_or_holes_alone(files, tmp_path, recipe):
    chosen = [[file for file in kind if f"tiny/{recipe}" in str(file)] for kind in files]
    rows, points = run(chosen, tmp_path)
    assert len(rows) == (recipe != "identity") and rows["p"].isna().all()
    assert len(points) == len(quantities.main_axes()) and points["tie"].isna().all()
    cells = table.build(table.read_results(chosen[0]), table.read_results(chosen[2]))
    assert not table.summarise(cells, rows)["as_good"].any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: [[*rows[0][:3], "other words", *rows[0][4:]], *rows[1:]],
            "test0 has another",
        ),
        (lambda rows: [["en/x", *rows[0][1:]], *rows[1:]], "en/test0 is in one alone"),
        (lambda rows: [*rows[1:], rows[0]], "another order"),
    ],
)
def test_other_utterances_are_an_error_that_names_the_files(files, tmp_path, change, message):
    file, teacher = cell(files, "low-rank"), cell(files, "identity", "0")
    edit(file, change)
    with pytest.raises(ValueError, match=message) as error:
        run(files, tmp_path)
    assert str(file) in str(error.value) and str(teacher) in str(error.value)


@pytest.mark.slow
def test_counts_that_are_not_the_score_are_an_error(files, tmp_path):
    file = cell(files, "low-rank")
    edit(file, lambda rows: rows[:-1])
    with pytest.raises(
        ValueError, match=rf"{re.escape(str(file))}: its errors of split valid give per \d"
    ):
        run(files, tmp_path)
    file.write_text(file.read_text().replace("insertions", "inserted"))
    with pytest.raises(ValueError, match="has no column 'insertions'"):
        run(files, tmp_path)


@pytest.mark.slow
def test_higher_is_better(files, made, tmp_path):
    for file in files[0]:
        value = result.read(file)
        if value["status"] == "ok":
            for section in ("metrics", "valid_metrics"):
                value[section]["accuracy"] = 100 - value[section]["per"]
            value["metric"] = {"name": "accuracy", "better": "higher"}
            result.write(file, value)
    rows, points = run(files, tmp_path)
    before = made[0][made[0]["task"] == "phones"].reset_index(drop=True)
    assert rows["difference"].to_list() == pytest.approx(
        (-before["difference"]).to_list(), nan_ok=True
    )
    assert rows["difference_low"].to_list() == pytest.approx(
        (-before["difference_high"]).to_list(), nan_ok=True
    )
    assert rows["significant"].equals(before["significant"])
    fronts = made[1][made[1]["task"] == "phones"].reset_index(drop=True)
    assert points["hypervolume"].equals(fronts["hypervolume"])
    assert points["tie"].equals(fronts["tie"])
    assert set(points["reference_score"]) == {0}


def test_classes_are_compared_by_mcnemars_test_but_means_over_seeds_by_matched_pairs(
    files, tmp_path
):
    synthetic_results.classify(*files[:2])
    rows, _ = run(files, tmp_path)
    teacher, _ = errors_of(cell(files, "identity", "0"))
    for ratio, seeds in (("0.5", [1]), ("0.75", [1, 2, 3])):
        row = the(rows, recipe="low-rank", ratio=float(ratio))
        errors = [errors_of(cell(files, "low-rank", ratio, seed))[0] for seed in seeds]
        test = mcnemar if len(seeds) == 1 else matched_pairs
        wanted = test(np.mean(errors, axis=0), teacher)
        assert (row["z"], row["p"]) == pytest.approx(wanted, rel=1e-9, abs=0)
        points = row["score"] - row["teacher_score"]
        assert row["z"] > 0 and row["difference"] == pytest.approx(points, abs=1e-3)
        assert row["difference"] < 0 and row["better"] == "higher"


def test_word_errors_are_those_that_evaluate_counted(tmp_path):
    pytest.importorskip("jiwer")
    pairs = [("the cat sat", "a cat sat down"), ("no", ""), ("one two three", "two one three")]
    references, guesses = (list(texts) for texts in zip(*pairs, strict=True))
    metrics, counts = ctc.Task({"unit": "characters"}).score(references, guesses)
    rows = [
        {"id": f"u{i}", "corpus": "c", "split": "test", "reference": one, "hypothesis": other}
        | count
        for i, ((one, other), count) in enumerate(zip(pairs, counts, strict=True))
    ]
    hypotheses.write_table(tmp_path / "h.tsv", rows)
    _, errors, lengths = systems.read_errors(tmp_path / "h.tsv", "wer")
    assert errors.tolist() == [2, 1, 2] and lengths.tolist() == [3, 1, 3]
    assert 100 * errors.sum() / lengths.sum() == pytest.approx(metrics["wer"], abs=1e-4)
    _, errors, lengths = systems.read_errors(tmp_path / "h.tsv", "cer")
    assert 100 * errors.sum() / lengths.sum() == pytest.approx(metrics["cer"], abs=1e-4)
    apart = [{k: v for k, v in row.items() if k not in hypotheses.WORDS} for row in rows]
    hypotheses.write_table(tmp_path / "p.tsv", apart)  # of a task whose symbols are words
    assert systems.read_errors(tmp_path / "p.tsv", "wer")[1].tolist() == errors.tolist()


@pytest.mark.slow
def test_the_same_bytes_in_any_order(written, tmp_path):
    run(written, tmp_path / "a")
    run([kind[::-1] for kind in written], tmp_path / "b")
    for name in NAMES.values():
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_hypervolumes(made):
    rows = made[1][(made[1]["task"] == "phones") & (made[1]["cost"] == "macs_per_second")]
    assert rows["reference_cost"].nunique() == rows["reference_score"].nunique() == 1
    teacher = the(rows, teacher="tiny", recipe="identity")
    corner = (teacher["cost_value"], 100.0)
    assert (rows["reference_cost"] == corner[0]).all() and teacher["hypervolume"] == 0
    for _, points in rows[rows["status"] == "ok"].groupby(["teacher", "recipe"]):
        assert points["hypervolume"].nunique() == 1
        point = points.iloc[0]
        expected = 100 * hypervolume(points[["cost_value", "score"]], corner)
        assert point["hypervolume"] == pytest.approx(expected / np.prod(corner), abs=1e-3)
        assert point["hypervolume_low"] <= point["hypervolume"] <= point["hypervolume_high"]


@pytest.mark.slow
def test_ties_on_a_front(files, tmp_path):
    # one error more than the teacher on either split, and cheaper
    file = cell(files, "low-rank", "0.25")
    shutil.copy(cell(files, "identity", "0"), file)

    def one_more(rows):
        for split in ("test", "valid"):
            first = next(row for row in rows if row[2] == split)
            first[7] = str(int(first[7]) + 1)
        return rows

    edit(file, one_more)
    value = result.read(file.with_suffix(".json"))
    for split, section in (("test", "metrics"), ("valid", "valid_metrics")):
        errors, lengths = errors_of(file, split)  # last of validation
        value[section]["per"] = round(100 * errors.sum() / lengths.sum(), 4)
    result.write(file.with_suffix(".json"), value)
    rows, points = run(files, tmp_path)
    row = the(rows, recipe="low-rank", ratio=0.25)
    assert (row["z"], row["significant"]) == (pytest.approx(1.0), False)
    for cost, rows in points[points["on_front"]].groupby("cost"):
        rows = rows.sort_values("cost_value")
        cheaper, dearest = rows.iloc[:-1], rows.iloc[-1]
        assert cheaper["next_recipe"].to_list() == rows["recipe"].to_list()[1:]
        assert pd.isna(dearest["next_recipe"]) and pd.isna(dearest["tie"])
        tied = the(rows, recipe="low-rank", ratio=0.25)
        assert tied["next_recipe"] == "identity" and tied["tie"], cost
        assert tied["difference"] == pytest.approx(100 / lengths.sum())
        assert not cheaper.iloc[0]["tie"]
    assert points.loc[~points["on_front"], "tie"].isna().all()


def test_columns_are_documented():
    text = (ROOT / "docs" / "results.md").read_text()
    names = [*comparisons.COMPARISONS, *comparisons.FRONTS]
    assert [name for name in names if f"`{name}`" not in text] == []
