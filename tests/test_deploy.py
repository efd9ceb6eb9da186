"""Students in other programs: each reads recordings as the project does, without the project."""

import json
import re
from importlib.util import find_spec

import numpy as np
import pytest
import torch

import deploy
import deploy_executorch
from helpers import synthetic_results
from helpers.backbones import BUCKETS, cut, with_task_head
from helpers.backbones import convolutional as any_convolutional
from helpers.checkout import ROOT
from helpers.readme_programs import blocks, in_node, listen
from speech_pareto.models import architecture, quantisation, surgery
from speech_pareto.models import backbone as model
from speech_pareto.models.layers.chunked import stream_chunks
from speech_pareto.reporting import budget, programs
from speech_pareto.reporting.tables import points
from speech_pareto.runtime.result import write_status
from speech_pareto.study import cells, config, deployed
from speech_pareto.study.config import ConfigError
from speech_pareto.tasks.recogniser import SHORTEST, settings_of

# `make executorch` has it, and CI runs these tests there.
EXECUTORCH = find_spec("executorch") is not None
with_executorch = pytest.mark.skipif(not EXECUTORCH, reason="ExecuTorch is not installed here")
SMALL = {"hidden": 48, "layers": 1, "heads": 4, "ffn": 64, "pos_conv": 16}
SYMBOLS = {"characters": [" ", "'", *"abcdefgh"], "phones": ["ɑ", "tʃ", "oʊ", *"bdfgkl"]}
REUSE = [{}, {"reuse": "map"}, {"reuse": "softmax", "heads": [0, 2]}]


def convolutional(kind, **settings):
    """Return the config of a tiny model with a convolutional stem, of 50 frames a second."""
    frames = {"conv_kernel": [20, 16], "conv_stride": [20, 16]}
    more = BUCKETS if kind == "wavlm" else {}
    return any_convolutional(kind, **frames, **more, **settings)


def of_section(kind, **section):
    """Return a random backbone whose `compression` states this."""
    count = {"layers": len(section["layers"])} if "layers" in section else {}
    made = model.build(convolutional(kind, **count).to_dict() | {"compression": section})
    shapes = made.state_dict().items()
    made.load_state_dict({k: 0.1 * torch.randn(v.shape) for k, v in shapes}, assign=True)
    return made


def gaps(kind):
    """Return a model of layers without attention or feed-forward part, two of which run twice."""
    made = model.new(convolutional(kind))
    surgery.keep_heads(made.encoder.layers[2], ())
    surgery.keep_rows(made.encoder.layers[1], torch.arange(0))
    surgery.keep_layers(made, [0, 0, 1, 2, 2])
    return made


def normalised(kind, layers=1, **settings):
    """Return a model that standardises recordings, as published ones with such a stem do."""
    return model.new(convolutional(kind, layers=layers, feat_extract_norm="layer", **settings))


def log_mel():
    """Return a model that hears how loud a recording is."""
    return model.new(model.tiny_config(**SMALL))


def log_mel_that_standardises():
    """Return a model that hears all recordings equally loud, as `do_normalize` of a task makes."""
    settings = model.tiny_config(**SMALL).to_dict()
    section = architecture.section(settings) | {"loudness": 0.1}
    made = model.new(settings | {"compression": section})
    made.preprocessor = made.preprocessor | {"do_normalize": True}
    return made


def precise(name, made=None):
    """Return a model, log-mel if none is given, of few bytes."""
    made = made or log_mel()
    quantisation.set_precision(made, name)
    made.config.compression = made.config.compression | {"number_format": name}
    return made


def files_of(model, folder):
    """Return the files of a fine-tuned student of which there are scores and costs, made up."""
    metrics, profiles = synthetic_results.write(folder, ["characters"])
    number = next(i for i, file in enumerate(metrics) if "low-rank/0.5/1" in str(file))
    (hypotheses,) = synthetic_results.write_hypotheses([metrics[number]])
    found = {"model": model, "metrics": metrics[number], "hypotheses": hypotheses}
    return found | {"profile": profiles[number]}


