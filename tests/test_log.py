"""The log of a job: ours in full, the traceback in the file, one sentence on stderr."""

import logging
import warnings

import pytest

from speech_pareto.log import logged


def test_messages_reach_file_and_stderr(tmp_path, capsys):
    path = tmp_path / "logs" / "rule.log"
    with logged(path):
        logging.getLogger("speech_pareto.training").info("step 1")
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
