"""Scores: checked by an edit distance of our own, the same whatever the batch, holes passed on."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import evaluate
import finetune
from helpers.results import SCORED
from speech_pareto.data import corpus as corpora
from speech_pareto.data.audio import pieces
from speech_pareto.data.corpus import LeftOut, Utterance, read
from speech_pareto.data.recording import SPLITS
from speech_pareto.data.selection import select
from speech_pareto.models.backbone import load, new, save, tiny_config
from speech_pareto.runtime.result import write_status
from speech_pareto.tasks.kinds import ctc
from speech_pareto.tasks.kinds.ctc import Task
from speech_pareto.tasks.task import load_task_model
from speech_pareto.training import inference

pytestmark = pytest.mark.slow  # a model is fine-tuned first

TASK = {
    "kind": "ctc",
    "unit": "characters",
    "languages": ["en"],
    "protocol": "finetune",
    "metric": "cer",
}


def distance(a, b):
    """Return the edit distance of two sequences."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(row[-1] + 1, above[j] + 1, above[j - 1] + (x != y)))
    return row[-1]


@pytest.mark.parametrize("unit", ["phones", "characters"])
def test_errors_are_edit_distances(unit, monkeypatch):
    monkeypatch.setattr(ctc, "ALIGNED", 2)  # of three
    references, hypotheses = ["a b c d", "b b", "x"], ["a c d d", "", "x y"]
    metrics, counts = Task({"unit": unit}).score(references, hypotheses)
    split = str.split if unit == "phones" else list
    expected = [distance(split(r), split(h)) for r, h in zip(references, hypotheses, strict=True)]
    kinds = ("deletions", "insertions", "substitutions")
    assert [sum(count[k] for k in kinds) for count in counts] == expected
    if unit == "characters":
        pairs = zip(references, hypotheses, strict=True)
        wrong, words = sum(distance(r.split(), h.split()) for r, h in pairs), 4 + 2 + 1
        assert metrics["wer"] == pytest.approx(100 * wrong / words, abs=1e-4)
    length = sum(len(split(r)) for r in references)
    assert metrics["per" if unit == "phones" else "cer"] == pytest.approx(
        100 * sum(expected) / length, abs=1e-4
    )
    assert sum(metrics[k] for k in kinds) == pytest.approx(100 * sum(expected) / length, abs=1e-3)


def test_decoding_drops_repeats_and_blanks():
    task = Task({"unit": "characters"}, ["a", "b"])
    path = torch.tensor([[1, 1, 0, 1, 2, 2, 0, 1]])
    logits = torch.nn.functional.one_hot(path, 3).float()
    assert task.decode(logits, torch.tensor([7])) == ["aab"]  # the last frame is padding


@pytest.fixture(scope="module")
def model(prompts_en, tmp_path_factory):
    """Folder of a briefly fine-tuned small model."""
    root = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save(new(tiny_config(hidden=48, layers=2, heads=4, ffn=96, pos_conv=16)), root / "backbone")
    training = {"steps": 60, "batch_seconds": 24, "learning_rate": 3e-3, "precision": "fp32"}
    finetune.main(TASK, training, root / "backbone", [prompts_en], 1, root / "tuned")
    return root / "tuned"


def score(model, prompts_en, folder):
    """Evaluate; return the result and the rows."""
    folder.mkdir()
    files = folder / "m.json", folder / "m.tsv"
    evaluate.main({**TASK, "precision": "fp32"}, model, [prompts_en], SCORED, *files)
    with files[1].open(encoding="utf-8", newline="") as file:
        return json.loads(files[0].read_text()), list(csv.DictReader(file, delimiter="\t")), files


@pytest.mark.slow
def test_the_result_agrees_with_its_rows_and_repeats(model, prompts_en, tmp_path, monkeypatch):
    result, rows, files = score(model, prompts_en, tmp_path / "a")
    assert result["status"] == "ok" and result["run"] == SCORED
    assert result["metric"] == {"name": "cer", "better": "lower"}
    splits = {u.split: set() for u in read(prompts_en)}
    for utterance in read(prompts_en):
        splits[utterance.split].add(utterance.id)
    for split, section in (("valid", "valid_metrics"), ("test", "metrics")):
        own, metrics = [row for row in rows if row["split"] == split], result[section]
        assert len(own) == metrics["utterances"] > 10
        assert {row["id"] for row in own} <= splits[split]
        errors = sum(distance(row["reference"], row["hypothesis"]) for row in own)
        length = sum(len(row["reference"]) for row in own)
        assert metrics["cer"] == pytest.approx(100 * errors / length, abs=1e-3)
        assert metrics["by_corpus"]["prompts"]["cer"] == metrics["cer"]
        assert metrics["by_language"]["en"]["cer"] == metrics["cer"]
    assert {row["split"] for row in rows} == {"valid", "test"}
    again, _, other = score(model, prompts_en, tmp_path / "b")
    assert [f.read_bytes() for f in files] == [f.read_bytes() for f in other]
    monkeypatch.setattr(inference, "BATCH_SECONDS", {"cpu": 0.0})  # one utterance at a time
    assert score(model, prompts_en, tmp_path / "c")[0]["metrics"] == metrics


def test_a_hole_has_a_status_and_no_rows(prompts_en, tmp_path):
    write_status(tmp_path / "hole", "infeasible", "too few heads", 0.25)
    result, rows, _ = score(tmp_path / "hole", prompts_en, tmp_path / "a")
    assert (result["status"], result["reachable"], rows) == ("infeasible", 0.25, [])
    assert not {"metrics", "valid_metrics"} & set(result)


