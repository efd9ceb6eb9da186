"""The whole workflow, for real, on real prompts at 8 kHz: every rule that needs no internet."""

import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from helpers.checkout import ROOT, called_in, run_snakemake
from helpers.corpora import write_recordings
from speech_pareto.runtime import result
from speech_pareto.study import config, progress

TRAINED = "ffn-pruning/0.2/1/characters"


def watch(command: list, folder: Path) -> list[str]:
    """Run Snakemake and return what the table of states read meanwhile, and after."""
    texts, file = [], folder / "results" / "run_config.yaml"
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(run_snakemake, ROOT, *command, "--show-failed-logs")
        while not run.done():
            if file.is_file():
                texts.append(progress.text(config.load(file), Path()))
            time.sleep(2)
        run.result()
    return [*texts, progress.text(config.load(file), Path())]


def check_states(texts: list[str]) -> None:
    """A study goes from waiting by running to done, and says so."""
    counts = [
        {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", text.splitlines()[0])}
        for text in texts
    ]
    assert counts[0]["waiting"] == 4 and counts[0]["done"] == 0
    assert any(count["running"] for count in counts)
    assert any(0 < count["done"] < 4 for count in counts)
    assert [count["done"] for count in counts] == sorted(count["done"] for count in counts)
    assert not any(count["failed"] for count in counts)
    assert counts[-1]["done"] == 4
    assert any("pretrain_teacher/small, " in text for text in texts)
    assert all("No Snakemake" not in text and "Left: about " in text for text in texts[:1])
    assert "No Snakemake runs here. Nothing is left to do." in texts[-1]


@pytest.mark.slow(minutes=5)
def test_the_whole_workflow(tmp_path, prompts_en, monkeypatch):
    shutil.copytree(ROOT / "tests" / "smoke", tmp_path, dirs_exist_ok=True)
    write_recordings(tmp_path, prompts_en)
    command = called_in(tmp_path, 2)
    monkeypatch.chdir(tmp_path)
    check_states(watch(command, tmp_path))
    results = tmp_path / "results"
    study = yaml.safe_load((results / "run_config.yaml").read_text())
    assert set(study["recipes"]) == {"identity", "ffn-pruning", "distillation"}
    metrics = sorted((results / "metrics").rglob("*.json"))
    assert len(metrics) == 4
    for file in metrics:
        assert json.loads(file.read_text())["status"] == "ok", file
    for name in ("results.parquet", "comparisons.csv", "fronts.csv", "front.txt", "leaderboard.md"):
        assert (results / "tables" / name).stat().st_size
    for task in ("characters", "phones"):
        for kind in ("svg", "pdf", "png"):
            assert (results / "figures" / f"{task}-parameters.{kind}").stat().st_size
    assert not list(
        (tmp_path / "checkpoints").rglob("checkpoint-*")
    )  # they go once the output is there

    exported = f"results/runtimes/small/{TRAINED}"
    asked = "onnx: {threads: [1], numbers: [fp32, int8-dynamic]}\n"
    file = tmp_path / "onnx.yaml"
    file.write_text((tmp_path / "config" / "config.yaml").read_text() + asked)
    alone = [sys.executable, "-m", "snakemake", *command]  # with a Python of its own for the job
    subprocess.run([*alone, "--show-failed-logs", exported, "--configfile", file], check=True)
    report = result.read(tmp_path / exported / "report.json")
    assert "onnxruntime" in report["meta"]["versions"]
    scored = result.read(results / f"metrics/small/{TRAINED}.json")
    for file in report["runtimes"]["files"]:
        assert file["status"] == "ok" and file["times"][0]["seconds"] > 0
        assert file["metrics"]["utterances"] == scored["metrics"]["utterances"]

    done = run_snakemake(ROOT, *command)
    assert "Nothing to be done" in done.stdout + done.stderr

    run_snakemake(ROOT, *command, "--report", tmp_path / "snakemake.html")
    report = (tmp_path / "snakemake.html").read_text()
    for part in ("students against their teacher", "phones-parameters", "tables and budgets"):
        assert part in report

    # a student is damaged: its cell fails, and the table of states says why
    model = results / f"finetuned/small/{TRAINED}/model.safetensors"
    score = results / f"metrics/small/{TRAINED}.json"
    model.write_bytes(model.read_bytes()[:1000])
    score.unlink()
    target = score.relative_to(tmp_path)
    assert run_snakemake(ROOT, *command, target, check=False).returncode
    said = progress.text(config.load(results / "run_config.yaml"), Path())
    assert "4 cells, 3 done, 0 running, 1 failed, 0 waiting" in said
    where = f"evaluate/small/{TRAINED}"
    assert re.search(rf"failed:\n  {where}: [\w.]*Error", said), said
    assert f"(logs/{where}.log)" in said
