"""A package that is missing is named with the extra that brings it."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest

from helpers.checkout import ROOT
from helpers.only_installed import environment
from speech_pareto.runtime.extras import extra

SCRIPTS = ROOT / "workflow" / "scripts"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "pyyaml", "espeakng_loader": "espeakng-loader"}
DISTRIBUTIONS["flashlight"] = "ufal-flashlight-text"


def brought(name):
    """Return the distributions that an extra brings, or with None the plain installation."""
    lines = PROJECT["optional-dependencies"][name] if name else PROJECT["dependencies"]
    return {line.partition(">")[0] for line in lines}


def named():
    """Yield file, extra and package of each import that names its extra."""
    for file in SCRIPTS.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            call = node.items[0].context_expr if isinstance(node, ast.With) else None
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "extra":
                name = call.args[0].value if call.args else None
                for line in node.body:
                    modules = [line.module] if isinstance(line, ast.ImportFrom) else []
                    modules = modules or [alias.name for alias in line.names]
                    for module in modules:
                        yield file, name, module.partition(".")[0]


def test_extras_bring_what_they_are_named_for():
    found = [one for one in named() if one[2] != "speech_pareto"]
    assert {name for _, name, _ in found} == {None, *PROJECT["optional-dependencies"]}
    for file, name, module in found:
        assert DISTRIBUTIONS.get(module, module) in brought(name), (file, module)


def test_the_sentence():
    with pytest.raises(ModuleNotFoundError) as caught, extra("workflow"):
        import nothing_of_this_name.at_all  # noqa: F401
    assert str(caught.value) == (
        "nothing_of_this_name is not installed: pip install 'speech-pareto[workflow]', or "
        "'.[workflow]' in a clone, brings it"
    )
    with (
        pytest.raises(ModuleNotFoundError, match="No module named 'speech_pareto.nothing'"),
        extra(),
    ):
        import speech_pareto.nothing  # noqa: F401


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "from speech_pareto.data.audio import decode; decode('x.wav')",
            "soundfile .*'speech-pareto'",
        ),
        (
            "from speech_pareto.runtime.result import check; check({})",
            "jsonschema .*pareto\\[report\\]'",
        ),
        (
            "from speech_pareto.tasks.kinds import ctc\n"
            "ctc.Task({'unit': 'phones'}).score(['a'], ['a'])",
            "jiwer .*pareto\\[workflow\\]'",
        ),
        (
            "from speech_pareto.data.text import phones; phones('word', 'en-us')",
            "espeakng_loader .*pareto\\[workflow\\]'",
        ),
        (
            "from speech_pareto.__main__ import main; main(['status'])",
            "yaml .*pareto\\[report\\]'",
        ),
    ],
)
def test_uses_without_their_packages_say_what_to_install(code, said, tmp_path):
    variables = environment(tmp_path, "torch", "numpy", "safetensors", "tqdm", "typer")
    variables["PYTHONPATH"] += f":{SCRIPTS}"
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert re.search(said, done.stderr.splitlines()[-1]), done.stderr
