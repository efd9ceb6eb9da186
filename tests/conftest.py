"""Fixtures that several test files share."""

import fcntl
import os

import numpy as np
import pytest

pytest.register_assert_rewrite("helpers")

from helpers import KINDS  # noqa: E402
from helpers.checkout import copy_tree, no_weights, run_snakemake  # noqa: E402

# What is imported in a fixture takes seconds, and most modules need it not.


def pytest_addoption(parser):
    """Say what only some runs do."""
    parser.addoption(
        "--base-in-full",
        action="store_true",
        help="take HuBERT Base through every job after every method, not after some of them",
    )


def pytest_collection_modifyitems(items):
    """Begin with the files of the slowest tests, so that at the end no process waits for another.

    Tests of one file stay together: else what a file's tests share would be made again and again.
    """

    def minutes(item):
        slow = item.get_closest_marker("slow")
        return slow.kwargs.get("minutes", 1) if slow else 0

    slowest = {}
    for item in items:
        slowest[item.path] = max(minutes(item), slowest.get(item.path, 0))
    items.sort(key=lambda item: slowest[item.path], reverse=True)


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


@pytest.fixture(scope="session")
def prompts_en(request):
    """Folder of the English prompts."""
    from helpers.corpora import real_prompts

    return real_prompts(request, "en")


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """Return the folder of tables of the synthetic grid, with the page one folder up.

    The processes of one run of the tests share it.
    """
    from helpers import synthetic_results

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "synthetic"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            synthetic_results.write_tables(folder)
            (folder / "done").touch()
    return folder / "results" / "tables"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Folder of 12 recordings of noise, and one that is too short to train on."""
    from helpers.corpora import write_noise

    lengths = [*np.random.default_rng(0).integers(3000, 9000, 12).tolist(), 300]
    return write_noise(tmp_path_factory.mktemp("noise"), lengths, "a")


@pytest.fixture(scope="session")
def transcribed(tmp_path_factory):
    """Folder of 13 recordings of noise, of unlike lengths: the last batch of an epoch is short."""
    from helpers.corpora import write_noise

    generator = np.random.default_rng(0)
    lengths = generator.integers(5000, 20_000, 13).tolist()
    return write_noise(tmp_path_factory.mktemp("noise"), lengths, "ab cd", generator)


# wav2vec 2.0 runs HuBERT's code, so that quick runs leave it out.
SOME_SLOW = [
    pytest.param(kind, marks=[pytest.mark.slow] if kind == "wav2vec2" else []) for kind in KINDS
]


@pytest.fixture(scope="module", params=SOME_SLOW)
def teacher(request):
    """Return a tiny random backbone of each kind."""
    from helpers.backbones import backbone

    return backbone(request.param)


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory):
    """Folder of a small log-mel HuBERT in half precision."""
    from helpers.backbones import saved

    return saved(tmp_path_factory.mktemp("teacher") / "backbone")


@pytest.fixture
def audio():
    """Return two utterances of unlike length, padded, and their attention mask."""
    import torch

    waves = torch.randn(2, 4000, generator=torch.Generator().manual_seed(7))
    mask = torch.ones(2, 4000).long()
    waves[1, 2600:], mask[1, 2600:] = 0, 0
    return waves, mask


@pytest.fixture
def batch(audio):
    """Return the two utterances as a batch."""
    return {"input_values": audio[0], "attention_mask": audio[1]}
