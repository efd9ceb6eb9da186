"""The store: what was made once is taken, what changed is not, damage is seen."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.checkout import run_snakemake
from helpers.planning import method_file, write_study
from speech_pareto.runtime import store

STUDY = {
    "corpora": {"prompts": {"source": "prompts", "languages": ["en"]}},
    "teachers": {"tiny": {"path": "resources/teachers/tiny"}},
    "recipes": {"heads": ["head_pruning"], "low-rank": ["low_rank"]},
    "tasks": {
        "phones": {
            "corpora": ["prompts"],
            "metric": "per",
            "start": "backbone",
            "teacher": {"steps": 1, "learning_rate": 0.1},
            "student": {"steps": 1, "learning_rate": 0.1},
        }
    },
    "grid": [{"ratios": [0.2], "seeds": [1]}],
}
STUDENTS = {recipe: Path(f"results/models/tiny/{recipe}/0.2/1/any") for recipe in STUDY["recipes"]}


def compress(folder):
    """Make both students; return which came from the store, and their weights."""
    run_snakemake(folder, "--cores", "2", *STUDENTS.values())
    logs = {
        recipe: (folder / f"logs/compress/tiny/{recipe}/0.2/1/any.log").read_text()
        for recipe in STUDENTS
    }
    taken = {recipe for recipe, log in logs.items() if "taken from the store" in log}
    return taken, {
        recipe: (folder / path / "model.safetensors").read_bytes()
        for recipe, path in STUDENTS.items()
    }


@pytest.mark.slow
def test_two_clones_share_their_students(tree, tmp_path, monkeypatch):
    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "store"))
    write_study(tree, STUDY)
    other = tmp_path / "other" / "clone"
    other.parent.mkdir()
    shutil.copytree(tree, other, symlinks=True)
    write_study(other, STUDY | {"study": "another", "profile": {"repeats": 1}})
    taken, first = compress(tree)
    assert taken == set()
    taken, second = compress(other)
    assert taken == set(STUDENTS) and second == first
    assert "Nothing to be done" in run_snakemake(other, "-n", *STUDENTS.values()).stdout

    # a module that is imported, not the script: the other way round, the least important last
    file = method_file(other, "head_pruning")
    text = file.read_text()
    assert text.count("[head_scores(layer)") == 1
    file.write_text(text.replace("[head_scores(layer)", "[-head_scores(layer)"))
    for path in STUDENTS.values():
        shutil.rmtree(other / path)
    taken, third = compress(other)
    assert taken == {"low-rank"}
    assert third["low-rank"] == first["low-rank"] and third["heads"] != first["heads"]
    assert len(list((tmp_path / "store" / "compress").iterdir())) == 3


class Wildcards(dict):
    """As Snakemake's: a mapping of names."""


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "store"))
    source = tmp_path / "teacher"
    source.mkdir()
    (source / "model.safetensors").write_text("weights")
    (source / "provenance.json").write_text("made on a Monday")
    return SimpleNamespace(
        rule="compress",
        params=SimpleNamespace(
            job={"recipe": ["a"], "code": {"a.py": "01234567"}}, run={"study": "x"}
        ),
        wildcards=Wildcards(recipe="a", seed="1"),
        input=[str(source)],
        output=[str(tmp_path / "student")],
    )


def make(job):
    """Make a student; return whether that was needed."""
    made = []

    def write(text):
        made.append(text)
        folder = Path(job.output[0])
        (folder / "part").mkdir(parents=True)
        (folder / "part" / "file").write_text(text)

    store.stored(job, write, "a student")
    file = Path(job.output[0], "part", "file")
    assert file.read_text() == "a student"
    assert not (Path(job.output[0]) / store.SUMS).exists()
    shutil.rmtree(job.output[0])
    return bool(made)


def test_the_same_job_is_done_once(job, tmp_path):
    assert make(job) and not make(job)
    job.output = [str(tmp_path / "elsewhere")]
    job.params.run = {"study": "y"}
    Path(job.input[0], "provenance.json").write_text("made on a Tuesday")
    assert not make(job)
    assert [file.name for file in (tmp_path / "store" / "compress").iterdir()] == [store.key(job)]


@pytest.mark.parametrize("change", ["settings", "code", "seed", "input", "list"])
def test_what_matters_counts(job, change):
    make(job)
    match change:
        case "settings":
            job.params.job["recipe"] = ["b"]
        case "code":
            job.params.job["code"] = {"a.py": "76543210"}
        case "seed":
            job.wildcards["seed"] = "2"
        case "input":
            Path(job.input[0], "model.safetensors").write_text("others")
        case "list":
            job.input = [str(Path(job.input[0], "model.safetensors"))]
            assert make(job)
    assert make(job)


def test_damage_is_seen_and_repaired(job, tmp_path, caplog):
    make(job)
    (entry,) = (tmp_path / "store" / "compress").iterdir()
    (entry / "part" / "file").write_text("a stud")
    assert make(job)
    assert "its content is not what it was" in caplog.text
    assert not make(job)
    (entry / store.SUMS).unlink()
    assert make(job) and not make(job)


def test_a_store_that_cannot_be_written_costs_a_warning(job, tmp_path, caplog):
    (tmp_path / "store").write_text("a file, no folder")
    assert make(job) and make(job)
    assert "not kept in the store" in caplog.text


def test_lack_of_memory_is_not_shared(job):
    def fail():
        Path(job.output[0]).mkdir()
        Path(job.output[0], "status.json").write_text('{"status": "out_of_memory"}')

    store.stored(job, fail)
    shutil.rmtree(job.output[0])
    assert make(job)


def test_without_a_store_nothing_is_kept(job, monkeypatch, tmp_path):
    monkeypatch.delenv(store.VARIABLE)
    assert make(job) and make(job)
    assert not (tmp_path / "store").exists()