def only(monkeypatch, *names):
    """Deploy to these programs alone."""
    for group in ("PROGRAMS", "STREAMS"):
        kept = {k: v for k, v in getattr(deploy, group).items() if k in names}
        monkeypatch.setattr(deploy, group, kept)


@pytest.fixture(autouse=True)
def seed():
    """Give all random weights of a test their seed."""
    torch.manual_seed(0)


@pytest.fixture
def deployed_as(tmp_path, prompts_en):
    """Return a function that deploys a backbone: what came of it, the folder, how it reads here."""

    def write(made, unit="characters", protocol="finetune"):
        source, folder = tmp_path / "tuned", tmp_path / "deployed"
        settings = with_task_head(made, source, protocol, unit, SYMBOLS[unit])
        settings |= {"languages": ["en"]}
        files = files_of(source, tmp_path)
        found = deploy.deploy(files, settings, [prompts_en], folder)
        return found, folder, deploy.Student(files, settings, [prompts_en])

    return write


IN_SHERPA = {
    "layer norm": ("phones", lambda: normalised("hubert")),
    "group norm": (
        "characters",
        lambda: model.new(convolutional("wavlm", layers=1, feat_extract_norm="group")),
    ),
    "log-mel": ("phones", log_mel_that_standardises),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_SHERPA)
def test_sherpa_reads_as_we_do(name, deployed_as, monkeypatch):
    only(monkeypatch, "sherpa-onnx", "transformers")
    unit, make = IN_SHERPA[name]
    found, folder, student = deployed_as(make(), unit)
    assert {one["status"] for one in found.values()} == {"ok"}, found
    folder, (wave, text) = folder / "sherpa-onnx", (student.waves[3], student.texts[3])
    assert len(set(text)) > 5
    names = {"model.onnx", "model.int8.onnx", "tokens.txt", "README.md"}
    assert {path.name for path in folder.iterdir()} == names
    assert listen(folder, wave, "sherpa-onnx", "soundfile").split() == text.split()
    command = blocks(folder, "sh")[0].splitlines()[-1].split()
    said = listen(folder, wave, "sherpa-onnx", command=command)
    assert json.loads(re.search(r"^\{.*\}$", said, re.MULTILINE)[0])["text"].split() == text.split()
    command = [part.replace("model.onnx", "model.int8.onnx") for part in command]
    assert '"text"' in listen(folder, wave, "sherpa-onnx", command=command)


@pytest.mark.slow
def test_transformers_reads_as_we_do_without_any_code(deployed_as, monkeypatch):
    only(monkeypatch, "transformers")
    found, folder, student = deployed_as(normalised("wav2vec2"))
    assert found["transformers"]["status"] == "ok", found
    folder = folder / "transformers"
    assert not [*folder.glob("*.py")]
    said = listen(folder, student.waves[3], "torch", "transformers", "soundfile")
    assert said.split() == student.texts[3].split()


@pytest.mark.slow
@pytest.mark.parametrize("unit", SYMBOLS)
def test_a_log_mel_student_goes_to_transformers_but_not_to_sherpa(
    unit, tmp_path, prompts_en, monkeypatch
):
    only(monkeypatch, "transformers", "sherpa-onnx", "transformers.js")
    source = ROOT / "resources" / "teachers" / f"tiny-{unit}"
    settings = settings_of(source) | {"languages": ["en"]}
    files = files_of(source, tmp_path)
    found = deploy.deploy(files, settings, [prompts_en], tmp_path)
    assert found["sherpa-onnx"]["status"] == "unsupported"
    assert "standardises recordings (mean 0, variance 1)" in found["sherpa-onnx"]["reason"]
    assert not (tmp_path / "sherpa-onnx").exists()
    assert found["transformers"]["status"] == "ok", found
    student = deploy.Student(files, settings, [prompts_en])
    text = student.texts[-1]
    assert len(text.split()) > 1
    packages = ("torch", "transformers", "soundfile")
    assert listen(tmp_path / "transformers", student.waves[-1], *packages).strip() == text
    assert found["transformers.js"]["status"] == "ok", found
    assert found["transformers.js"]["int8_reads_otherwise"] < found["transformers.js"]["recordings"]
    assert in_node(tmp_path / "transformers.js", student.waves[-1]) == text


