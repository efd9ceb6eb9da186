"""ONNX files: the same numbers as torch on real recordings, whatever the student and the batch."""

import hashlib
import json

import numpy as np
import onnx
import pytest
import torch

import export
from helpers.backbones import convolutional as any_convolutional
from helpers.backbones import cut
from helpers.results import SCORED
from speech_pareto.data.batches import collate
from speech_pareto.models import backbone as model
from speech_pareto.models import quantisation, surgery
from speech_pareto.runtime.result import write_status
from speech_pareto.tasks.recogniser import EndToEnd, load_recogniser, open_session
from speech_pareto.tasks.task import TaskModel, make_task, save_head

TASK = {"kind": "ctc", "unit": "characters", "languages": ["en"], "protocol": "finetune"}
# Each layer takes seconds to export: only where layers differ are there several.
SMALL = {"hidden": 48, "layers": 1, "heads": 4, "ffn": 64, "pos_conv": 16}
# Frames of 20 ms, as published models have them: four times as many take sixteen times as long.
FRAMES = {"conv_kernel": [20, 16], "conv_stride": [20, 16]}


def convolutional(kind, **settings):
    """Return the config of a tiny model with a convolutional stem."""
    return any_convolutional(kind, **FRAMES, **settings)


def section(config, **settings):
    """Return a backbone with random weights whose `compression` section holds `settings`."""
    config = config.to_dict() | {"compression": settings}
    made = model.build(config)
    shapes = made.state_dict().items()
    made.load_state_dict({k: 0.1 * torch.randn(v.shape) for k, v in shapes}, assign=True)
    return made


def small_numbers(name):
    """Return a log-mel HuBERT in int8 or half precision."""
    made = model.new(model.tiny_config(**SMALL))
    quantisation.set_precision(made, name)
    made.config.compression = made.config.compression | {"number_format": name}
    return made


def thin(kind, **settings):
    """Return a cut model with convolutional stem that wants normalised samples."""
    return cut(model.new(convolutional(kind, layers=2, feat_extract_norm="layer", **settings)))


def thin_stem(kind, **settings):
    """Return a model with some channels of its stem."""
    made = section(convolutional(kind, layers=1, feat_extract_norm="group"), **settings)
    surgery.keep_channels(made, 0, torch.arange(0, 16, 2))
    surgery.keep_channels(made, 1, torch.arange(0, 24, 3))
    return made


def with_gaps(kind):
    """Return a model of layers without attention or feed-forward part, two of which run twice."""
    made = model.new(convolutional(kind))
    for layer in (made.encoder.layers[0], made.encoder.layers[2]):
        surgery.keep_heads(layer, ())
    for layer in made.encoder.layers[1:]:
        surgery.keep_rows(layer, torch.arange(0))
    surgery.keep_layers(made, [0, 0, 1, 2, 2])
    return made


TWICE = "thin stem, half of the frames"  # exported again: the same bytes
REUSE = [{}, {"reuse": "map"}, {"reuse": "softmax", "heads": [0, 2]}]
CHUNKS = {"chunk": 8, "left": 20}
POOLING = {"factor": 1.5, "after": 1}
STUDENTS = {
    "log-mel": ("finetune", lambda: model.new(model.tiny_config(**SMALL))),
    "thin stem, half of the frames": ("finetune", lambda: thin_stem("hubert", time_reduction=2)),
    "thin stem, data2vec": ("finetune", lambda: thin_stem("data2vec-audio")),
    "hubert": ("probe", lambda: thin("hubert")),
    "wav2vec2": ("finetune", lambda: thin("wav2vec2", do_stable_layer_norm=True)),
    "wavlm": ("probe", lambda: thin("wavlm")),
    "reuse": ("finetune", lambda: section(convolutional("wavlm"), layers=REUSE)),
    "gaps": ("finetune", lambda: with_gaps("wavlm")),
    "pooled": ("probe", lambda: section(convolutional("wavlm"), frame_pooling=POOLING)),
    "chunks": ("probe", lambda: section(convolutional("hubert"), streaming=CHUNKS)),
    "int8": ("finetune", lambda: small_numbers("int8")),
}


def store(folder, backbone, protocol="finetune"):
    """Write a student with a random head; return its settings."""
    settings = TASK | {"protocol": protocol}
    texts = {"provenance.json": json.dumps({"task": settings})}
    model.save(backbone, folder, texts=texts)
    task = make_task(settings, list("abcdefghij"))
    save_head(TaskModel(backbone, task.outputs, protocol), task, folder)
    return settings


