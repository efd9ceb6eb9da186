"""Folders are written whole or not at all."""

import pytest

from speech_pareto.runtime.files import whole_folder


def fail(output, **how):
    with pytest.raises(OSError, match="no space"), whole_folder(output, **how) as part:
        (part / "new").write_text("half")
        raise OSError("no space left")


def test_a_folder_takes_the_place_of_the_one_before(tmp_path):
    output = tmp_path / "deep" / "folder"
    for text in ("one", "two"):
        with whole_folder(output) as part:
            assert not list(part.iterdir())
            (part / text).write_text(text)
    assert [file.name for file in output.iterdir()] == ["two"]
    assert [file.name for file in output.parent.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("how", "left"), [({}, []), ({"keep": True}, ["new"]), ({"resume": True}, ["new"])]
)
def test_after_an_error_the_folder_is_what_it_was(tmp_path, how, left):
    output, part = tmp_path / "folder", tmp_path / "folder.part"
    output.mkdir()
    (output / "old").write_text("whole")
    fail(output, **how)
    assert [file.name for file in output.iterdir()] == ["old"]
    assert [file.name for file in part.glob("*")] == left
    with whole_folder(output, **how) as again:
        assert [file.name for file in again.iterdir()] == (left if "resume" in how else [])