def reused_maps():
    """Return a model that standardises recordings, whose second layer has the map of the first."""
    made = of_section("hubert", layers=REUSE[:2])
    made.preprocessor = made.preprocessor | {"do_normalize": True}
    return made


IN_EXECUTORCH = {  # of few layers: writing one takes seconds
    "group norm": lambda: model.new(convolutional("hubert", layers=1, feat_extract_norm="group")),
    "log-mel": log_mel,
    "reused maps": reused_maps,
}


@with_executorch
@pytest.mark.slow
@pytest.mark.parametrize("name", IN_EXECUTORCH)
def test_executorch_reads_as_we_do(name, deployed_as, monkeypatch):
    only(monkeypatch, "executorch")
    found, folder, student = deployed_as(IN_EXECUTORCH[name]())
    assert found["executorch"]["status"] == "ok", found
    folder, wave = folder / "executorch", np.concatenate(student.waves, 1)
    assert {path.name for path in folder.iterdir()} == {"model.pte", "tokens.txt", "README.md"}
    assert student.texts[3]
    said = listen(folder, student.waves[3], "executorch", "torch", "soundfile")
    assert said.split() == student.texts[3].split()
    for samples in (SHORTEST, 16_000 * deploy_executorch.LONGEST):
        heard = np.resize(wave, (1, samples))
        (scores,) = deploy_executorch.method(folder / "model.pte")(heard)
        assert np.abs(scores[0] - student.run(heard)).max() <= 2e-4


def streaming(made):
    """Return a model that hears chunks of 160 ms, each with 640 ms before it."""
    parts = architecture.section(model.describe(made)) | {"streaming": {"chunk": 8, "left": 32}}
    made.config.compression = parts
    stream_chunks(made, **parts["streaming"])
    made.preprocessor = made.preprocessor | {"do_normalize": False}
    return made


@pytest.mark.slow
@pytest.mark.parametrize("unit", SYMBOLS)
def test_streams_read_as_one_pass_does(unit, deployed_as, monkeypatch):
    monkeypatch.setattr(deploy, "PROGRAMS", {})
    if not EXECUTORCH:
        monkeypatch.delitem(deploy.STREAMS, "executorch-stream")
    norm = {"characters": "layer", "phones": "group"}[unit]
    config = convolutional("wavlm" if norm == "group" else "hubert", feat_extract_norm=norm)
    made = model.new(
        config.to_dict() | {"conv_kernel": [30, 17]}
    )  # 350 samples, of which 30 overlap
    found, folder, student = deployed_as(streaming(cut(made) if norm == "layer" else made), unit)
    assert {name: one["status"] for name, one in found.items()} == dict.fromkeys(
        deploy.STREAMS, "ok"
    )
    for name in found.keys() & {"onnxruntime-stream", "executorch-stream"}:
        assert found[name]["largest_difference"] <= 1e-5
        assert found[name]["latency"] == pytest.approx(0.16 + 30 / 16000)
    wave = student.waves[3]
    silent = np.pad(wave, ((0, 0), (30, -wave.shape[1] % 2560)))  # how a stream begins and ends
    expected = student.read(student.run(silent.astype(np.float32)))
    assert len(set(expected)) > 5
    said = listen(folder / "onnxruntime-stream", wave, "onnxruntime", "soundfile")
    assert said.split() == expected.split()
    if EXECUTORCH:
        said = listen(folder / "executorch-stream", wave, "executorch", "torch", "soundfile")
        assert said.split() == expected.split()
    said = listen(folder / "sherpa-onnx-stream", wave, "sherpa-onnx", "soundfile")
    assert said.strip()
    assert listen(folder / "onnx-asr", wave, "onnx-asr", "onnxruntime").strip()


