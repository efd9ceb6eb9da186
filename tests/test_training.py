"""The training loop: the same bytes after a kill, honest about NaN, reproducible batches."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.small_training import SETTINGS, run
from speech_pareto.data.batches import PAD, Epochs, buckets, collate
from speech_pareto.training.checkpoint import newest
from speech_pareto.training.loop import Diverged, Training, train
from speech_pareto.training.masking import span_mask

CHILD = """
import os, signal, sys, torch
sys.path.insert(0, {scripts!r})
from pathlib import Path
from helpers.small_training import run
run(Path({state!r}), {at}, {signal})
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_ends_with_the_same_bytes(tmp_path, number):
    whole, curve = run(None)
    here = Path(__file__).parent
    scripts = str(here.parent / "workflow/scripts")
    code = CHILD.format(scripts=scripts, state=str(tmp_path), at=25, signal=int(number))
    child = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True)
    assert child.returncode == (-9 if number == signal.SIGKILL else 143), child.stderr
    saved = torch.load(newest(tmp_path, "checkpoint"), weights_only=True)["step"]
    assert saved == (25 if number == signal.SIGKILL else 26)
    resumed, resumed_curve = run(tmp_path)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert curve == resumed_curve and curve[-1]["loss"] < curve[0]["loss"]


def test_nan_is_reported_with_its_step():
    net = torch.nn.Linear(1, 1)

    def loss(x):
        return net(x).mean() * (float("nan") if x.item() == 5 else 1), {}

    with pytest.raises(Diverged, match="step 6"):
        train(net, lambda step, g: torch.tensor([[float(step)]]), loss, SETTINGS, 0)


def test_rate_rises_stays_and_falls():
    settings = Training(steps=100, learning_rate=1.0, warmup=0.1, decay=0.5)
    rates = [settings.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:50] == pytest.approx([1.0] * 41)
    assert all(a >= b for a, b in zip(rates[50:], rates[51:], strict=False)) and rates[-1] < 0.001


def test_batches_are_bucketed_and_hold_every_utterance_once():
    lengths = np.random.default_rng(0).integers(100, 2000, 500)
    batches = buckets(lengths, 10_000, np.random.default_rng(1))
    assert sorted(sum(batches, [])) == list(range(500))
    assert all(len(b) * lengths[b].max() <= 10_000 or len(b) == 1 for b in batches)
    padded = sum(len(b) * lengths[b].max() for b in batches)
    assert padded < 1.15 * lengths.sum()  # random batches would pad by 60 %


def test_batches_of_a_step_do_not_depend_on_where_a_run_began():
    lengths = np.random.default_rng(0).integers(100, 2000, 50)
    first, second = Epochs(lengths, 5_000, 7), Epochs(lengths, 5_000, 7)
    expected = [first(step) for step in range(60)]
    assert [second(step) for step in (59, 3, 41)] == [expected[59], expected[3], expected[41]]
    assert (
        Epochs(lengths, 5_000, 8)(0) != expected[0] or Epochs(lengths, 5_000, 8)(1) != expected[1]
    )


def test_padding_is_masked():
    waves, mask = collate([np.ones(5, np.float32), np.ones(3, np.float32)])
    assert waves.tolist() == mask.tolist() and waves.shape == (2, PAD)
    assert waves.sum(1).tolist() == [5, 3] and waves[1, :5].tolist() == [1, 1, 1, 0, 0]


def test_recordings_are_normalised_where_a_teacher_wants_it():
    waves, mask = collate([np.arange(100, dtype=np.float32), np.ones(50, np.float32)], True)
    assert abs(waves[0, :100].mean()) < 1e-5 and waves[0, :100].std() == pytest.approx(1, abs=0.01)
    assert not waves[1].any() and mask.sum() == 150


def test_span_masks_hide_the_asked_share_inside_each_utterance():
    torch.manual_seed(0)
    lengths = torch.tensor([4000, 2000])
    mask = span_mask(lengths, 0.5, 10)
    assert not mask[1, 2000:].any()
    # spans overlap: 1 - (1 - p / span) ** span of the frames are hidden
    assert mask[0].float().mean() == pytest.approx(1 - 0.95**10, abs=0.05)
    runs = np.diff(np.flatnonzero(np.diff(np.pad(mask[0].int().numpy(), 1))))[::2]
    assert runs.min() >= 10 or runs[-1] == runs.min()
