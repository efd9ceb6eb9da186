"""The job that makes a student: what it leaves in the folder, and the same bytes twice."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import compress
import finetune
from helpers.compressing import STEM
from helpers.folders import files
from helpers.results import RUN, TASK
from speech_pareto.compression import catalogue, recipes
from speech_pareto.models import architecture, backbone, sparsity
from speech_pareto.models.model_folder import read_config
from speech_pareto.runtime.result import read_status, write_status
from speech_pareto.tasks.task import load_task_model
from speech_pareto.training import finetuning

SHORT = {"steps": 6, "batch_seconds": 8.0}
TRAINED = [{"distillation": {"steps": 3, "batch_seconds": 2.0}}]
LEARNERS = [n for n in catalogue.names() if catalogue.load(n).needs == "training" and n not in STEM]
LISTENING = [
    {"data_driven_head_pruning": {"ratio": 0.2, "units": 5, "batches": 2, "batch_seconds": 1.0}},
    {"wanda": {"batches": 2, "batch_seconds": 1.0}},
    "int8",
]


@pytest.fixture
def teacher(teacher_folder):
    return teacher_folder


@pytest.mark.parametrize("steps", [["random_pruning"], ["low_rank"], TRAINED, LISTENING], ids=str)
def test_the_same_seed_gives_the_same_bytes(steps, teacher, corpus, tmp_path):
    for name in ("a", "b"):
        torch.manual_seed(len(files(tmp_path)) if (tmp_path / "a").is_file() else 7)
        compress.main(steps, 0.4, 1, teacher, [corpus], RUN, tmp_path / name)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert sorted(files(tmp_path / "a")) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "provenance.json",
    ]
    if steps != ["low_rank"]:
        compress.main(steps, 0.4, 2, teacher, [corpus], RUN, tmp_path / "c")
        assert (
            files(tmp_path / "a")["model.safetensors"] != files(tmp_path / "c")["model.safetensors"]
        )


@pytest.mark.parametrize("name", LEARNERS)
def test_teachers_are_heard_in_eval_mode(name, corpus, tmp_path, monkeypatch):
    """Students are trained in train mode; a teacher's dropout and masks would blur its targets."""
    torch.manual_seed(0)
    config = {"hidden": 48, "layers": 3, "heads": 6, "ffn": 160, "pos_conv": 16}
    backbone.save(
        backbone.new(backbone.tiny_config(**config, hidden_dropout=0.5)), tmp_path / "teacher"
    )
    load, modes = backbone.load, []

    def watched(folder):
        made = load(folder)
        made.register_forward_pre_hook(lambda module, inputs: note(module))
        return made

    def note(module):
        if not any(parameter.requires_grad for parameter in module.parameters()):  # the teacher
            modes.append(any(part.training for part in module.modules()))

    monkeypatch.setattr(backbone, "load", watched)
    step = {name: dict(catalogue.load(name).example) | {"batch_seconds": 2.0}}
    ratio = recipes.solve([step], read_config(tmp_path / "teacher"), 0.3).ratio
    compress.main([step], ratio, 1, tmp_path / "teacher", [corpus], RUN, tmp_path / "student")
    assert read_status(tmp_path / "student") is None
    assert modes and not any(modes)


def test_provenance_and_card_tell_what_was_done(teacher, tmp_path):
    compress.main(["ffn_pruning"], 0.4, 1, teacher, [], RUN, tmp_path / "a")
    facts = json.loads((tmp_path / "a" / "provenance.json").read_text())
    assert facts["run"] == RUN
    assert facts["ratio"] == pytest.approx(0.4, abs=0.01)
    held = sum(p.numel() for p in backbone.load(tmp_path / "a").parameters())
    assert facts["parameters"] == held
    card = (tmp_path / "a" / "README.md").read_text()
    assert f"{held:,} of {facts['teacher_parameters']:,} parameters" in card
    assert card.startswith("---\n")


def test_the_head_of_a_task_model_comes_along(teacher, tmp_path):
    source = tmp_path / "task"
    backbone.save(backbone.load(teacher), source)
    tensors = {"head.weight": torch.randn(3, 48), "head.bias": torch.randn(3)}
    save_file(tensors, source / compress.HEAD, {"symbols": "a\tb"})
    compress.main(["identity"], 0.0, 1, source, [], RUN, tmp_path / "a")
    heads = [(folder / compress.HEAD).read_bytes() for folder in (source, tmp_path / "a")]
    assert heads[0] == heads[1]


