"""Digests of files, and ranks by them."""

import hashlib
from functools import partial
from pathlib import Path


def sha256(path: str | Path) -> str:
    """Return a file's SHA-256 in hex."""
    return digest_of(path, "sha256")


def digest_of(path: str | Path, algorithm: str) -> str:
    """Return a file's digest in hex."""
    new = partial(hashlib.new, algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, new).hexdigest()


def rank_of(text: str) -> str:
    """Return a stable pseudo-random rank of a text."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
