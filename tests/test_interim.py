"""`interim`: what is there of a study that runs, n of N, and nothing of it is touched."""

import shutil

import pandas as pd
import pytest
import yaml

from helpers.commands import command
from helpers.planning import STUDY
from speech_pareto.reporting import interim
from speech_pareto.study.config import resolve

pytestmark = pytest.mark.slow  # each writes all tables

RECIPES = {"identity": ["identity"], "low-rank": ["low_rank"], "distillation": ["distillation"]}


@pytest.fixture
def study(tmp_path, tables, monkeypatch):
    """Return a folder with a part of a study's results and its config."""
    monkeypatch.chdir(tmp_path)
    for name in ("metrics", "profile"):
        shutil.copytree(tables.parent / name, tmp_path / "results" / name)
    teachers = {"tiny": {"path": "resources/teachers/tiny"}}
    grid = [{"ratios": [0.5, 0.75], "seeds": [1, 2]}]
    tasks = {name: STUDY["tasks"][name] | {"start": "finetuned"} for name in STUDY["tasks"]}
    parts = {"recipes": RECIPES, "teachers": teachers, "grid": grid, "tasks": tasks}
    config = resolve(yaml.safe_load(yaml.safe_dump(STUDY | parts)))
    (tmp_path / "results" / "run_config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path / "results"


def snapshot(folder):
    files = [f for f in folder.rglob("*") if f.is_file() and interim.FOLDER not in f.parts]
    return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def test_what_is_there_is_shown_with_what_is_not(study, capsys):
    (study / "profile/tiny/distillation/0.75/1/phones.json").unlink()
    before = snapshot(study)
    command("interim")
    assert snapshot(study) == before
    text = capsys.readouterr().out
    # 20 cells: of them 0.5 has one seed, and so has the teacher
    assert "phones: phone error rate in %, lower is better; 6 of 10 cells done, 4 pending" in text
    assert "distillation: pending at 0.5 (1 of 2 seeds done), 0.75 (1 of 2 seeds done)" in text
    board = pd.read_csv(study / "interim" / "leaderboard.csv")
    row = board.query("task == 'phones' and recipe == 'distillation' and ratio == 0.75").iloc[0]
    assert (row["done"], row["status"]) == ("1/2", "pending")
    assert row["reason"] == "waits for profile"
    assert "1/2" in (study / "interim" / "leaderboard.md").read_text()
    page = (study / "interim" / "report.html").read_text()
    assert '"base":"../"' in page and '"reason":"waits for evaluate and profile"' in page
    assert not board.query("status == 'pending'")["front_parameters"].any()


def test_nothing_is_there_yet(study, capsys):
    shutil.rmtree(study / "metrics")
    command("interim", "--results", study)
    assert capsys.readouterr().out.startswith("0 of 20 cells done")
    assert not (study / "interim").exists()


def test_results_that_cannot_be_compared_are_shown_all_the_same(study, capsys):
    file = study / "metrics/tiny/low-rank/0.5/1/phones.tsv"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")
    command("interim")
    said = capsys.readouterr()
    assert "The comparisons are left out" in said.err
    assert "low-rank" in said.out


def test_a_study_that_never_started(tmp_path):
    with pytest.raises(SystemExit, match="has Snakemake started this study here"):
        command("interim", "--results", tmp_path)


@pytest.mark.slow
def test_the_target_works_beside_a_running_study(study, snakemake, tree):
    shutil.copytree(study, tree / "results")
    shutil.copy(study / "run_config.yaml", tree / "config" / "config.yaml")
    locks = tree / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("results/tables/results.parquet\n")
    done = snakemake(tree, "interim", "--cores", "1", "--nolock")
    assert "6 of 10 cells done" in done.stdout or "7 of 10 cells done" in done.stdout
    assert (tree / "results" / "interim" / "report.html").is_file()
    assert list(locks.iterdir()) == [locks / "0.output.lock"]
