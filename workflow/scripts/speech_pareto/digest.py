"""What can be known of source files without importing them: digests, imports, settings."""

import ast
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
REQUIRED = object()  # stands for the default of a setting that has none
COMPUTED = object()  # stands for a default that only running the file could tell


@dataclass(frozen=True)
class Setting:
    """One field of a dataclass: its annotation as written, and its default."""

    annotation: str
    default: object = REQUIRED


@cache
def parse(file: Path) -> ast.Module:
    """Return the syntax tree of `file`."""
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


@cache
def inspect(file: str, root: Path = SCRIPTS) -> tuple[str, tuple[str, ...]]:
    """Return the digest of a file below `root`, blind to comments and docstrings, and its imports.

    Imports are given as files below `root`; those from elsewhere are left out.
    """
    tree = ast.parse((root / file).read_text(encoding="utf-8"))  # altered below, hence not `parse`
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


def settings(
    file: Path, name: str | None = None, root: Path = SCRIPTS
) -> dict[str, Setting] | None:
    """Return the fields of the dataclass `name` (or of the last one) in `file`, inherited ones too.

    Underscored fields, `ClassVar`s and plain class attributes are no settings.  None if there is
    no such class.
    """
    found, classes = None, {}
    for node in parse(file).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            source = root / Path(*node.module.split(".")).with_suffix(".py")
            classes |= {alias.asname or alias.name: (source, alias.name) for alias in node.names}
        elif isinstance(node, ast.ClassDef):
            classes[node.name] = (file, node.name)
            if _is_dataclass(node) and name in (None, node.name):
                found = {}
                for base in node.bases:
                    source, inherited = classes.get(ast.unparse(base), (file, ""))
                    if source.is_file():
                        found |= settings(source, inherited, root) or {}
                found |= _fields(node)
    return found


def constant(file: Path, name: str) -> object | None:
    """Return the literal that `file` assigns to `name` at its top level, else None."""
    return _assigned(parse(file).body, name)


@cache
def attribute(file: Path, name: str) -> object | None:
    """Return the literal that a class in `file` assigns to `name`, else None."""
    values = [
        _assigned(node.body, name) for node in parse(file).body if isinstance(node, ast.ClassDef)
    ]
    return next((value for value in values if value is not None), None)


@cache
def defines(file: Path, *names: str) -> bool:
    """Return whether `file` defines one of these functions, in a class or outside."""
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return any(isinstance(node, functions) and node.name in names for node in ast.walk(parse(file)))


def stems(folder: Path) -> list[str]:
    """Return the names of the Python files in `folder`, but `__init__`."""
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def _fields(node: ast.ClassDef) -> dict[str, Setting]:
    """Return the settings that a class itself adds."""
    return {
        field.target.id: Setting(ast.unparse(field.annotation), _default(field.value))
        for field in node.body
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and not field.target.id.startswith("_")
        and "ClassVar" not in ast.unparse(field.annotation)
    }


def _assigned(body: list[ast.stmt], name: str) -> object | None:
    """Return the literal that one of these statements assigns to `name`, else None."""
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            try:
                return ast.literal_eval(node.value)
            except (TypeError, ValueError):
                return None
    return None


def _is_dataclass(node: ast.ClassDef) -> bool:
    """Return whether a class carries the decorator."""
    return any(ast.unparse(decorator).startswith("dataclass") for decorator in node.decorator_list)


def _default(value: ast.expr | None) -> object:
    """Return the default that a field is given, if it is a literal."""
    if value is None:
        return REQUIRED
    try:
        return ast.literal_eval(value)
    except ValueError:
        return COMPUTED
