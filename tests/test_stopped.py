"""Each method that trains, stopped in the middle of a training, ends with the same bytes."""

import os
import signal
from functools import partial

import pytest
from torch.optim.optimizer import register_optimizer_step_post_hook

import compress
from helpers.backbones import backbone
from helpers.compressing import STEM, ratio_of
from helpers.folders import files
from helpers.results import RUN
from speech_pareto.compression import catalogue
from speech_pareto.compression.methods.data_driven_head_pruning import DataDrivenHeadPruning
from speech_pareto.compression.parts import units
from speech_pareto.models.backbone import save
from speech_pareto.models.model_folder import read_config
from speech_pareto.training import hubert_units

LEARNERS = [name for name in catalogue.names() if catalogue.load(name).needs == "training"]
PINCHED = {"gates": "self_pinching"}
CASES = [(name, {}) for name in LEARNERS]
CASES += [("dphubert", {"stem": True}), ("dphubert", {**PINCHED, "stem": True})]
CASES += [("dphubert", PINCHED), ("dphubert", {**PINCHED, "grain": "weights"})]
CASES += [("dphubert", {"gates": "ladder"}), ("dphubert", {"clusters": 2})]
CASES += [("unit_distillation", {"teacher_dropout": True})]
CASES += [("iterative_pruning", {"patience": 1, "moments": "kept", "improvement": -9.0})]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "more"), CASES)
def test_a_stopped_training_ends_with_the_same_bytes(name, more, teacher_folder, corpus, tmp_path):
    settings = {**catalogue.load(name).example, "steps": 8, "batch_seconds": 1.0, **more}
    settings |= {key: 3 for key in ("final_steps", "second_steps") if key in settings}
    teacher = teacher_folder
    if name in STEM or settings.get("stem"):  # that of the other one has no convolutions
        teacher = tmp_path / "teacher"
        save(backbone("hubert"), teacher)
    ratio = ratio_of(name, 0.2, read_config(teacher))
    made = partial(student, [{name: settings}], ratio, teacher, corpus)
    whole, steps = made(tmp_path / "whole")
    with pytest.raises(SystemExit, match="143"):
        made(tmp_path / "stopped", 2)
    stopped, left = made(tmp_path / "stopped")
    assert left == steps - 3
    assert files(whole) == files(stopped)


def student(recipe, ratio, teacher, corpus, folder, stop_at=None):
    """Return the folder of a student, and how many steps it trained for.

    It is told to end within the step `stop_at`, and does so after the next one.
    """
    done = []

    def stop(*_):
        done.append(1)
        if len(done) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    hook = register_optimizer_step_post_hook(stop)
    places = folder / "student", folder / "state"
    try:
        compress.main(recipe, ratio, 1, teacher, [corpus], RUN, *places, "fp32")
    finally:
        hook.remove()
    return places[0], len(done)


@pytest.mark.parametrize("method", ["data_driven_head_pruning", "data_driven_ffn_pruning"])
def test_what_was_found_before_a_stop_counts_after_it(
    method, teacher_folder, corpus, tmp_path, monkeypatch
):
    settings = {"method": method, "schedule": [0.05], "steps": 4, "batch_seconds": 1.0}
    settings |= {"units": 4, "unit_seconds": 1.0, "batches": 2}
    made = partial(student, [{"iterative_pruning": settings}], 0.1, teacher_folder, corpus)
    whole, steps = made(tmp_path / "whole")
    with pytest.raises(SystemExit, match="143"):
        made(tmp_path / "stopped", 6)  # of the second of two trainings
    kept = tmp_path / "stopped" / "state"
    assert len(list((kept / "step1").iterdir())) == 1
    for module, name in ((hubert_units, "_fitted"), (units, "row_gains")):
        monkeypatch.setattr(module, name, None)  # as on hardware that would find something else
    monkeypatch.setattr(DataDrivenHeadPruning, "gradients", None)
    stopped, left = made(tmp_path / "stopped")
    assert steps == 8 and left == 1
    assert files(whole) == files(stopped)
