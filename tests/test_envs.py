"""Environments: conda and pip hold the same pins, and all that the code imports."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers.checkout import ROOT
from speech_pareto.runtime import plugins, source_digest

ENVS = ROOT / "envs"
PIN = re.compile(r"[A-Za-z0-9][\w.-]*==\d[\w.]*")
DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "flashlight": "ufal-flashlight-text",
    "espeakng_loader": "espeakng-loader",
    "onnx_asr": "onnx-asr",
    "onnx_ir": "onnx-ir",
    "sherpa_onnx": "sherpa-onnx",
}
NAMED = {  # package of files that a script loads by name
    "compress": "compression.methods",
    "finetune": "tasks.kinds",
    "evaluate": "tasks.kinds",
    "evaluate_condition": ("tasks.kinds", "data.conditions"),
    "export": "tasks.kinds",
    "measure_export": "tasks.kinds",
    "deploy": "tasks.kinds",
    "fetch_corpus": "data.corpora",
    "prepare_corpus": "data.corpora",
}
# Imports inside functions that a script never calls; test_plan.py runs it without these packages.
# profile_student counts a GPU's energy only where somebody installed NVIDIA's library; superb
# decodes and spells nothing.
UNREACHED = {"plan": {"torch", "accelerate", "espeakng_loader"}, "profile_student": {"pynvml"}}
UNREACHED["interim"] = {"torch", "accelerate", "espeakng_loader", "scipy"}
# The store reads and writes JSON with what checks results, and checks none.
UNREACHED |= dict.fromkeys(("fetch_corpus", "prepare_corpus"), {"jsonschema", "yaml"})
# It searches with no language model, and counts no energy.
UNREACHED["measure_export"] = {"flashlight", "pynvml"}
UNREACHED["evaluate_condition"] = {"flashlight"}  # nor here
UNREACHED["deploy"] = {"executorch"}  # it says so where that is not installed
UNREACHED["superb"] = {"av", "espeakng_loader", "soxr"}
RUN = [
    f"{name}.txt"
    for name in (
        "workflow",
        "torch",
        "evaluate",
        "conditions",
        "data",
        "plot",
        "export",
        "deploy",
        "search",
    )
]  # as `make env`
OURS = {"speech_pareto", *(file.stem for file in source_digest.SCRIPTS.glob("*.py"))}


def pins(file):
    """Return the requirements in a file for pip."""
    lines = (line.strip() for line in (ENVS / file).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(
    "name",
    ["torch", "evaluate", "conditions", "data", "plot", "export", "deploy", "search", "s3prl"],
)
def test_conda_and_pip_agree(name):
    conda = yaml.safe_load((ENVS / f"{name}.yaml").read_text())["dependencies"]
    assert conda[-1]["pip"] == pins(f"{name}.txt")
    assert all("=" in package for package in conda[:-1])


@pytest.mark.parametrize("file", sorted(path.name for path in ENVS.glob("*.txt")))
def test_every_package_is_pinned_once(file):
    assert all(PIN.fullmatch(line) for line in pins(file))
    names = [line.split("==")[0].lower() for line in pins(file)]
    assert len(names) == len(set(names))


def test_one_version_of_a_package_everywhere():
    everywhere = {pin for file in ENVS.glob("*.txt") for pin in pins(file.name)}
    older = {pin for pin in pins("s3prl.txt") if pin.startswith("torch==")}  # its torchaudio's
    everywhere -= older
    assert len({pin.split("==")[0].lower() for pin in everywhere}) == len(everywhere)


def rules():
    """Yield (script, environment) of each rule."""
    for file in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        text = file.read_text()
        for script in re.findall(r"scripts/(\w+)\.py", text.replace('../scripts")', "")):
            yield script, re.search(r"envs/(\w+)\.yaml", text)[1]


@pytest.mark.parametrize(("script", "environment"), sorted(set(rules())))
def test_environment_holds_what_its_rule_imports(script, environment):
    sources = [f"{script}.py"]
    if script in NAMED:
        for package in [NAMED[script]] if isinstance(NAMED[script], str) else NAMED[script]:
            sources += [plugins.path(package, name) for name in plugins.names(package)]
    imported = set()
    for file in source_digest.closure(sources):
        for node in ast.walk(ast.parse((source_digest.SCRIPTS / file).read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    imported -= sys.stdlib_module_names | OURS | UNREACHED.get(script, set())
    wanted = {DISTRIBUTIONS.get(name, name) for name in imported}
    held = {pin.split("==")[0].lower() for pin in pins(f"{environment}.txt")}
    assert wanted <= held


LOCKED = {
    "run": (*RUN, sys.executable),
    "dev": (*RUN, "dev.txt", sys.executable),
    "s3prl": ("s3prl.txt", str(ROOT / ".venv-s3prl/bin/python")),
    "docs": ("docs.txt", str(ROOT / ".venv-docs/bin/python")),
}
INSTALLED = """
import importlib.metadata as metadata, json
print(json.dumps({d.name: [d.version, d.requires or []] for d in metadata.distributions()}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCKED)
def test_a_lock_holds_the_version_of_every_package_that_its_pins_bring(name):
    """Compared with what is installed here, from the pins on, one requirement after another."""
    *files, python = LOCKED[name]
    if not Path(python).is_file():
        pytest.skip(f"make {name} makes this environment")
    wanted = [Requirement(pin) for file in files for pin in pins(file)]
    locked = {}
    for requirement in map(Requirement, pins(f"locks/{name}.txt")):
        if not requirement.marker or requirement.marker.evaluate():
            locked[canonicalize_name(requirement.name)] = str(requirement.specifier)
    output = subprocess.run([python, "-c", INSTALLED], capture_output=True, check=True).stdout
    installed = {canonicalize_name(key): facts for key, facts in json.loads(output).items()}
    seen = set()
    while wanted:
        requirement = wanted.pop()
        package, extras = canonicalize_name(requirement.name), requirement.extras or {""}
        if (package, *sorted(extras)) in seen:
            continue
        seen.add((package, *sorted(extras)))
        version, needs = installed[package]
        assert locked[package] == f"=={version.partition('+')[0]}", package
        for need in map(Requirement, needs):
            if not need.marker or any(need.marker.evaluate({"extra": e}) for e in extras):
                wanted.append(need)
    assert len(seen) > len(files) * 5
