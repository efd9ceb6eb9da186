"""Each method that trains, stopped in the middle of a training, ends with the same bytes."""

import os
import signal

import pytest
from torch.optim.optimizer import register_optimizer_step_post_hook

import compress
from helpers.backbones import backbone
from helpers.compressing import STEM, ratio_of
from helpers.folders import files
from helpers.results import RUN
from speech_pareto.compression import catalogue
from speech_pareto.models.backbone import save
from speech_pareto.models.model_folder import read_config

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
    done = []

    def make(folder, stop_at=None):
        done.clear()

        def stop(*_):
            done.append(1)
            if len(done) == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)

        hook = register_optimizer_step_post_hook(stop)
        places = tmp_path / folder / "student", tmp_path / folder / "state"
        recipe = [{name: settings}]
        try:
            compress.main(recipe, ratio, 1, teacher, [corpus], RUN, places[0], places[1], "fp32")
        finally:
            hook.remove()
        return places[0]

    whole = make("whole")
    steps = len(done)
    with pytest.raises(SystemExit, match="143"):
        make("stopped", 2)
    assert len(done) == 3
    stopped = make("stopped")
    assert len(done) == steps - 3
    assert files(whole) == files(stopped)
