"""Digests of source: blind to comments, not to code; settings read without importing."""

import os
import subprocess
import sys

import pytest

from speech_pareto.runtime import source_digest

SOURCE = '''"""What it is."""

from package.other import helper


def double(x):
    """Return twice x."""
    return helper(2 * x)  # why
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "one.py").write_text(SOURCE)
    (folder / "other.py").write_text("import package.third\n\ndef helper(x):\n    return x\n")
    (folder / "third.py").write_text("from package import one\n")  # a cycle
    (folder / "apart.py").write_text("x = 1\n")
    return tmp_path


def of(root, file="package/one.py"):
    source_digest.inspect.cache_clear()
    return source_digest.closure([file], root)


def test_closure_follows_imports_and_cycles(package):
    assert list(of(package)) == ["package/one.py", "package/other.py", "package/third.py"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# why", "# why not"),
        ('"""What it is."""', '"""Else."""'),
        ('    """Return twice x."""\n', ""),
    ],
)
def test_comments_and_docstrings_do_not_count(package, old, new):
    before = of(package)
    (package / "package/one.py").write_text(SOURCE.replace(old, new))
    assert of(package) == before


def test_time_stamps_do_not_count(package):
    before = of(package)
    os.utime(package / "package/one.py", (1, 1))
    assert of(package) == before


def test_code_counts_where_it_is(package):
    before = of(package)
    (package / "package/other.py").write_text(
        "import package.third\n\ndef helper(x):\n    return -x\n"
    )
    after = of(package)
    assert [file for file in before if before[file] != after[file]] == ["package/other.py"]


def test_what_is_not_imported_does_not_count(package):
    before = of(package)
    (package / "package/apart.py").write_text("x = 2\n")
    assert of(package) == before


def test_what_was_found_is_kept_by_content(package, monkeypatch):
    before = of(package)
    monkeypatch.setattr(source_digest, "_parsed", lambda source: pytest.fail("parsed again"))
    assert of(package) == before
    monkeypatch.undo()
    file, time = package / "package/one.py", os.stat(package / "package/one.py").st_mtime_ns
    file.write_text(SOURCE.replace("2 * x", "3 * x"))  # as long as before, at the same time
    os.utime(file, ns=(time, time))
    assert of(package)["package/one.py"] != before["package/one.py"]


@pytest.mark.parametrize("content", ["", "{}", '["a"]', "[1, 2, 3]"])
def test_what_was_kept_may_be_damaged_or_missing(package, content):
    before = of(package)
    kept = list((package / "package" / "__pycache__").iterdir())
    assert len(kept) == len(before)
    for file in kept:
        file.write_text(content)
    assert of(package) == before
    for file in kept:
        file.unlink()
        file.mkdir()  # it cannot be written
    assert of(package) == before


def test_fingerprint_sees_content_only(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_bytes(bytes(100))
    before = source_digest.fingerprint.__wrapped__(folder)
    os.utime(folder / "weights", (1, 1))
    assert source_digest.fingerprint.__wrapped__(folder) == before
    assert source_digest.fingerprint.__wrapped__(folder, limit=10) != before  # ends and size only
    (folder / "weights").write_bytes(bytes(99) + b"x")
    assert source_digest.fingerprint.__wrapped__(folder) != before


def test_planning_imports_no_torch():
    code = "import sys; import speech_pareto.study.config; sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(source_digest.SCRIPTS)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