def run(folder, source, settings, corpus):
    """Export; return the file and its report."""
    folder.mkdir(exist_ok=True)
    file, report = folder / "student.onnx", folder / "student.json"
    export.main(settings, source, [corpus], SCORED, file, report)
    assert sorted(path.name for path in folder.iterdir()) == ["student.json", "student.onnx"]
    return file, json.loads(report.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDENTS)
def test_onnxruntime_computes_what_torch_does(name, tmp_path, prompts_en):
    torch.manual_seed(0)
    protocol, make = STUDENTS[name]
    settings = store(tmp_path / "student", make(), protocol)
    file, report = run(tmp_path / "out", tmp_path / "student", settings, prompts_en)
    assert report["status"] == "ok" and report["symbols"] == list("abcdefghij")
    assert report["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    check = report["check"]
    assert check["recordings"] == export.UTTERANCES and check["seconds"] > 10
    assert check["largest_difference"] <= check["tolerance"]
    assert check["alone_or_in_batch"] <= check["tolerance"]
    onnx.checker.check_model(file, full_check=True)
    assert str(export.__file__).encode() not in file.read_bytes()  # nor any line of the code
    # samples that count as padding are silent, whatever they hold
    session, lengths = open_session(file), np.array([9000, 4001])
    waves = np.random.default_rng(0).normal(0, 0.1, (2, 9000)).astype(np.float32)
    scores, frames = session.run(None, {"waves": waves, "lengths": lengths})
    alone, _ = session.run(None, {"waves": waves[1:, :4001], "lengths": lengths[1:]})
    assert np.abs(np.exp(scores).sum(-1) - 1).max() < 1e-4
    assert np.abs(scores[1, : frames[1]] - alone[0]).max() < check["tolerance"]
    if name == TWICE:
        again, _ = run(tmp_path / "again", tmp_path / "student", settings, prompts_en)
        assert again.read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_a_file_that_computes_something_else_is_none(tmp_path, prompts_en, monkeypatch):
    settings = store(tmp_path / "student", model.new(convolutional("hubert", layers=1)))

    def spoil(made):
        with torch.no_grad():
            made.model.head.bias[0] += 0.1

    monkeypatch.setattr(export, "unparametrize", spoil)
    file, report = run(tmp_path / "out", tmp_path / "student", settings, prompts_en)
    assert report["status"] == "different" and not file.stat().st_size
    assert "from torch's, more than 0.001" in report["reason"]
    with pytest.raises(ValueError, match="from torch's, more than 0.001"):
        load_recogniser(file)


def test_half_precision_is_refused(tmp_path, prompts_en):
    settings = store(tmp_path / "student", small_numbers("float16"))
    file, report = run(tmp_path / "out", tmp_path / "student", settings, prompts_en)
    assert report["status"] == "unsupported" and not file.stat().st_size
    assert report["reason"] == "onnxruntime does not compute all of a float16 model on a CPU"


def test_exits_are_refused(tmp_path, prompts_en):
    exits = {"threshold": 1.0, "units": 4, "first": 1}
    made = section(convolutional("wavlm"), early_exit=exits)
    settings = store(tmp_path / "student", made)
    file, report = run(tmp_path / "out", tmp_path / "student", settings, prompts_en)
    assert report["status"] == "unsupported" and not file.stat().st_size
    assert report["reason"].startswith("an exported file runs all layers")


def test_a_hole_stays_a_hole(tmp_path, prompts_en):
    write_status(tmp_path / "student", "infeasible", "too few heads", 0.25)
    file, report = run(tmp_path / "out", tmp_path / "student", TASK, prompts_en)
    assert (report["status"], report["reachable"]) == ("infeasible", 0.25)
    assert not file.stat().st_size


@pytest.mark.parametrize("name", ["log-mel", "wav2vec2"])
def test_end_to_end_is_the_model_on_what_evaluation_gives_it(name):
    protocol, make = STUDENTS[name]
    task_model = TaskModel(make(), 5, protocol).eval()
    assert task_model.backbone.preprocessor["do_normalize"] == (name == "wav2vec2")
    waves = [0.1 + 0.05 * np.random.default_rng(n).normal(size=n) for n in (8000, 5120, 6123)]
    waves = [wave.astype(np.float32) for wave in waves]
    padded, mask = collate(waves)
    inputs = collate(waves, task_model.backbone.preprocessor["do_normalize"])
    with torch.no_grad():
        logits, frames = task_model(*inputs)
        scores, counts = EndToEnd(task_model)(padded, mask.sum(1))
    assert torch.equal(frames, counts)
    assert torch.allclose(scores, logits.log_softmax(-1), atol=1e-5)
