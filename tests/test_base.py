"""HuBERT Base as published, with random weights, through every method and every job on real speech.

Its config is transformers' default: twelve layers of width 768, group norm in the stem, layerdrop
and dropouts of 0.1, SpecAugment on.  What such a model meets, the tiny teacher hides.

Every method makes its student. What follows is the same for all students of a kind, so that one of
each kind is fine-tuned and scored, and some are analysed, measured and exported;
`pytest tests/test_base.py --base-in-full` takes all of them, in half an hour.
"""

import json
import math
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

import analyse
import compress
import evaluate
import export
import finetune
import profile_student
from speech_pareto.compression import catalogue, recipes
from speech_pareto.data.corpus import read, samples_file, write
from speech_pareto.models import backbone
from speech_pareto.runtime import result

TASK = {"kind": "ctc", "unit": "characters", "languages": ["en"], "protocol": "finetune"}
TASK |= {"metric": "cer", "precision": "fp32"}
RUN = {"study": "base", "teacher": "base", "recipe": "r", "seed": 1, "config": {}}
RUN |= {"role": "student", "pretrained": True}
TRAINING = {"steps": 1, "learning_rate": 1e-4, "batch_seconds": 1.5, "precision": "fp32"}
TRAINING |= {"dropout": 0.1, "mask_share": 0.2, "mask_span": 5}
PROFILE = {"audio_seconds": 1, "batch": 1, "repeats": 1, "threads": 1}
# Settings that the examples of the contract leave to defaults made for hours of speech.
SMALL = {"batch_seconds": 1.5, "unit_seconds": 3.0, "units": 4, "batches": 1}
# They invert a matrix of 3,072 x 3,072 in each layer, one like the other: two layers are enough.
SOLVERS = ("gptq", "sparse_gpt")
# Matrices cut, reused maps, factors, zeros that stay, fewer layers, half of the frames, int8, few
# bits, fp16.
TUNED = ("ffn_pruning", "attention_reuse", "low_rank", "weight_pruning", "distilhubert")
TUNED += ("fithubert", "int8", "intx", "half_precision")
# Smaller matrices, zeros, a thin student with half of the frames. Half precision takes a processor
# without such arithmetic as long as these three: test_analyse.py and test_profile.py have it small.
MEASURED = ("ffn_pruning", "weight_pruning", "fithubert")
EXPORTED = ("distilhubert",)  # with one layer; test_export.py has every kind of layer, in small


@pytest.fixture(scope="module")
def corpus(prompts_en, tmp_path_factory):
    """Return a corpus of the shortest English prompts: five to train on, two each to test on."""
    folder = tmp_path_factory.mktemp("short")
    rows, waves, begin = [], [], 0
    for split, number in (("train", 5), ("valid", 2), ("test", 2)):
        spoken = [u for u in read(prompts_en) if u.split == split and u.seconds > 0.8 and u.text]
        for utterance in sorted(spoken, key=lambda u: u.samples)[:number]:
            first = utterance.offset
            waves.append(np.array(utterance.audio[first : first + utterance.samples]))
            rows.append(replace(utterance, offset=begin))
            begin += utterance.samples
    write(folder, rows)
    shutil.copy(prompts_en / "README.md", folder)
    with samples_file(folder / "audio.npy") as append:
        for wave in waves:
            append(wave)
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Return a function: the folder of a HuBERT Base with random weights, of so many layers."""

    @cache
    def of(layers):
        folder = tmp_path_factory.mktemp("base") / "teacher"
        torch.manual_seed(0)
        backbone.save(backbone.new({"model_type": "hubert", "num_hidden_layers": layers}), folder)
        return folder

    return of


def step_of(name):
    """Return a step of a recipe with the smallest settings of its method."""
    kind = catalogue.load(name)
    known = {key: value for key, value in SMALL.items() if hasattr(kind, key)}
    known |= {"parts": "ffn"} if name == "low_rank" else {}  # half of the time, and matrices alike
    return {name: known | dict(kind.example) | {k: v for k, v in known.items() if k != "units"}}


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.names())
def test_base_goes_through_every_job(name, teacher, corpus, tmp_path, request):
    in_full = request.config.getoption("--base-in-full")
    teacher = teacher(2 if name in SOLVERS and not in_full else 12)
    torch.set_num_threads(1)
    config = json.loads((teacher / "config.json").read_text())
    steps = [step_of(name)]
    asked = 0.84 if name in EXPORTED else 0.25 if catalogue.load(name).removes else 0.0
    ratio = recipes.solve(steps, config, asked).ratio
    student = tmp_path / "student"
    run = RUN | {"ratio": round(ratio, 6), "scope": "any"}
    compress.main(steps, ratio, 1, teacher, [corpus], run, student, None, "fp32", 1, TASK)
    assert result.read_status(student) is None
    if in_full or name in TUNED:
        go_on(name, steps, run, teacher, student, corpus, in_full)
    shutil.rmtree(tmp_path)


def go_on(name, steps, run, teacher, student, corpus, in_full):
    """Fine-tune a student and score it; some are analysed, measured and exported."""
    folder = student.parent
    tuned = folder / "tuned"
    finetune.main(TASK, TRAINING, student, [corpus], 1, tuned)
    assert result.read_status(tuned) is None
    files = {kind: folder / f"{kind}.json" for kind in ("metrics", "analysis", "cost", "export")}
    cell = {k: v for k, v in run.items() if k != "scope"} | {"task": "characters"}
    evaluate.main(TASK, tuned, [corpus], cell, files["metrics"], folder / "hypotheses.tsv")
    made = ["metrics"]
    if in_full or name in MEASURED:
        analyse.main(teacher, student, [corpus], run, files["analysis"])
        profile_student.main(PROFILE, teacher, student, run, files["cost"], recipe=steps)
        made += ["analysis", "cost"]
    if in_full or name in EXPORTED:
        export.main(TASK, tuned, [corpus], cell, folder / "model.onnx", files["export"])
        made += ["export"]
    for kind in made:
        found = result.read_json(files[kind])
        halves = kind == "export" and name == "half_precision"  # no onnxruntime for CPUs has them
        assert found["status"] == ("unsupported" if halves else "ok"), found["reason"]
        assert all(map(math.isfinite, numbers(found))), kind
    scored = result.read_json(files["metrics"])
    assert scored["metrics"]["utterances"] == 2 and scored["left_out"] == {}


def numbers(value):
    """Yield all numbers in nested JSON."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers(inner)
    elif isinstance(value, int | float):
        yield value
