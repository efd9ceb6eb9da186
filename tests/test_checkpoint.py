"""Checkpoints: two are kept, damaged ones are refused, a full disk loses nothing."""

import logging
import subprocess

import pytest
import torch

from helpers.small_training import run
from speech_pareto.training.checkpoint import keep, keep_one, newest


def states(folder):
    return sorted(folder.glob("checkpoint-*"))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_newest_two_are_kept(tmp_path):
    for step in (5, 20, 100):
        keep(tmp_path, "checkpoint", lambda path, text=str(step): path.write_text(text), step)
    assert [path.read_text() for path in states(tmp_path)] == ["20", "100"]
    assert newest(tmp_path, "checkpoint").read_text() == "100"
    assert newest(tmp_path, "units") is None and newest(None, "checkpoint") is None
    flip_a_bit(newest(tmp_path, "checkpoint"))
    keep_one(tmp_path, "checkpoint")
    assert [path.read_text() for path in states(tmp_path)] == ["20"]  # that is sound


@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
def test_a_damaged_one_is_refused_and_the_one_before_used(tmp_path, damage, caplog):
    whole, curve = run(None)
    run(tmp_path)
    last = states(tmp_path)[-1]
    damage(last)
    caplog.set_level(logging.INFO)
    resumed, resumed_curve = run(tmp_path)
    assert f"{last.name} is damaged" in caplog.text
    assert "continuing after step 39" in caplog.text
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert curve == resumed_curve


@pytest.mark.slow
def test_without_a_sound_one_training_begins_anew(tmp_path, caplog):
    whole, _ = run(None)
    run(tmp_path)
    for path in states(tmp_path):
        truncate(path)
    caplog.set_level(logging.INFO)
    again, _ = run(tmp_path)
    assert "continuing" not in caplog.text
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_a_full_disk_leaves_the_last_one_and_nothing_else(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path])
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        keep(tmp_path, "checkpoint", lambda path: path.write_bytes(b"1" * 40_000), 1)
        with pytest.raises(OSError, match="No space left"):
            keep(tmp_path, "checkpoint", lambda path: path.write_bytes(b"2" * 40_000), 2)
        assert [path.stat().st_size for path in tmp_path.iterdir()] == [40_000]
        assert newest(tmp_path, "checkpoint").read_bytes() == b"1" * 40_000
    finally:
        subprocess.run(["umount", tmp_path], check=True)
