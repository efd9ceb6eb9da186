"""The whole workflow, for real, on invented recordings: every rule that needs no internet."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from conftest import ROOT, run_snakemake

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def write_recordings(folder: Path, count: int = 40) -> None:
    """Write WAV files at 8 kHz, in which each letter is a tone, and recordings.tsv."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(count):
        text = (
            f"{WORDS[number // 10]} {WORDS[number % 10]} {generator.choice(WORDS)}"  # no text twice
        )
        time = np.arange(800) / 8000
        tones = [np.sin(2 * np.pi * (300 + 80 * (ord(letter) - 96)) * time) for letter in text]
        wave = 0.3 * np.concatenate(tones) + 0.01 * generator.standard_normal(800 * len(tones))
        (folder / "recordings").mkdir(exist_ok=True)
        soundfile.write(folder / "recordings" / f"{number}.wav", wave, 8000)
        split = "test" if number % 5 == 0 else "valid" if number % 5 == 1 else "train"
        rows.append([f"recordings/{number}.wav", text, "", f"voice{number % 2}", split])
    with (folder / "recordings.tsv").open("w", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerows([["path", "text", "label", "speaker", "split"], *rows])


@pytest.mark.slow
def test_the_whole_workflow(tmp_path):
    shutil.copytree(ROOT / "tests" / "smoke", tmp_path, dirs_exist_ok=True)
    write_recordings(tmp_path)
    command = ["--snakefile", ROOT / "Snakefile", "--directory", tmp_path, "--cores", "2"]
    done = run_snakemake(ROOT, *command, "--show-failed-logs")
    results = tmp_path / "results"
    study = yaml.safe_load((results / "run_config.yaml").read_text())
    assert set(study["recipes"]) == {"identity", "ffn-pruning", "distillation"}
    metrics = sorted((results / "metrics").rglob("*.json"))
    assert len(metrics) == 6
    for file in metrics:
        assert json.loads(file.read_text())["status"] == "ok", file
    for name in ("results.parquet", "results.csv", "front.txt", "leaderboard.md"):
        assert (results / "tables" / name).stat().st_size
    for task in ("characters", "phones"):
        for kind in ("svg", "pdf", "png"):
            assert (results / "figures" / f"{task}-parameters.{kind}").stat().st_size
    assert not list((tmp_path / "checkpoints").rglob("*.pt"))  # they go once the output is there

    scores = {file: file.read_bytes() for file in metrics}
    students = {file: file.read_bytes() for file in results.rglob("model.safetensors")}
    assert students
    done = run_snakemake(ROOT, *command)
    assert "Nothing to be done" in done.stdout + done.stderr

    # once more from nothing: the same bytes
    for folder in ("models", "finetuned", "metrics"):
        shutil.rmtree(results / folder)
    run_snakemake(ROOT, *command, "--show-failed-logs")
    assert {file: file.read_bytes() for file in scores} == scores
    assert {file: file.read_bytes() for file in students} == students
