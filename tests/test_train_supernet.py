"""The job that trains a supernet, and students of several ratios that other jobs cut from it."""

import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file

import compress
import train_supernet as job
from helpers.folders import files
from helpers.results import RUN
from speech_pareto.compression.parts.nested import Nested
from speech_pareto.models import architecture, backbone
from speech_pareto.models.model_folder import read_config
from speech_pareto.runtime.result import read_status, write_status
from speech_pareto.training import loop

METHOD = {"supernet": {"steps": 6, "batch_seconds": 2.0, "widths": [0.5, 1.0]}}


@pytest.fixture(scope="module")
def supernet(teacher_folder, corpus, tmp_path_factory):
    """Folder of a supernet."""
    folder = tmp_path_factory.mktemp("supernet") / "supernet"
    job.main(METHOD, 1, teacher_folder, [corpus], {"teacher": "t"}, folder, precision="fp32")
    return folder


def test_it_is_a_model_of_the_teachers_size_that_says_what_it_is(supernet, teacher_folder):
    assert sorted(files(supernet)) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "provenance.json",
        "readout.safetensors",
    ]
    size = architecture.count(read_config(teacher_folder))["total"]
    assert sum(p.numel() for p in backbone.load(supernet).parameters()) == size
    facts = json.loads((supernet / "provenance.json").read_text())
    assert facts["method"] == METHOD and facts["run"] == {"teacher": "t"}
    assert facts["meta"]["seed"] == 1
    assert "Supernet of t, by supernet" in (supernet / "README.md").read_text()


def test_students_are_cut_without_training_and_as_if_trained_alone(
    supernet, teacher_folder, corpus, tmp_path, monkeypatch
):
    alone = tmp_path / "alone"
    compress.main([METHOD], 0.5, 1, teacher_folder, [corpus], RUN, alone, precision="fp32")

    def refuse(*arguments, **settings):
        raise AssertionError("a student was trained")

    monkeypatch.setattr(loop, "train", refuse)
    for ratio in (0.2, 0.5):
        folder = tmp_path / f"{ratio}"
        compress.main([METHOD], ratio, 1, teacher_folder, [], RUN, folder, supernet=supernet)
        sizes = [architecture.remaining(read_config(x)) for x in (folder, teacher_folder)]
        assert 1 - sizes[0] / sizes[1] == pytest.approx(ratio, abs=0.01)
    one, other = (load_file(x / "model.safetensors") for x in (alone, tmp_path / "0.5"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_later_steps_of_a_recipe_train_what_is_cut(supernet, teacher_folder, corpus, tmp_path):
    recovery = {"distillation": {"steps": 2, "ratio": 0.0, "batch_seconds": 2.0}}
    for name, steps in (("cut", [METHOD]), ("recovered", [METHOD, recovery])):
        paths = teacher_folder, [corpus], RUN, tmp_path / name
        compress.main(steps, 0.5, 1, *paths, precision="fp32", supernet=supernet)
        assert read_status(tmp_path / name) is None
    one, other = (load_file(tmp_path / x / "model.safetensors") for x in ("cut", "recovered"))
    assert [x.shape for x in one.values()] == [x.shape for x in other.values()]
    assert not torch.equal(*(x["encoder.layers.0.attention.q_proj.weight"] for x in (one, other)))


def test_a_task_head_reads_a_narrower_student_through_the_readout(
    supernet, teacher_folder, tmp_path
):
    task, folder = tmp_path / "task", tmp_path / "student"
    backbone.save(backbone.load(teacher_folder), task)
    head = {"head.weight": torch.randn(3, 48), "head.bias": torch.randn(3)}
    save_file(head, task / compress.HEAD, {"symbols": "a\tb"})
    compress.main([METHOD], 0.85, 1, task, [], RUN, folder, supernet=supernet)
    assert read_config(folder)["hidden_size"] == 24
    channels = [12 * group + i for group in range(4) for i in range(6)]  # half of each
    readout = load_file(supernet / "readout.safetensors")
    weight = head["head.weight"] @ readout["weight"][:, channels]
    found = load_file(folder / compress.HEAD)
    assert torch.allclose(found["head.weight"], weight, atol=1e-6)
    bias = head["head.weight"] @ readout["bias"] + head["head.bias"]
    assert torch.allclose(found["head.bias"], bias, atol=1e-6)


def test_a_stopped_training_ends_with_the_same_bytes(
    supernet, teacher_folder, corpus, tmp_path, monkeypatch
):
    step, calls = loop._backward, []

    def stopping(*arguments):
        calls.append(len(calls))
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(loop, "_backward", stopping)
    folders = tmp_path / "again", tmp_path / "state"
    settings = {"precision": "fp32", "accumulate": 1}
    with pytest.raises(SystemExit, match="143"):
        job.main(METHOD, 1, teacher_folder, [corpus], {"teacher": "t"}, *folders, **settings)
    assert folders[1].is_dir() and not folders[0].exists()
    job.main(METHOD, 1, teacher_folder, [corpus], {"teacher": "t"}, *folders, **settings)
    assert 6 <= len(calls) < 10 and not folders[1].exists()
    assert files(folders[0]) == files(supernet)


def test_what_cannot_be_trained_leaves_its_status_and_students_pass_it_on(
    teacher_folder, corpus, tmp_path, monkeypatch
):
    write_status(tmp_path / "failed", "diverged", "on purpose")
    job.main(METHOD, 1, tmp_path / "failed", [corpus], {}, tmp_path / "a")
    assert read_status(tmp_path / "a")["status"] == "diverged"
    compress.main(["head_pruning"], 0.1, 1, teacher_folder, [], RUN, tmp_path / "pruned")
    job.main(METHOD, 1, tmp_path / "pruned", [corpus], {}, tmp_path / "b")
    assert read_status(tmp_path / "b")["status"] == "infeasible"

    def diverge(*arguments):
        raise loop.Diverged("the loss is nan")

    monkeypatch.setattr(Nested, "begin", diverge)
    job.main(METHOD, 1, teacher_folder, [corpus], {}, tmp_path / "c")
    compress.main(
        [METHOD], 0.5, 1, teacher_folder, [], RUN, tmp_path / "d", supernet=tmp_path / "c"
    )
    assert read_status(tmp_path / "d")["reason"] == "the loss is nan"
