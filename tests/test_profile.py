"""The job that measures a student: a valid result, whatever became of the student."""

import pytest
import torch

import profile_student
from speech_pareto import model, result

RUN = {
    "study": "s",
    "teacher": "tiny",
    "recipe": "r",
    "ratio": 0.5,
    "seed": 1,
    "scope": "any",
    "config": {},
}
SETTINGS = {"audio_seconds": 2, "batch": 1, "repeats": 3, "threads": 1}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name, layers in (("teacher", 4), ("student", 2)):
        torch.manual_seed(0)
        made = model.new(model.tiny_config(hidden=48, layers=layers, heads=4, ffn=96, pos_conv=16))
        model.save(made, root / name)
    return root


def test_a_profile_is_a_valid_result(folders, tmp_path):
    threads = torch.get_num_threads()
    profile_student.main(
        SETTINGS, folders / "teacher", folders / "student", RUN, tmp_path / "p.json"
    )
    cost = result.read(tmp_path / "p.json")["cost"]
    assert cost["parameters"]["total"] < cost["teacher_parameters"]
    assert cost["ratio"] == pytest.approx(
        1 - cost["parameters"]["total"] / cost["teacher_parameters"], abs=1e-6
    )
    assert cost["bytes"] == (folders / "student" / "model.safetensors").stat().st_size
    assert cost["wall_clock"]["threads"] == 1
    assert torch.get_num_threads() == threads


def test_the_teacher_beside_itself(folders, tmp_path):
    profile_student.main(
        SETTINGS, folders / "teacher", folders / "teacher", RUN, tmp_path / "p.json"
    )
    cost = result.read(tmp_path / "p.json")["cost"]
    assert cost["ratio"] == 0
    assert 0.3 < cost["wall_clock"]["speedup"] < 3


def test_a_hole_stays_a_hole(folders, tmp_path):
    result.write_status(tmp_path / "student", "infeasible", "can remove 0.26, not 0.9", 0.26)
    profile_student.main(
        SETTINGS, folders / "teacher", tmp_path / "student", RUN, tmp_path / "p.json"
    )
    read = result.read(tmp_path / "p.json")
    assert (read["status"], read["reachable"]) == ("infeasible", 0.26)
    assert "cost" not in read
