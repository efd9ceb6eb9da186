"""Digests and imports of source files, told without importing them."""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2]
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def inspect(file: str, root: Path = SCRIPTS) -> tuple[str, tuple[str, ...]]:
    """Return the digest of a file below `root`, blind to comments and docstrings, and its imports.

    Imports are given as files below `root`; those from elsewhere are left out.
    """
    tree = ast.parse((root / file).read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    digest = hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:8]
    files = {Path(*name.split(".")).with_suffix(".py").as_posix() for name in names}
    return digest, tuple(sorted(name for name in files if (root / name).is_file()))


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