def test_identity_is_the_teacher(teacher, tmp_path):
    compress.main(["identity"], 0.0, 1, teacher, [], RUN, tmp_path / "a")
    ours, theirs = backbone.load(tmp_path / "a").state_dict(), backbone.load(teacher).state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_what_is_infeasible_leaves_a_status_and_never_loads_torch(teacher, tmp_path):
    code = f"""
import sys
import compress
compress.main(["head_pruning"], 0.9, 1, {str(teacher)!r}, [], {RUN!r}, {str(tmp_path / "a")!r})
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": "workflow/scripts"})
    status = read_status(tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["status.json"]
    assert status["status"] == "infeasible"
    assert "not 0.9" in status["reason"]
    compress.main(["head_pruning"], status["reachable"], 1, teacher, [], RUN, tmp_path / "b")
    assert read_status(tmp_path / "b") is None


def test_a_teacher_that_could_not_be_made_passes_its_status_on(tmp_path):
    write_status(tmp_path / "teacher", "diverged", "the loss is nan at step 3")
    compress.main(["identity"], 0.0, 1, tmp_path / "teacher", [], RUN, tmp_path / "a")
    assert read_status(tmp_path / "a")["reason"] == "the loss is nan at step 3"


def test_divergence_is_a_status(teacher, corpus, tmp_path):
    made = backbone.load(teacher)
    with torch.no_grad():
        made.encoder.layers[0].feed_forward.output_dense.weight.fill_(torch.inf)
    backbone.save(made, tmp_path / "far")
    state = tmp_path / "state"
    compress.main(TRAINED, 0.4, 1, tmp_path / "far", [corpus], RUN, tmp_path / "a", state)
    assert read_status(tmp_path / "a")["status"] == "diverged"
    assert not state.exists()


def test_training_needs_utterances(teacher, tmp_path):
    with pytest.raises(ValueError, match="no training utterance in no corpora"):
        compress.main(TRAINED, 0.4, 1, teacher, [], RUN, tmp_path / "a")


def test_a_chain_lands_on_the_ratio_with_the_real_model(teacher, tmp_path):
    steps = [{"head_pruning": {"ratio": 0.1}}, {"low_rank": {"ratio": 0.2}}, "weight_pruning"]
    compress.main(steps, 0.5, 1, teacher, [], RUN, tmp_path / "a")
    student = read_config(tmp_path / "a")
    assert architecture.ratio(read_config(teacher), student) == pytest.approx(0.5, abs=0.01)
    zeros = sum(
        int((p == 0).sum()) for p in sparsity.prunable(backbone.load(tmp_path / "a")).values()
    )
    assert zeros == student["compression"]["zeros"]


def pinch(step, start, prompts_en, output, ratio=0.5, **settings):
    """Compress with one task-aware step, on real prompts."""
    step = {step: SHORT | settings}
    compress.main(
        [step], ratio, 1, start, [prompts_en], RUN, output, output.with_name("state"), task=TASK
    )
    return output


@pytest.mark.slow
@pytest.mark.parametrize("step", ["self_pinching", "structured_self_pinching", "parp"])
def test_a_task_aware_method_leaves_a_student_with_its_head(step, teacher, prompts_en, tmp_path):
    student = pinch(step, teacher, prompts_en, tmp_path / "a" / "student")
    again = pinch(step, teacher, prompts_en, tmp_path / "b" / "student")
    assert files(student) == files(again) and "head.safetensors" in files(student)
    config = read_config(student)
    assert architecture.ratio(read_config(teacher), config) == pytest.approx(0.5, abs=0.01)
    made, definition = load_task_model(TASK, backbone.load(student), student)
    assert "".join(definition.symbols).isascii() and len(definition.symbols) > 20
    held = sum(p.numel() for p in made.backbone.parameters())
    assert held - config.get("compression", {}).get("zeros", 0) == architecture.remaining(config)
    # Recovery goes on with the head, and leaves zeros at zero.
    before = sparsity.prunable(made.backbone)
    finetune.main(TASK, SHORT | {"learning_rate": 1e-3}, student, [prompts_en], 1, tmp_path / "c")
    for name, parameter in sparsity.prunable(backbone.load(tmp_path / "c")).items():
        assert torch.equal(parameter == 0, before[name] == 0)
        assert not torch.equal(parameter, before[name]) or name.endswith("bias")
    head = load_file(tmp_path / "c" / "head.safetensors")
    assert (head["head.weight"] - made.head.weight).abs().max() < 0.1


def test_a_head_that_is_there_is_trained_on(teacher, prompts_en, tmp_path):
    finetune.main(TASK, SHORT | {"learning_rate": 1e-3}, teacher, [prompts_en], 1, tmp_path / "t")
    pinch("parp", tmp_path / "t", prompts_en, tmp_path / "a", steps=1, learning_rate=0.0)
    heads = [(tmp_path / name / "head.safetensors").read_bytes() for name in ("t", "a")]
    assert heads[0] == heads[1]


@pytest.mark.slow
@pytest.mark.parametrize("first", ["masking_distillation", "starhubert"])  # with heads, without
def test_a_thin_student_is_tuned_with_a_head_of_its_width(first, teacher, prompts_en, tmp_path):
    finetune.main(TASK, SHORT | {"learning_rate": 1e-3}, teacher, [prompts_en], 1, tmp_path / "t")
    steps = [{first: SHORT | {"steps": 1, "ratio": 0.5}}, {"parp": SHORT | {"steps": 1}}]
    made = tmp_path / "student"
    compress.main(steps, 0.55, 1, tmp_path / "t", [prompts_en], RUN, made, task=TASK)
    student = backbone.load(made)
    assert student.config.hidden_size < 48
    task_model, _ = load_task_model(TASK, student, made)
    assert task_model.head.in_features == student.config.hidden_size


@pytest.mark.slow
@pytest.mark.parametrize("step", ["self_pinching", "structured_self_pinching", "parp"])
def test_task_aware_compression_that_was_stopped_ends_with_the_same_bytes(
    step, teacher, prompts_en, tmp_path, monkeypatch
):
    whole = pinch(step, teacher, prompts_en, tmp_path / "a" / "student")
    penalties = []

    def stopping(self, student, penalty, **settings):
        def watched(step):
            penalties.append(step)
            if penalties == [0, 1, 2, 3]:
                os.kill(os.getpid(), signal.SIGTERM)
            return penalty(step)

        return call(self, student, watched, **settings)

    call = finetuning.Tuner.__call__
    monkeypatch.setattr(finetuning.Tuner, "__call__", stopping)
    with pytest.raises(SystemExit, match="143"):
        pinch(step, teacher, prompts_en, tmp_path / "b" / "student")
    assert not (tmp_path / "b" / "student" / "model.safetensors").exists()
    resumed = pinch(step, teacher, prompts_en, tmp_path / "b" / "student")
    assert penalties == [0, 1, 2, 3, 4, 5]
    assert files(whole) == files(resumed)
