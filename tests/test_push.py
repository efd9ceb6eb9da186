"""Folders on their way to the hub, whose protocol a server on loopback speaks."""

import os
import subprocess
import sys

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import save_file

from helpers.checkout import ROOT
from helpers.loopback import WritableHub, serve

CARD = "---\nlicense: apache-2.0\n---\n# A student\n"


@pytest.fixture
def folder(tmp_path):
    """Return a student's folder, with a large file and small ones."""
    made = tmp_path / "transformers"
    made.mkdir()
    save_file({"weight": torch.arange(10_000.0)}, made / "model.safetensors")
    (made / "config.json").write_text("{}")
    (made / ".hidden").write_text("not for others")
    (made / "README.md").write_text(CARD)
    return made


@pytest.fixture
def hub(tmp_path):
    """A hub to which one token may write."""
    with serve(tmp_path / "hub", WritableHub) as running:
        running.tokens.add("mine")
        yield running


def push(hub, *arguments, token="mine"):
    """Run the command in a process for which the server is the hub; return what came of it."""
    given = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"}
    given |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": str(ROOT / "workflow/scripts")}
    command = [sys.executable, "-m", "speech_pareto", "push", *map(str, arguments)]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False)


def test_nothing_is_sent_before_it_is_said(hub, folder):
    done = push(hub, folder, "me/small")
    assert done.returncode == 0, done.stderr
    assert "3 files" in done.stdout and "model.safetensors  40.1 kB" in done.stdout
    assert "Nothing was sent" in done.stdout
    assert not any(hub.folder.iterdir())


def test_all_files_arrive_whole(hub, folder):
    done = push(hub, folder, "me/small", "--licence", "cc-by-4.0", "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{hub.url}/me/small/commit/1"
    sent = hub.folder / "me/small/main"
    names = {"model.safetensors", "config.json", "README.md"}
    assert {path.name for path in sent.iterdir()} == names
    for name in names:
        assert (sent / name).read_bytes() == (folder / name).read_bytes()
    assert ModelCard.load(sent / "README.md").data.license == "cc-by-4.0"


def test_what_hinders_is_listed_at_once(hub, folder):
    (folder / "README.md").write_text("# No metadata\n")
    (folder / "model.safetensors").unlink()
    done = push(hub, folder, "small", "--yes")
    assert done.returncode == 1
    assert "problem: 'small' is not owner/name" in done.stdout
    assert "problem: no model is in it: model.safetensors or *.onnx" in done.stdout
    assert "problem: its card names no licence" in done.stdout
    (folder / "README.md").unlink()
    done = push(hub, folder, "me/small")
    assert done.returncode == 1 and "problem: no model card is in it" in done.stdout
    assert "is no folder" in push(hub, folder / "nowhere", "me/small").stdout
    assert not any(hub.folder.iterdir())


def test_what_the_hub_refuses_is_one_sentence(hub, folder):
    done = push(hub, folder, "me/small", "--yes", token="theirs")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: me/small: ") and "401" in line and "hf auth login" in line
