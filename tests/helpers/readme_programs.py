"""Run the programs that the README of a deployed folder shows, without this package."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from helpers.checkout import ROOT
from helpers.only_installed import environment


def blocks(folder, language):
    """Return the blocks of code in a folder's README."""
    return re.findall(rf"```{language}\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


def listen(folder, wave, *packages, command=None):
    """Return what the README's program, or else a command, prints about speech.wav there."""
    soundfile.write(folder / "speech.wav", (wave[0] * 32768).astype(np.int16), 16_000)
    bare = environment(folder.with_name("bare"), *packages)
    bare |= {"HF_HOME": str(folder.with_name("cache")), "HF_HUB_OFFLINE": "1", "LC_ALL": "C.UTF-8"}
    bare["PATH"] = f"{Path(sys.executable).parent}:{bare['PATH']}"
    program = [sys.executable, "-c", *blocks(folder, "python")]
    hidden = subprocess.run(
        [sys.executable, "-c", "import speech_pareto"], cwd=folder, env=bare, capture_output=True
    )
    assert hidden.returncode == 1
    done = subprocess.run(
        command or program, cwd=folder, env=bare, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr if command else done.stdout


def in_node(folder, wave):
    """Return what the README's program for Node prints about speech.wav there."""
    soundfile.write(folder / "speech.wav", (wave[0] * 32768).astype(np.int16), 16_000)
    (folder / "run.mjs").write_text(*blocks(folder, "js"))
    (folder / "node_modules").symlink_to(ROOT / ".venv" / "node_modules")
    command = [ROOT / ".venv" / "bin" / "node", "run.mjs"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
