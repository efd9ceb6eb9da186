"""Digests and imports of source files, told without importing them."""

import ast
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2]
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# What else a digest depends on: how it is made, and Python, whose `unparse` writes the text.
RULES = Path(__file__).read_bytes() + sys.version.encode()


@cache
def inspect(file: str, root: Path = SCRIPTS) -> tuple[str, tuple[str, ...]]:
    """Return the digest of a file below `root`, blind to comments and docstrings, and its imports.

    Imports are given as files below `root`; those from elsewhere are left out.
    """
    digest, names = _kept(root / file)
    files = {Path(*name.split(".")).with_suffix(".py").as_posix() for name in names}
    return digest, tuple(sorted(name for name in files if (root / name).is_file()))


def _kept(path: Path) -> tuple[str, list[str]]:
    """Return what `_parsed` returns, kept beside the bytecode: parsing all files takes a second.

    It is found again by content, so that no time stamp can be wrong.
    """
    source = path.read_bytes()
    content = hashlib.sha256(RULES + source).hexdigest()
    file = path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.digest.json"
    try:
        known, digest, names = json.loads(file.read_text(encoding="utf-8"))
        if known == content:
            return digest, names
    except (OSError, ValueError, TypeError):
        pass  # none yet, or damaged
    digest, names = _parsed(source)
    if not sys.dont_write_bytecode:
        with suppress(OSError):  # a folder that cannot be written
            file.parent.mkdir(exist_ok=True)
            part = file.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps([content, digest, names]), encoding="utf-8")
            part.replace(file)
    return digest, names


def _parsed(source: bytes) -> tuple[str, list[str]]:
    """Return a source's digest, blind to comments and docstrings, and the names it imports."""
    tree = ast.parse(source)
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:8], sorted(names)


def closure(sources: Iterable[str], root: Path = SCRIPTS) -> dict[str, str]:
    """Return file -> digest of `sources` and of all they import, directly or not, below `root`."""
    todo, found = list(sources), {}
    while todo:
        file = todo.pop()
        if file not in found:
            found[file], imported = inspect(file, root)
            todo += imported
    return dict(sorted(found.items()))


@cache
def fingerprint(path: Path, limit: int = 1 << 25) -> dict[str, str]:
    """Return file -> digest of what is in a folder (or of one file), whatever its time stamps.

    Of a file beyond `limit` bytes only the size and both ends count, so that planning stays quick.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digests = {}
    for file in files:
        size, end = file.stat().st_size, limit // 2
        digest = hashlib.sha256(str(size).encode())
        with file.open("rb") as stream:
            digest.update(stream.read(min(size, limit) if size <= limit else end))
            if size > limit:
                stream.seek(-end, 2)
                digest.update(stream.read())
        digests[file.relative_to(path.parent).as_posix()] = digest.hexdigest()[:8]
    return digests
