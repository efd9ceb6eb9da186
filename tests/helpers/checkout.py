"""The checkout: copies of it, and Snakemake run in them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from helpers.snakemake_server import Server

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(
    *(".git", ".venv*", ".snakemake", "results", "checkpoints", "logs", "build", "site")
)
CACHES = shutil.ignore_patterns(".*_cache", ".hypothesis")
SNAKEMAKE = Server()  # one for each process of the tests


def copy_tree(target: Path) -> Path:
    """Copy the checkout with its bytecode, without anything else that runs leave in it."""

    def ignored(folder: str, names: list[str]) -> set[str]:
        return CACHES(folder, names) | (LEFT_OUT(folder, names) if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, target, ignore=ignored, symlinks=True)
    for name in ("tiny", "tiny-phones", "tiny-characters"):  # planning only needs them to be there
        config = target / "resources" / "teachers" / name / "config.json"
        if not config.exists():
            config.parent.mkdir(parents=True)
            config.write_text("{}")
    return target


def no_weights(note: str = "") -> bytes:
    """Return a file of safetensors without any tensor."""
    header = f'{{"__metadata__": {{"note": "{note}"}}}}'.encode()
    return len(header).to_bytes(8, "little") + header


def called_in(folder: Path, cores: int) -> list:
    """Return the arguments of Snakemake that run the workflow of this checkout in `folder`."""
    snakefile = ROOT / "workflow" / "Snakefile"
    return ["--snakefile", snakefile, "--directory", folder, "--cores", str(cores)]


def run_snakemake(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    """Run Snakemake in `folder`; a failure shows all it said."""
    done = SNAKEMAKE.run(folder, list(map(str, arguments)))
    if check and done.returncode:
        pytest.fail(f"{' '.join(done.args)} failed in {folder}:\n{done.stdout}\n{done.stderr}")
    return done