@pytest.mark.slow
def test_a_stream_in_int8_may_round_otherwise(deployed_as, monkeypatch):
    only(monkeypatch, "onnxruntime-stream")
    made = model.new(convolutional("wavlm", feat_extract_norm="group"))
    found = deployed_as(precise("int8", streaming(made)))[0]["onnxruntime-stream"]
    assert found["status"] == "ok" and found["largest_difference"] > 1e-5, found


def test_a_student_that_hears_the_whole_has_no_stream(deployed_as, monkeypatch):
    monkeypatch.setattr(deploy, "PROGRAMS", {})
    assert deployed_as(log_mel())[0] == {}


@pytest.mark.skipif(EXECUTORCH, reason="ExecuTorch is installed here")
def test_where_executorch_is_not_installed_it_is_said(deployed_as, monkeypatch):
    only(monkeypatch, "executorch")
    found = deployed_as(log_mel())[0]["executorch"]
    assert found["status"] == "unsupported" and "make executorch" in found["reason"]


@with_executorch
def test_what_executorch_does_not_run(deployed_as, monkeypatch):
    only(monkeypatch, "executorch")
    refused = {
        "chunks": streaming(normalised("hubert")),
        "leave early": STUDENTS["exits"](),
        "float16": precise("float16"),
        "int8": precise("int8"),
    }
    for words, made in refused.items():
        found = deployed_as(made)[0]["executorch"]
        assert found["status"] == "unsupported" and words in found["reason"]


STUDENTS = {
    "hubert, cut": lambda: cut(normalised("hubert", layers=3)),
    "wav2vec2, norms first, cut": lambda: cut(
        normalised("wav2vec2", layers=3, do_stable_layer_norm=True)
    ),
    "data2vec, cut": lambda: cut(model.new(convolutional("data2vec-audio"))),
    "wavlm, cut": lambda: cut(normalised("wavlm", layers=3)),
    "wavlm, gaps": lambda: gaps("wavlm"),
    "hubert, gaps": lambda: gaps("hubert"),
    "wavlm, maps": lambda: of_section("wavlm", layers=REUSE),
    "hubert, maps": lambda: of_section("hubert", layers=REUSE),
    "kaldi": lambda: model.new(
        model.tiny_config(**SMALL, conv_dim=[80], compression={"stem": "kaldi_fbank"})
    ),
    "time": lambda: of_section("hubert", time_reduction=2),
    "exits": lambda: of_section("wavlm", early_exit={"threshold": 1.2, "units": 4, "first": 1}),
    "pooled": lambda: of_section("wavlm", frame_pooling={"factor": 1.5, "after": 1}),
    "streams": lambda: streaming(cut(normalised("hubert", layers=3))),
    "wavlm": lambda: model.new(convolutional("wavlm", feat_extract_norm="group")),
}


@pytest.mark.parametrize("name", STUDENTS)
def test_transformers_rebuilds_each_shape(name, deployed_as, monkeypatch):
    only(monkeypatch, "transformers")
    found, folder, _ = deployed_as(STUDENTS[name]())
    assert found["transformers"]["status"] == "ok", found
    assert found["transformers"]["largest_difference"] <= 1e-4
    code = {path.name for path in (folder / "transformers").glob("*.py")}
    assert bool(code) == (name != "wavlm")
    texts = [(folder / "transformers" / file).read_text() for file in code]
    assert not any(re.search(r"^\s*(from|import) speech_pareto", text, re.M) for text in texts)


