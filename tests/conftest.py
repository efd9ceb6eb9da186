"""Fixtures that several test files share."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = {".git", ".venv", ".venv-s3prl", ".snakemake", "results", "checkpoints", "logs", "build"}


def pytest_collection_modifyitems(items):
    """Begin with the slow tests, so that at the end no process waits for another."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def copy_tree(target: Path) -> Path:
    """Copy the checkout without what runs leave in it."""

    def ignored(folder: str, names: list[str]) -> set[str]:
        caches = {name for name in names if name in ("__pycache__", ".pytest_cache", ".ruff_cache")}
        return caches | (LEFT_OUT & set(names) if Path(folder) == ROOT else set())

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


def run_snakemake(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    """Run Snakemake in `folder`; a failure shows all it said."""
    command = [sys.executable, "-m", "snakemake", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    if check and done.returncode:
        pytest.fail(f"{' '.join(command)} failed in {folder}:\n{done.stdout}\n{done.stderr}")
    return done


@pytest.fixture
def tree(tmp_path):
    """Return a copy of the checkout that a test may change."""
    return copy_tree(tmp_path / "tree")


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return a small valid config; its paths are seen from the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("teacher", "teacher-phones"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(no_weights())
    (tmp_path / "mine.tsv").write_text("path\n")
    training = {"steps": 10, "learning_rate": 0.001}
    return {
        "corpora": {
            "prompts": {"source": "prompts", "languages": ["en", "fr"]},
            "mine": {"source": "manifest", "path": "mine.tsv", "language": "de"},
        },
        "teachers": {"tiny": {"path": "teacher", "finetuned": {"phones": "teacher-phones"}}},
        "recipes": {
            "identity": ["identity"],
            "thin": ["ffn_pruning"],
            "distilled": [{"distillation": {"steps": 3}}],
        },
        "tasks": {
            "phones": {
                "corpora": ["prompts", "mine"],
                "metric": "per",
                "teacher": dict(training),
                "student": dict(training),
            }
        },
        "grid": [{"ratios": [0.5, 0.25], "seeds": [1, 2]}, {"ratios": [0.5], "seeds": [1]}],
    }


@pytest.fixture
def snakemake():
    """Return the function that runs Snakemake in a folder."""
    return run_snakemake


def real_prompts(request, language: str) -> Path:
    """Folder of a language's prompts, really downloaded and prepared once, kept for later runs."""
    import fetch_corpus
    import prepare_corpus

    root = request.config.cache.mkdir(f"prompts-{language}")
    settings = {"source": "prompts", "languages": [language]}
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the processes of one run share the folder
        if not (root / "prompts").is_dir():
            shutil.rmtree(root / "downloads", ignore_errors=True)
            fetch_corpus.main("prompts", settings, root / "downloads")
            prepare_corpus.main("prompts", settings, root / "downloads", root / "prompts")
    return root / "prompts"


@pytest.fixture(scope="session")
def prompts_en(request):
    """Folder of the English prompts."""
    return real_prompts(request, "en")


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """Return the folder of tables of the synthetic grid, with the page one folder up."""
    import synthetic_results

    return synthetic_results.write_tables(tmp_path_factory.mktemp("study"))
