"""The job that measures a student: a valid result, whatever became of the student."""

import pytest
import torch

import compress
import profile_student
from helpers.results import RUN
from speech_pareto.models import backbone
from speech_pareto.runtime import result

SETTINGS = {"audio_seconds": 2, "batch": 1, "repeats": 3, "threads": 1, "cores": 2}
PLAIN = {"audio_seconds": 1, "batch": 1, "threads": 1, "device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name, layers in (("teacher", 4), ("student", 2)):
        torch.manual_seed(0)
        made = backbone.new(
            backbone.tiny_config(hidden=48, layers=layers, heads=4, ffn=96, pos_conv=16)
        )
        backbone.save(made, root / name)
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


@pytest.mark.parametrize(("step", "share"), [("half_precision", 0.5), ("int8", 0.25)])
def test_small_numbers_are_measured(step, share, folders, tmp_path):
    compress.main([step], 0.0, 1, folders / "teacher", [], {}, tmp_path / "student")
    settings = SETTINGS | {"repeats": 1}
    profile_student.main(
        settings, folders / "teacher", tmp_path / "student", RUN, tmp_path / "p.json", recipe=[step]
    )
    cost = result.read(tmp_path / "p.json")["cost"]
    assert cost["ratio"] == 0 and cost["wall_clock"]["seconds"] > 0
    assert share * cost["bytes_fp32"] <= cost["bytes"] < 2 * share * cost["bytes_fp32"]


def test_a_hole_stays_a_hole(folders, tmp_path):
    result.write_status(tmp_path / "student", "infeasible", "can remove 0.26, not 0.9", 0.26)
    profile_student.main(
        SETTINGS, folders / "teacher", tmp_path / "student", RUN, tmp_path / "p.json"
    )
    read = result.read(tmp_path / "p.json")
    assert (read["status"], read["reachable"]) == ("infeasible", 0.26)
    assert "cost" not in read


def test_all_that_a_condition_costs_is_a_valid_result(folders, tmp_path):
    asked = [{"threads": "all"}, {"batch": 2, "precision": "bf16"}, {"threads": 9}]
    settings = {**SETTINGS, "conditions": [PLAIN | one | {"repeats": 1} for one in asked]}
    profile_student.main(
        settings,
        folders / "teacher",
        folders / "student",
        RUN,
        tmp_path / "p.json",
        recipe=[{"distilhubert": {"predicted_layers": 2}}],
    )
    cost = result.read(tmp_path / "p.json")["cost"]
    every, many, none = cost["conditions"]
    assert (every["threads"], many["precision"], set(none)) == (2, "bf16", {"name", "reason"})
    assert cost["bytes"] == cost["bytes_fp32"]
    assert cost["macs"]["1"]["total"] * 30 < cost["macs"]["30"]["total"]
    assert cost["theoretical_macs_per_second"] == cost["macs_per_second"]
    heads = 2 * 2 * (48 * 48 + 48)
    assert cost["parameters"]["projections"] == heads
    assert cost["parameters"]["with_heads"] == cost["parameters"]["total"] + heads


def test_a_condition_without_time_and_without_reason_is_refused(folders, tmp_path):
    profile_student.main(
        SETTINGS, folders / "teacher", folders / "student", RUN, tmp_path / "p.json"
    )
    read = result.read(tmp_path / "p.json")
    read["cost"]["conditions"] = [{"name": "1s_batch1_threads1_cpu_fp32"}]
    with pytest.raises(ValueError, match="'seconds' is a required property"):
        result.check(read)
