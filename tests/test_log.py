"""The log of a job: ours in full, the traceback in the file, one sentence on stderr."""

import logging
import subprocess
import warnings

import pytest

from speech_pareto.runtime.log import logged


def test_messages_reach_file_and_stderr(tmp_path, capsys):
    path = tmp_path / "logs" / "rule.log"
    with logged(path):
        logging.getLogger("speech_pareto.training.loop").info("step 1")
        logging.getLogger("fontTools").info("glyf pruned")
        warnings.warn("careful", stacklevel=1)
    text = path.read_text()
    assert "step 1" in text
    assert "careful" in text
    assert "glyf" not in text
    assert "step 1" in capsys.readouterr().err


def test_an_error_ends_in_one_sentence_and_a_traceback_in_the_log(tmp_path, capsys):
    path = tmp_path / "rule.log"
    with pytest.raises(SystemExit) as caught, logged(path):
        raise ValueError("no such voice")
    assert caught.value.code == 1
    assert "Traceback" in path.read_text()
    said = capsys.readouterr().err
    assert "ValueError: no such voice" in said
    assert str(path) in said
    assert "Traceback" not in said


def test_logging_is_as_before_afterwards(tmp_path):
    before = list(logging.getLogger().handlers), logging.getLogger().level
    with logged(tmp_path / "rule.log"):
        pass
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == before


def test_a_full_disk_is_said_whatever_the_library_says(tmp_path, capsys):
    small = tmp_path / "small"
    small.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)]
    if subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        with pytest.raises(SystemExit), logged(small / "rule.log"):
            with (small / "fill").open("wb", buffering=0) as file:
                while file.write(bytes(1 << 16)) == 1 << 16:
                    pass
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos")
    finally:
        subprocess.run(["umount", str(small)], check=True)
    said = capsys.readouterr().err
    assert "is full; make room and run again" in said and str(small) in said
