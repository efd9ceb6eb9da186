"""Digests of files."""

import hashlib
from pathlib import Path


def sha256(path: str | Path) -> str:
    """Return a file's SHA-256 in hex."""
    return digest_of(path, "sha256")


def digest_of(path: str | Path, algorithm: str) -> str:
    """Return a file's digest in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.new(algorithm, usedforsecurity=False)
        ).hexdigest()
