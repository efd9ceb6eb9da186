"""Fine-tuning, on real prompts: it learns, resumes, continues a head, and passes holes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import compress
import evaluate
import finetune
from helpers.checkout import ROOT
from speech_pareto.data.corpus import read
from speech_pareto.models.backbone import load, new, save, tiny_config
from speech_pareto.models.spec_augment import masking
from speech_pareto.runtime.result import read_status, write_status
from speech_pareto.tasks.recogniser import load_recogniser
from speech_pareto.tasks.task import TaskModel
from speech_pareto.training.finetuning import regularised
from speech_pareto.training.loop import Diverged, every_layer_runs
from speech_pareto.training.settings import FineTuning

TASK = {"kind": "ctc", "unit": "characters", "languages": ["en"], "protocol": "finetune"}
TRAINING = {"steps": 12, "batch_seconds": 12, "learning_rate": 1e-3, "precision": "fp32"}
SCRIPTS = ROOT / "workflow/scripts"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """Folder of a small random backbone."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "backbone"
    save(new(tiny_config(hidden=48, layers=2, heads=4, ffn=96, pos_conv=16)), folder)
    return folder


def tune(backbone, prompts_en, output, task=TASK, state=None, seed=1, part=None, **training):
    """Fine-tune for some steps; `part` may say until which, and from what it goes on."""
    settings = {**TRAINING, **training}
    finetune.main(task, settings, backbone, [prompts_en], seed, output, state, **part or {})
    return output


def weights(folder):
    """Return the bytes of all weights in a folder."""
    return [(folder / name).read_bytes() for name in ("model.safetensors", "head.safetensors")]


def loud(folder, wave, gain):
    """Return the log-probabilities (frames, outputs) of a recording that is so much louder."""
    return load_recogniser(folder).run(gain * wave[None], np.array([len(wave)]))[0][0]


def test_with_do_normalize_it_does_not_matter_how_loud_a_recording_is(
    backbone, prompts_en, tmp_path
):
    wave = next(u for u in read(prompts_en) if u.seconds > 1).wave()
    assert load(backbone).preprocessor["do_normalize"] is False
    for given in (None, True):
        folder = tune(backbone, prompts_en, tmp_path / str(given), do_normalize=given)
        heard = [loud(folder, wave, gain) for gain in (1.0, 0.1)]
        assert np.allclose(*heard, atol=1e-3) == bool(given)
        spoken = [u.wave().std() for u in read(prompts_en) if u.split == "train"]
        stem = load(folder).feature_extractor
        assert stem.loudness == pytest.approx(np.median(spoken) if given else 1.0, rel=0.05)
    again = tune(folder, prompts_en, tmp_path / "again", steps=1, do_normalize=True)
    assert load(again).feature_extractor.loudness == stem.loudness
    undone = tune(folder, prompts_en, tmp_path / "undone", steps=1, do_normalize=False)
    assert load(undone).feature_extractor.loudness == 1.0
    assert json.loads((undone / "config.json").read_text())["compression"] == {"stem": "log_mel"}


def test_a_student_that_hears_chunks_cannot_normalise_a_recording(backbone, prompts_en, tmp_path):
    student = tmp_path / "student"
    compress.main([{"streaming": {"chunk": 60, "steps": 0}}], 0.0, 1, backbone, [], {}, student)
    folder = tune(student, prompts_en, tmp_path / "tuned", do_normalize=True)
    assert read_status(folder)["status"] == "infeasible"
    assert "hears chunks" in read_status(folder)["reason"]


def test_it_learns_and_repeats_to_the_byte(backbone, prompts_en, tmp_path):
    augment = {"dropout": 0.1, "mask_share": 0.2, "mask_channels": 0.1, "speed": 0.1}
    first = tune(backbone, prompts_en, tmp_path / "a", **augment)
    second = tune(backbone, prompts_en, tmp_path / "b", **augment)
    other = tune(backbone, prompts_en, tmp_path / "c", seed=2, **augment)
    assert weights(first) == weights(second) != weights(other)
    curve = json.loads((first / "training.json").read_text())
    assert curve[-1]["loss"] < 0.7 * curve[0]["loss"]


