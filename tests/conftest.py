"""Fixtures that several tests share."""

import shutil

import pytest


@pytest.fixture(scope="session")
def prompts_en(request):
    """Folder of the English prompts, really downloaded and prepared once, kept for later runs."""
    import fetch_corpus
    import prepare_corpus

    root = request.config.cache.mkdir("prompts")
    settings = {"source": "prompts", "languages": ["en"]}
    if not (root / "prompts").is_dir():
        shutil.rmtree(root / "downloads", ignore_errors=True)
        fetch_corpus.main("prompts", settings, root / "downloads")
        prepare_corpus.main("prompts", settings, root / "downloads", root / "prompts")
    return root / "prompts"
