"""What a result was made with: commit, versions, hardware, seed.  Never a time."""

import os
import platform
import re
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("numpy", "safetensors", "scikit-learn", "torch", "transformers")
ROOT = Path(__file__).resolve().parents[4]


def meta(seed: int | None = None, threads: int | None = None, digests: dict | None = None) -> dict:
    """Return the `meta` section of a result: {commit, dirty, seed, versions, hardware, digests}.

    Nothing heavy is imported: versions come from the packages' metadata.
    """
    commit, dirty = commit_of(ROOT)
    return {
        "commit": commit,
        "dirty": dirty,
        "seed": seed,
        "versions": versions(),
        "hardware": hardware() | {"threads": threads},
        "digests": digests or {},
    }


@cache
def commit_of(folder: Path) -> tuple[str | None, bool | None]:
    """Return a checkout's commit and whether tracked files differ from it; Nones without git.

    What `rules/source.smk` unpacked from a repository has its commit for a name.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None or Path(top) != folder:  # in no checkout, or somewhere in another one
        return (folder.name, False) if re.fullmatch("[0-9a-f]{40}", folder.name) else (None, None)
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return commit, None if commit is None or status is None else bool(status)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def hardware() -> dict[str, str | int | None]:
    """Return the processor's name, its number of cores and the first GPU's name, if any."""
    return {"cpu": _processor(), "cores": os.cpu_count(), "gpu": _gpu()}


def _processor() -> str:
    """Return the processor's name as Linux or macOS gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    told = _run("sysctl", "-n", "machdep.cpu.brand_string")
    return told or platform.processor() or platform.machine()


def _gpu() -> str | None:
    """Return the name of the first NVIDIA GPU, else None."""
    names = _run("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return names.splitlines()[0] if names else None


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git says of `folder` if that is the top of a checkout, else None."""
    return _run("git", "-C", str(folder), *arguments) if (folder / ".git").exists() else None


def _run(*command: str) -> str | None:
    """Return a program's output, None if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