@pytest.mark.slow
def test_the_clean_steps_hear_the_recordings_as_they_are(backbone, prompts_en, tmp_path):
    augment = {"mask_share": 0.2, "mask_channels": 0.1, "speed": 0.1}
    plain = tune(backbone, prompts_en, tmp_path / "a")
    clean = tune(backbone, prompts_en, tmp_path / "b", **augment, clean=1.0)
    half = tune(backbone, prompts_en, tmp_path / "c", **augment, clean=0.5)
    masked = tune(backbone, prompts_en, tmp_path / "d", **augment)
    assert weights(plain) == weights(clean)
    assert len({weights(folder)[0] for folder in (plain, half, masked)}) == 3


@pytest.mark.slow
def test_a_killed_fine_tuning_ends_with_the_same_bytes(backbone, prompts_en, tmp_path):
    whole = tune(backbone, prompts_en, tmp_path / "whole", steps=30)
    arguments = (TASK, {**TRAINING, "steps": 30, "checkpoint_seconds": 0})
    call = (
        f"import finetune; finetune.main(*{arguments!r}, {str(backbone)!r}, [{str(prompts_en)!r}],"
        f" 1, {str(tmp_path / 'killed')!r}, {str(tmp_path / 'state')!r})"
    )
    child = subprocess.Popen([sys.executable, "-c", call], cwd=SCRIPTS, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not list((tmp_path / "state").rglob("checkpoint-*")) and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL and not (tmp_path / "killed").exists()
    tune(backbone, prompts_en, tmp_path / "killed", state=tmp_path / "state", steps=30)
    assert weights(whole) == weights(tmp_path / "killed")
    assert not (tmp_path / "state").exists()


def test_rungs_end_with_the_bytes_of_a_fine_tuning_that_was_never_cut(
    backbone, prompts_en, tmp_path
):
    augment = {"dropout": 0.1, "mask_share": 0.2, "speed": 0.1, "clean": 0.2, "steps": 9}
    whole = tune(backbone, prompts_en, tmp_path / "whole", **augment)
    earlier, below = None, []
    for until in (2, 5, None):
        state, folder = tmp_path / "state", tmp_path / f"until-{until}"
        part = {"until": until, "earlier": earlier}
        earlier = tune(backbone, prompts_en, folder, state=state, part=part, **augment)
        below.append(weights(folder))
    assert below[-1] == weights(whole) and len({rung[0] for rung in below}) == 3
    last = tmp_path / "until-None"
    assert (last / "training.json").read_bytes() == (whole / "training.json").read_bytes()
    assert not list(last.glob("checkpoint-*"))
    write_status(tmp_path / "hole", "diverged", "the loss is nan")
    tune(backbone, prompts_en, tmp_path / "out", part={"earlier": tmp_path / "hole"})
    assert read_status(tmp_path / "out")["status"] == "diverged"


def test_a_student_keeps_the_head_that_it_brings(backbone, prompts_en, tmp_path):
    first = tune(backbone, prompts_en, tmp_path / "a")
    still = tune(first, prompts_en, tmp_path / "b", steps=1, learning_rate=0.0)
    assert weights(first) == weights(still)


def test_a_probe_leaves_the_backbone_as_it_is(backbone, prompts_en, tmp_path):
    probe = tune(backbone, prompts_en, tmp_path / "p", task={**TASK, "protocol": "probe"})
    before, after = load(backbone).state_dict(), load(probe).state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    head = load_file(probe / "head.safetensors")
    assert head["layer_weights"].shape == (3,) and head["layer_weights"].abs().max() > 0


def test_a_probed_backbone_is_frozen_and_draws_no_dropout():
    made = new(tiny_config(hidden=48, layers=2, heads=4, ffn=96, pos_conv=16, hidden_dropout=0.5))
    probe, inputs = TaskModel(made, 3, "probe").train(), (torch.randn(1, 4000), torch.ones(1, 4000))
    logits, _ = probe(*inputs)
    assert torch.equal(logits, probe(*inputs)[0])
    logits.sum().backward()
    assert probe.head.weight.grad is not None and probe.layer_weights.grad is not None
    assert all(parameter.grad is None for parameter in made.parameters())


def test_a_diverged_run_is_a_status(backbone, prompts_en, tmp_path):
    made = load(backbone)
    with torch.no_grad():  # as after a step that was too large
        made.encoder.layers[0].feed_forward.output_dense.weight.fill_(torch.inf)
    save(made, tmp_path / "far")
    tune(tmp_path / "far", prompts_en, tmp_path / "d")
    assert read_status(tmp_path / "d")["status"] == "diverged"


def test_a_hole_is_passed_on(prompts_en, tmp_path):
    write_status(tmp_path / "hole", "infeasible", "too few heads", 0.25)
    tune(tmp_path / "hole", prompts_en, tmp_path / "out")
    assert read_status(tmp_path / "out")["reason"] == "too few heads"


def test_corpora_without_usable_speech_are_named(backbone, prompts_en, tmp_path):
    with pytest.raises(ValueError, match="no training utterance of .*prompts suits the task"):
        tune(backbone, prompts_en, tmp_path / "x", task={**TASK, "languages": ["nl"]})


@pytest.mark.parametrize(("split", "name"), [("valid", "validation"), ("test", "test")])
def test_corpora_without_a_split_to_score_are_refused_before_training(
    split, name, backbone, prompts_en, tmp_path
):
    corpus = tmp_path / "own"
    shutil.copytree(prompts_en, corpus)
    table = (corpus / "manifest.tsv").read_text("utf-8").splitlines(keepends=True)
    kept = [row for row in table if split not in row.split("\t")]
    (corpus / "manifest.tsv").write_text("".join(kept), "utf-8")
    with pytest.raises(ValueError, match=f"no {name} utterance of .*own suits the task"):
        tune(backbone, corpus, tmp_path / "x", state=tmp_path / "state")
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
@pytest.mark.parametrize("step", ["int8", "half_precision"])
def test_small_numbers_recover_and_stay_small(step, backbone, prompts_en, tmp_path):
    compress.main([step], 0.0, 1, backbone, [], {}, tmp_path / "student")
    tune(tmp_path / "student", prompts_en, tmp_path / "tuned", steps=3)
    before, after = (load_file(tmp_path / x / "model.safetensors") for x in ("student", "tuned"))
    assert {k: v.dtype for k, v in after.items()} == {k: v.dtype for k, v in before.items()}
    key = "encoder.layers.0.feed_forward.intermediate_dense.weight"
    assert not torch.equal(before[key], after[key])
    output, hypotheses = tmp_path / "scores.json", tmp_path / "scores.tsv"
    run = {
        "study": "s",
        "role": "student",
        "pretrained": True,
        "teacher": "t",
        "recipe": "r",
        "ratio": 0.0,
        "seed": 1,
        "task": "characters",
    }
    run["config"] = {}
    task = {**TASK, "metric": "cer"}
    evaluate.main(task, tmp_path / "tuned", [prompts_en], run, output, hypotheses)
    assert json.loads(output.read_text())["status"] == "ok"


@pytest.mark.parametrize("kind", ["hubert", "wavlm", "data2vec-audio"])
def test_without_dropout_nothing_in_a_layer_is_dropped_and_all_comes_back(kind):
    widths = {"hidden_size": 48, "num_attention_heads": 6, "intermediate_size": 96}
    stem = {"conv_dim": [32] * 7, "num_conv_pos_embedding_groups": 4}
    made = new({"model_type": kind, **widths, **stem, "mask_time_prob": 0.0})  # defaults otherwise
    model, settings = TaskModel(made, 5, "finetune"), FineTuning(steps=1, learning_rate=1e-3)
    before = made.config.to_dict()
    waves, found = 0.1 * torch.randn(2, 8000), []
    mask = torch.ones(2, 8000).long()
    model.train()
    with every_layer_runs(model), regularised(model, settings):
        for seed in (1, 2):
            torch.manual_seed(seed)
            found.append(model(waves, mask)[0])
    assert torch.equal(*found)
    hidden = replace(settings, mask_share=0.4, mask_span=4)  # the model has no mask vector
    with every_layer_runs(model), regularised(model, hidden):
        frames = model.frames(8000)
        with masking(made, on=True):
            masked = model(waves, mask, torch.arange(frames).expand(2, -1) < 5)[0]
        with masking(made, on=True, channels=0.5):
            channels = model(waves, mask)[0]
    assert not torch.equal(masked, found[0]) and not torch.equal(channels, found[0])
    assert made.config.to_dict() == before and not hasattr(made, "masked_spec_embed")
    assert {layer.attention.dropout for layer in made.encoder.layers} == {0.1}
    frozen = replace(settings, freeze_stem=True)
    with pytest.raises(Diverged), regularised(model, frozen):
        learnt = {name for name, p in made.named_parameters() if p.requires_grad}
        stem = {name for name, p in made.named_parameters() if "feature_extractor" in name}
        assert stem and learnt == {name for name, _ in made.named_parameters()} - stem
        raise Diverged("on purpose")
    assert all(parameter.requires_grad for parameter in made.parameters())
    assert {layer.attention.dropout for layer in made.encoder.layers} == {0.1}
