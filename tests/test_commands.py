"""The command `speech-pareto`: its help, its version, and what it passes on."""

import re
import subprocess
import sys

import pytest

from helpers.checkout import ROOT
from helpers.commands import command
from speech_pareto import __version__
from speech_pareto.study import reruns

NAMES = ("recommend", "interim", "status", "superb", "transcribe", "classify", "verify", "voices")
NAMES += ("why", "push", "latency", "listen")
HEAVY = ("torch", "numpy", "pandas", "matplotlib", "transformers", "snakemake", "yaml")


def test_help_names_the_commands(capsys):
    command("--help")
    listed = re.findall(r"^  ([a-z]+) {2,}[A-Z].*\.$", capsys.readouterr().out, re.M)
    assert sorted(listed) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_help_has_examples(name, capsys):
    command(name, "--help")
    _, shown = capsys.readouterr().out.split("\n  Examples:\n")
    assert all(line.startswith("    ") for line in shown.splitlines())
    assert shown.startswith(f"    speech-pareto {name}")


def test_help_imports_nothing_heavy():
    code = "import sys; from speech_pareto.__main__ import main\n"
    code += "try: main(['recommend', '--help'])\n"
    code += f"except SystemExit: print('imported:', {set(HEAVY)} & set(sys.modules))"
    folder = ROOT / "workflow" / "scripts"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert "--max-parameters NUMBER" in done.stdout
    assert done.stdout.endswith("imported: set()\n"), done.stderr


def test_the_version_is_that_of_the_package(capsys):
    command("--version")
    assert capsys.readouterr().out == f"speech-pareto {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["statsu"], "Did you mean 'status'?"),
        (["recommend", "--max-parametres", "3"], "--max-parameters"),
        (["transcribe", "model", "a.wav", "--threads", "0"], "--threads"),
        (["classify", "model", "a.wav", "--threads", "0"], "--threads"),
        (["verify", "model", "a.wav", "b.wav", "--threads", "0"], "--threads"),
    ],
)
def test_what_is_misspelt_is_refused(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        command(*arguments)
    assert ended.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--configfile", "mine.yaml", "-np", "--cores", "2", "results/report.html"],
        ["--config", "a=1", "b=2", "--", "all", "--help"],
        [],
    ],
)
def test_all_arguments_of_why_go_to_snakemake(arguments, monkeypatch):
    passed = []
    monkeypatch.setattr(reruns, "dry_run", lambda given: passed.extend(given) or "")
    command("why", *arguments)
    assert passed == arguments


def test_the_shell_completes_what_there_is():
    code = (
        "from speech_pareto.__main__ import main; import sys; sys.argv = ['speech-pareto']; main()"
    )
    told = {
        "_SPEECH_PARETO_COMPLETE": "complete_bash",
        "COMP_WORDS": "speech-pareto recommend --max-p",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "workflow" / "scripts",
        env={"PATH": "", **told, "COMP_CWORD": "2"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["--max-parameters", "--max-peak-memory-bytes"], done.stderr