@pytest.mark.slow
def test_a_probe_says_what_it_listens_to(model, prompts_en, tmp_path):
    task = {**TASK, "protocol": "probe"}
    training = {"steps": 3, "batch_seconds": 24, "learning_rate": 3e-1, "precision": "fp32"}
    finetune.main(task, training, model.parent / "backbone", [prompts_en], 1, tmp_path / "probe")
    evaluate.main(
        task, tmp_path / "probe", [prompts_en], SCORED, tmp_path / "m.json", tmp_path / "t"
    )
    found = json.loads((tmp_path / "m.json").read_text())["layer_weights"]
    trained = load_file(tmp_path / "probe" / "head.safetensors")["layer_weights"]
    assert found == pytest.approx((trained.exp() / trained.exp().sum()).tolist(), abs=1e-5)
    assert len(found) == 3 and max(found) > 0.34  # an even sum would have 0.333 each


def test_what_is_left_out_stands_in_the_result(prompts_en, model, tmp_path):
    corpus = tmp_path / "prompts"
    shutil.copytree(prompts_en, corpus)
    lost = [
        LeftOut("en/gone", "test", "en", "empty", "it holds no samples"),
        LeftOut("en/other", "train", "en", "silent", "all its samples are the same"),
        LeftOut("fr/gone", "test", "fr", "empty", "it holds no samples"),
    ]
    corpora.write(corpus, read(corpus), lost)
    task = {**TASK, "languages": ["en"]}
    data, losses = select(task, Task(task), [corpus], *SPLITS)
    test = losses["prompts"]["test"]
    assert test["empty"] == 1 and losses["prompts"]["train"]["silent"] == 1
    told_of = sum(sum(reasons.values()) for reasons in losses["prompts"].values())
    assert len(data) + told_of == len(read(corpus)) + 2
    evaluate.main(task, model, [corpus], SCORED, tmp_path / "s.json", tmp_path / "s.tsv")
    assert json.loads((tmp_path / "s.json").read_text())["left_out"] == losses


@pytest.mark.slow
def test_long_test_utterances_are_scored(model, prompts_en, tmp_path):
    """LibriSpeech's test sets go to 35 s; what is longer still is recognised in windows."""
    spelt = [u for u in read(prompts_en) if not Task(TASK).obstacle(u)]
    short = [u for u in spelt if u.split == "test" and 2 < u.seconds < 6]
    groups, rows, waves, begin = [short[:1], short[:8], short[:16]], [], [], 0
    for number, group in enumerate(groups):
        wave = np.concatenate([u.audio[u.offset : u.offset + u.samples] for u in group])
        text = " ".join(u.text for u in group)
        place = begin, len(wave)
        rows.append(Utterance(str(number), text, "a", "", "", "en", "test", *place, "prompts"))
        waves.append(wave)
        begin += len(wave)
    place = begin - len(waves[2]), len(waves[0])  # as the longest begins
    rows.append(Utterance("v", rows[0].text, "a", "", "", "en", "valid", *place, "prompts"))
    assert 20 < rows[1].seconds < 40 < rows[2].seconds
    (tmp_path / "long").mkdir()
    corpora.write(tmp_path / "long", rows)
    with corpora.samples_file(tmp_path / "long" / "audio.npy") as append:
        for wave in waves:
            append(wave)
    evaluate.main(TASK, model, [tmp_path / "long"], SCORED, tmp_path / "s.json", tmp_path / "s.tsv")
    scored = json.loads((tmp_path / "s.json").read_text())
    assert scored["metrics"]["utterances"] == 3 and scored["left_out"] == {}
    guesses = [
        row["hypothesis"]
        for row in csv.DictReader((tmp_path / "s.tsv").open(), delimiter="\t")
        if row["split"] == "test"
    ]
    settings = {**TASK, "precision": "fp32"}
    task_model, task = load_task_model(settings, load(model), model)
    parts = list(pieces(waves[2].astype(np.float32) / 32768))
    assert len(parts) > 1
    windows = [
        replace(rows[2], offset=0, samples=len(part), audio=(part * 32768).astype(np.int16))
        for part in parts
    ]
    [texts] = inference.transcribe(task_model, task, windows, "fp32")
    assert guesses[2] == task.join(texts)


def spoken(text, seconds=3.0, phones="a", split="train"):
    """Return an utterance of a test."""
    samples = int(16_000 * seconds)
    return Utterance("1", text, phones, "", "", "en", split, 0, samples)


@pytest.mark.parametrize(
    ("unit", "utterance", "reason"),
    [
        ("characters", spoken("był"), ""),
        ("characters", spoken(""), "no text"),
        ("characters", spoken("press 1"), "digits"),
        ("characters", spoken("…"), "no letters"),
        ("characters", spoken("a" * 100, 0.5), "more characters than frames"),
        ("phones", spoken("á", phones=""), "no phones"),
        ("phones", spoken("a", 0.02), "more phones than frames"),
        ("characters", spoken("a", 20.1), "longer than 20 s"),
        ("characters", spoken("a", 20.1, split="test"), ""),
        ("characters", spoken("a" * 100, 0.5, split="test"), ""),
        ("characters", spoken("", split="test"), "no text"),
    ],
)
def test_each_utterance_that_is_left_out_has_a_reason(unit, utterance, reason):
    assert Task({"unit": unit}).obstacle(utterance) == reason
