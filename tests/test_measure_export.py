"""Exported files as onnxruntime runs them: timed, weighed and scored as the student in torch."""

import csv

import numpy as np
import onnx
import pytest
import torch

import evaluate
import export
import measure_export
from helpers.backbones import with_task_head
from helpers.results import SCORED
from speech_pareto.data.corpus import read
from speech_pareto.models import backbone as model
from speech_pareto.models import onnx_int8, quantisation
from speech_pareto.profiling import runtimes
from speech_pareto.runtime import result
from speech_pareto.tasks.recogniser import load_recogniser
from speech_pareto.tasks.task import make_task

SMALL = {"hidden": 48, "layers": 1, "heads": 4, "ffn": 64, "pos_conv": 16}
ALL = ["fp32", onnx_int8.DYNAMIC, onnx_int8.STATIC]
SETTINGS = {"numbers": ALL, "threads": [1, 9], "cores": 2, "calibration_seconds": 8}
SETTINGS |= {"audio_seconds": 1, "batch": 1, "repeats": 1}


def measured(backbone, folder, corpus):
    """Export a student with a random head and measure it; return task, student, report, folder."""
    task = with_task_head(backbone, folder / "tuned", "finetune", "characters", list("abcdefgh"))
    task |= {"languages": ["en"], "metric": "cer", "precision": "fp32"}
    files = {"file": folder / "student.onnx", "report": folder / "student.json"}
    export.main(task, folder / "tuned", [corpus], SCORED, *files.values())
    out = folder / "out"
    measure_export.main(task, SETTINGS, folder / "tuned", files, [corpus], SCORED, out)
    return task, folder / "tuned", result.read(out / "report.json"), out


def rows(file):
    """Return the rows of a TSV, by the utterances' names."""
    with file.open(encoding="utf-8", newline="") as stream:
        return {row["id"]: row for row in csv.DictReader(stream, delimiter="\t")}


@pytest.fixture(scope="module")
def small(tmp_path_factory, prompts_en):
    """Return what was measured of a small log-mel student."""
    torch.manual_seed(0)
    backbone = model.new(model.tiny_config(**SMALL))
    return measured(backbone, tmp_path_factory.mktemp("small"), prompts_en)


@pytest.mark.slow
def test_each_file_is_timed_and_weighed(small):
    *_, report, out = small
    assert report["status"] == "ok" and "onnxruntime" in report["meta"]["versions"]
    files = report["runtimes"]["files"]
    assert [file["numbers"] for file in files] == ALL
    for file in files:
        one, nine = file["times"]
        assert one["speedup"] == pytest.approx(one["torch_seconds"] / one["seconds"], rel=1e-6)
        assert one["threads"] == 1
        assert nine == {"threads": 9, "reason": "9 threads were asked, the job has 2"}
        if file["numbers"] != "fp32":
            assert file["bytes"] == (out / f"{file['numbers']}.onnx").stat().st_size
    memory = [report["runtimes"]["peak_memory_bytes"], files[0]["peak_memory_bytes"]]
    if runtimes.peak(out / f"{ALL[1]}.onnx", measure_export.conditions(SETTINGS, 1)) is not None:
        assert min(memory) > files[0]["bytes"]


@pytest.mark.slow
def test_a_file_scores_as_its_student_does_in_torch(small, prompts_en, tmp_path):
    task, tuned, report, out = small
    evaluate.main(task, tuned, [prompts_en], SCORED, tmp_path / "m.json", tmp_path / "m.tsv")
    scored, ours = result.read(tmp_path / "m.json"), rows(tmp_path / "m.tsv")
    fp32, dynamic, static = report["runtimes"]["files"]
    assert rows(out / "fp32.tsv") == ours
    assert fp32["metrics"] == scored["metrics"]
    assert fp32["valid_metrics"] == scored["valid_metrics"]
    for file in (dynamic, static):
        found = rows(out / f"{file['numbers']}.tsv")
        assert {name: row["reference"] for name, row in found.items()} == {
            name: row["reference"] for name, row in ours.items()
        }
        recognise = load_recogniser(out / f"{file['numbers']}.onnx")
        for utterance in read(prompts_en)[::40]:
            if utterance.id in found:
                assert recognise(utterance.wave()) == found[utterance.id]["hypothesis"]
        errors = sum(int(row["substitutions"]) for row in found.values() if row["split"] == "test")
        length = sum(int(row["length"]) for row in found.values() if row["split"] == "test")
        assert file["metrics"]["substitutions"] == pytest.approx(100 * errors / length, abs=1e-3)


@pytest.mark.slow
def test_eight_bits_are_those_of_weights(small, prompts_en):
    *_, out = small
    wave = read(prompts_en)[0].wave()
    given = wave[None], np.array([len(wave)])
    wanted = load_recogniser(out.with_name("student.onnx")).run(*given)[0]
    for numbers in ALL[1:]:
        found = load_recogniser(out / f"{numbers}.onnx").run(*given)[0]
        assert 0 < np.abs(found - wanted).max() < 1
        graph = onnx.load(out / f"{numbers}.onnx").graph
        weights = {x.name: x for x in graph.initializer if len(x.dims) == 2}
        before = onnx_int8.before_logarithms(graph)
        (mel,) = (node for node in graph.node if node.name in before)
        assert weights[mel.input[1]].data_type == onnx.TensorProto.FLOAT
        bytes_ = [x for x in weights.values() if x.data_type == onnx.TensorProto.UINT8]
        assert len(bytes_) == 8  # six of the layer, one before and one behind it


def test_scales_are_those_of_recordings_of_training(prompts_en):
    task = {"kind": "ctc", "unit": "characters", "languages": ["en"], "protocol": "finetune"}
    definition = make_task(task, list("abc"))
    found = list(measure_export.calibration(task, definition, [prompts_en], 20))
    taught = {u.wave().tobytes() for u in read(prompts_en) if u.split == "train"}
    assert {inputs["waves"].tobytes() for inputs in found} <= taught
    seconds = [len(inputs["waves"][0]) / 16_000 for inputs in found]
    assert 10 < sum(seconds) < 40 and max(seconds) > 1.5 * min(seconds)
    assert all(inputs["lengths"] == inputs["waves"].shape[1] for inputs in found)


@pytest.mark.slow
def test_what_cannot_be_exported_has_a_reason(tmp_path, prompts_en):
    backbone = model.new(model.tiny_config(**SMALL))
    quantisation.set_precision(backbone, "float16")
    backbone.config.compression = backbone.config.compression | {"number_format": "float16"}
    *_, report, out = measured(backbone, tmp_path, prompts_en)
    for file in report["runtimes"]["files"]:
        assert file["status"] == "unsupported" and "times" not in file
        assert file["reason"] == "onnxruntime does not compute all of a float16 model on a CPU"
        assert not rows(out / f"{file['numbers']}.tsv")
    assert not list(out.glob("*.onnx"))


def test_a_hole_stays_a_hole(tmp_path, prompts_en):
    result.write_status(tmp_path / "tuned", "infeasible", "too few heads", 0.25)
    files = {"file": tmp_path / "student.onnx", "report": tmp_path / "student.json"}
    export.main({}, tmp_path / "tuned", [prompts_en], SCORED, *files.values())
    out = tmp_path / "out"
    measure_export.main({}, SETTINGS, tmp_path / "tuned", files, [prompts_en], SCORED, out)
    report = result.read(out / "report.json")
    assert (report["status"], report["reachable"]) == ("infeasible", 0.25)
    assert "runtimes" not in report
