"""Where files lie: the rooms of the library, and what test modules share."""

import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from helpers.checkout import ROOT

HOUSE = ROOT / "workflow" / "scripts" / "speech_pareto"
MODULES = sorted((ROOT / "tests").glob("test_*.py"))


def test_beside_its_rooms_the_library_has_only_its_entry_points():
    assert {path.name for path in HOUSE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_no_file_name_is_taken_twice():
    names = Counter(path.name for path in HOUSE.rglob("*.py") if path.name != "__init__.py")
    assert [name for name, number in names.items() if number > 1] == []


def test_rooms_import_only_from_rooms_below_them():
    """The order of the rooms stands in pyproject.toml."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    environment = os.environ | {"PYTHONPATH": str(HOUSE.parent)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_no_test_module_imports_another():
    others = {path.stem for path in MODULES} | {"conftest"}
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            taken = others & {name.partition(".")[0] for name in names}
            assert not taken, f"{module.name}: {ast.unparse(node)}"