@pytest.mark.parametrize("name", ["int8", "float16"])
def test_numbers_that_transformers_does_not_read(name, deployed_as):
    found, folder, _ = deployed_as(precise(name))
    assert found["transformers"]["status"] == "unsupported"
    assert found["transformers"]["reason"].startswith(f"transformers does not read {name}")
    assert not (folder / "transformers").exists()
    if name == "float16":
        reason = "onnxruntime does not compute all of a float16 model on a CPU"
        assert found["sherpa-onnx"] == {"status": "unsupported", "reason": reason}


def test_a_probe_is_no_model_of_transformers(deployed_as, monkeypatch):
    only(monkeypatch, "transformers")
    found, _, _ = deployed_as(log_mel(), protocol="probe")
    assert found["transformers"]["status"] == "unsupported"
    assert found["transformers"]["reason"].startswith("a probe reads all layers")


def test_another_text_is_no_student(deployed_as, monkeypatch):
    only(monkeypatch, "transformers")
    read = deploy.by_transformers

    def worse(*given):
        texts, scores = read(*given)
        return texts, [one + 0.01 for one in scores]

    monkeypatch.setattr(deploy, "by_transformers", worse)
    found, folder, _ = deployed_as(log_mel())
    assert found["transformers"]["status"] == "different"
    assert "log-probabilities are 0.01 from those here" in found["transformers"]["reason"]
    assert not (folder / "transformers").exists()


def test_a_hole_stays_a_hole(tmp_path, prompts_en):
    write_status(tmp_path / "tuned", "infeasible", "too few heads", 0.25)
    task = {"settings": {"kind": "ctc"}, "corpora": [str(prompts_en)]}
    name = "tiny/heads/0.9/1/letters"
    output = tmp_path / "deployed"
    deploy.main({name: {"model": str(tmp_path / "tuned")}}, {"letters": task}, output)
    report = json.loads((output / name / "report.json").read_text())
    assert report["student"] == name and report["meta"]["seed"] == 1
    for found in report["runtimes"].values():
        assert found == {"status": "infeasible", "reason": "too few heads"}


def test_the_students_are_those_that_recommend_names(tables):
    study = points.read(tables / "results.parquet")
    students = {(p["teacher"], p["recipe"], p["ratio"], p["task"]) for p in study["points"]}
    names = [f"{t}/{r}/{cells.ratio_name(x)}/{s}/{k}" for t, r, x, k in students for s in (1, 2)]
    found = deploy.recommended(tables / "results.parquet", sorted(names))
    assert len(found) == len(study["tasks"]) > 1
    for name, task in zip(found, study["tasks"], strict=True):
        best = budget.choose(study, [], task)[0]
        ratio = cells.ratio_name(best["ratio"])
        assert name == f"{best['teacher']}/{best['recipe']}/{ratio}/1/{task}"


def test_a_config_lists_students_of_its_own(study):
    known = deployed.students(config.resolve(study))
    assert known
    assert all(files["model"] == f"results/finetuned/{name}" for name, files in known.items())
    one = sorted(known)[0]
    assert deployed.students(config.resolve(study | {"deploy": [one]})) == {one: known[one]}
    with pytest.raises(ConfigError, match=f"did you mean '{re.escape(one)}'"):
        deployed.check(config.resolve(study | {"deploy": [f"{one}s"]}))


class AnyVersion(dict):
    """What a folder's README says of versions, which the page leaves out."""

    def __missing__(self, key):
        return ""


def test_the_page_has_the_programs_of_the_folders():
    page = (ROOT / "docs" / "deploying.md").read_text()
    any_version = AnyVersion(argument=", trust_remote_code=True")
    named = (programs.SHERPA, programs.TRANSFORMERS, programs.EXECUTORCH, programs.ONNX_ASR)
    texts = [text.format_map(any_version) for text in named]
    for text in (*texts, programs.TRANSFORMERS_JS):
        (program,) = re.findall(r"```(?:python|js)\n(.*?)```", text, re.DOTALL)
        command = re.search(r"```sh\n(.*?)```", text, re.DOTALL)[1].splitlines()[-1]
        assert program in page and re.sub(r"==\S*", "", command) in page
