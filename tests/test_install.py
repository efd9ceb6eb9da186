"""`pip install .`: the wheel holds what the commands need, and they say what else is missing."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

import export
from helpers.checkout import ROOT, copy_tree
from helpers.commands import command
from helpers.compressing import compress
from helpers.only_installed import environment
from helpers.planning import STUDY, write_study
from speech_pareto import __version__, load_recogniser
from speech_pareto.data.corpus import read
from speech_pareto.models import architecture, latency
from speech_pareto.models import backbone as model
from speech_pareto.study.config import resolve
from speech_pareto.tasks.task import TaskModel, make_task, save_head

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("install")]
BASE = ("av", "numpy", "safetensors", "soundfile", "soxr", "torch", "tqdm", "transformers", "typer")
FIGURES = "PR=5.41 ASR=6.42 KS=96.3 QbE=0.0736 SID=81.42 ASV=5.11 SD=5.88 IC=98.34 SF_F1=88.53"
COMMANDS = {
    "recommend": ["--max-parameters", "3M"],
    "interim": [],
    "status": [],
    "superb": [*FIGURES.split(), "SF_CER=25.2", "ER=64.92"],
    "transcribe": [str(ROOT / "resources/teachers/tiny-phones"), "noise.wav"],
    "classify": ["languages", "noise.wav"],
    "voices": [],
    "why": [],
}
EXTRAS = {  # what a command needs beside the plain installation
    "recommend": ("pandas", "report"),
    "interim": ("pandas", "report"),
    "status": ("jsonschema", "report"),
    "voices": ("espeakng_loader", "workflow"),
    "why": ("snakemake", "workflow"),
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return the folder into which the wheel of a copy of this clone is installed."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = copy_tree(folder / "tree")
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder / "site"


@pytest.fixture(scope="module")
def study(tmp_path_factory, tables):
    """Return a folder with the results of a study and a recording."""
    folder = tmp_path_factory.mktemp("study")
    shutil.copytree(tables.parent, folder / "results")
    teachers = {"tiny": {"path": str(ROOT / "resources/teachers/tiny")}}
    config = resolve({**STUDY, "teachers": teachers})
    (folder / "results" / "run_config.yaml").write_text(yaml.safe_dump(config))
    (folder / "config").mkdir()
    write_study(folder, {**STUDY, "teachers": teachers})
    (folder / "Snakefile").write_text(f'include: "{ROOT / "workflow" / "Snakefile"}"\n')
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    soundfile.write(folder / "noise.wav", noise, 16_000)
    task = {"kind": "classification", "label": "language", "protocol": "finetune"}
    texts = {"provenance.json": json.dumps({"task": task})}
    backbone = model.new(model.tiny_config(hidden=48, layers=1, heads=4, ffn=64, pos_conv=16))
    model.save(backbone, folder / "languages", texts=texts)
    head = TaskModel(backbone, 2, "finetune")
    save_head(head, make_task(task, ["en", "es"]), folder / "languages")
    return folder


def run(name, folder, variables):
    """Run a command of the library that the last of `variables`' paths holds."""
    program = Path(variables["PYTHONPATH"].split(":")[-1]) / "bin" / "speech-pareto"
    arguments = [program, name, *COMMANDS[name]]
    return subprocess.run(arguments, cwd=folder, env=variables, capture_output=True, text=True)


def own(name, folder, monkeypatch, capsys):
    """Return what the clone's own command says in this process."""
    monkeypatch.chdir(folder)
    command(name, *COMMANDS[name])
    return capsys.readouterr().out


@pytest.mark.parametrize("name", list(EXTRAS))
def test_with_its_extra_a_command_says_what_that_of_the_clone_does(
    name, installed, study, monkeypatch, capsys
):
    done = run(name, study, os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout and done.stdout == own(name, study, monkeypatch, capsys)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_plain_installation_works_or_names_the_extra(
    name, installed, study, tmp_path, monkeypatch, capsys
):
    variables = environment(tmp_path, *BASE)
    variables["PYTHONPATH"] += f":{installed}"
    done = run(name, study, variables)
    if name in EXTRAS:
        package, extra = EXTRAS[name]
        said = f"error: {package} is not installed: pip install 'speech-pareto[{extra}]'"
        assert done.returncode == 1 and done.stderr.startswith(said), done.stderr
        assert len(done.stderr.splitlines()) == 1
        return
    assert done.returncode == 0, done.stderr
    assert done.stdout and done.stdout == own(name, study, monkeypatch, capsys)


def test_a_device_is_measured_with_the_wheel_alone(installed, tmp_path):
    """Few sizes; the table that comes out foretells more time for more layers and channels."""
    variables = environment(tmp_path, *BASE)
    variables["PYTHONPATH"] += f":{installed}"
    program = installed / "bin" / "speech-pareto"
    small = ["--device", "here", "--seconds", "0.5", "--width", "64"]
    subprocess.run([program, "latency", *small], cwd=tmp_path, env=variables, check=True)
    table = latency.read(str(tmp_path / "latency/here-1-threads.csv"))
    configs = [architecture.tiny(hidden=64, heads=2, ffn=64, layers=n) for n in (1, 8)]
    one, eight = (table.seconds(config, 0.5) for config in configs)
    matrices = (dict.fromkeys(("inputs", "outputs"), size) | {"frames": 12} for size in (16, 64))
    less, more = (table.of(latency.Piece("linear", tuple(m.items()))) for m in matrices)
    assert 0 < one < eight and less < more
    about = json.loads((tmp_path / "latency/here-1-threads.json").read_text())
    assert about["hardware"]["cpu"] and about["threads"] == 1


def test_it_transcribes_outside_the_checkout(installed, prompts_en, tmp_path):
    """A folder with 4-bit weights and its ONNX file, each told by the package that is installed."""
    student = tmp_path / "student"
    shutil.copytree(ROOT / "resources/teachers/tiny-characters", student)
    backbone = model.load(student)
    del backbone.encoder.layers[1:]  # each takes seconds to export
    backbone, _ = compress(["intx"], backbone, 0.0)
    model.save(backbone, tmp_path / "short")
    shutil.copytree(tmp_path / "short", student, dirs_exist_ok=True)
    settings = json.loads((student / "provenance.json").read_text())["task"]
    files = tmp_path / "s.onnx", tmp_path / "s.json"
    export.main(settings, student, [prompts_en], {"seed": 1}, *files)
    spoken = (u for u in read(prompts_en) if u.split == "test" and 2 < u.seconds < 4)
    soundfile.write(tmp_path / "a.wav", next(spoken).wave(), 16_000)
    code = (
        "import speech_pareto\n"
        "print(speech_pareto.__file__)\n"
        "for model in ('student', 's.onnx'):\n"
        "    print(speech_pareto.load_recogniser(model)('a.wav'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    text = load_recogniser(student)(tmp_path / "a.wav")
    expected = [str(installed / "speech_pareto" / "__init__.py"), text, text]
    assert text and done.stdout.splitlines() == expected, done.stderr


def test_the_installed_version_is_that_of_the_package(installed):
    (found,) = metadata.distributions(name="speech-pareto", path=[str(installed)])
    assert found.version == __version__
    brings = {re.match(r"[\w-]+", line)[0] for line in found.requires if "extra" not in line}
    assert brings == set(BASE)
