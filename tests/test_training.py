"""The training loop: the same bytes after a kill, honest about NaN, reproducible batches."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import optimization

from helpers.backbones import backbone
from helpers.compressing import batches, compress, ratio_of
from helpers.small_training import SETTINGS, run
from helpers.waiting import Waits
from speech_pareto.compression import catalogue
from speech_pareto.compression.method import SelfSupervised
from speech_pareto.data.batches import PAD, Epochs, buckets, collate, crop
from speech_pareto.data.corpus import Utterance
from speech_pareto.data.selection import within
from speech_pareto.models.backbone import describe
from speech_pareto.training.checkpoint import newest
from speech_pareto.training.loop import Diverged, Training, generator_of, train
from speech_pareto.training.masking import span_mask
from speech_pareto.training.settings import Unlabelled

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


def test_what_a_batch_raises_ends_the_training():
    net = torch.nn.Linear(1, 1)

    def batch(step, generator):
        if step == 3:
            raise OSError("recording 7 is gone")
        return torch.ones(1, 1)

    with pytest.raises(OSError, match="recording 7"):
        train(net, batch, lambda x: (net(x).mean(), {}), SETTINGS, 0)


def test_batches_are_made_ahead_but_not_far():
    """As many as wait are in memory; each draws from its own step's generator."""
    net, made, most = torch.nn.Linear(4, 1), [], 0

    def batch(step, generator):
        made.append(step)
        return step, torch.from_numpy(generator.normal(size=(2, 4)).astype(np.float32))

    def loss(numbered):
        nonlocal most
        step, x = numbered
        most = max(most, len(made) - step)
        drawn = generator_of(0, step).normal(size=(2, 4)).astype(np.float32)
        assert np.array_equal(x.numpy(), drawn)
        time.sleep(0.01)
        return net(x).mean(), {}

    train(net, batch, loss, SETTINGS, 0)
    assert made == list(range(SETTINGS.steps)) and 2 <= most <= 3


def test_nan_is_reported_with_its_step():
    net = torch.nn.Linear(1, 1)

    def loss(x):
        return net(x).mean() * (float("nan") if x.item() == 5 else 1), {}

    with pytest.raises(Diverged, match="step 6"):
        train(net, lambda step, g: torch.tensor([[float(step)]]), loss, SETTINGS, 0)


def waits_of(name, teacher):
    """Return where the training of a method waits for its device."""
    waits = Waits()

    def loop(student, loss, averages="frames", **settings):
        more = {key: settings.pop(key, None) for key in ("follow", "moments")}
        training = Unlabelled(**settings)
        made = batches(training.steps, 0.5)
        with waits:
            train(student, lambda s, g: made[s], lambda b: (loss(b), {}), training, 1, **more)

    step = {name: {**catalogue.load(name).example, "steps": 3}}
    compress([step], teacher, ratio_of(name, 0.2, describe(teacher)), loop=loop)
    return waits.places


TRAINED = [n for n in catalogue.names() if issubclass(catalogue.load(n), SelfSupervised)]


@pytest.mark.parametrize("name", TRAINED)
def test_no_step_waits_for_the_device(name):
    """Subnets are drawn on the processor."""
    assert waits_of(name, backbone("hubert")) <= {("nested.py", "pick")}


def rates(count, **settings):
    """Return the share of the learning rate that each step of a run has."""
    training = Training(steps=count, learning_rate=1.0, **settings)
    return [training.factor(step, count) for step in range(count)]


def theirs(schedule, *arguments, **settings):
    """Return a schedule of transformers as a function of a number of steps."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    return schedule(optimiser, *arguments, **settings).lr_lambdas[0]


def test_rate_rises_stays_and_falls():
    shares = rates(100, warmup=0.1, decay=0.5)
    assert shares[0] == pytest.approx(0.1) and shares[9:50] == pytest.approx([1.0] * 41)
    assert all(a >= b for a, b in zip(shares[50:], shares[51:], strict=False))
    assert shares[-1] < 0.001
    expected = theirs(optimization.get_wsd_schedule, 10, 50, num_training_steps=100)
    begun = [expected(step + (step < 10)) for step in range(100)]
    assert shares == pytest.approx(begun)
    assert rates(5, warmup=0.0, decay=0.0) == [1.0] * 5


@pytest.mark.parametrize(("end", "shift"), [("first", 0), ("last", 1)])
@pytest.mark.parametrize("fall", ["linear", "cosine"])
def test_schedules_of_transformers_can_be_said(fall, end, shift):
    schedule = getattr(optimization, f"get_{fall}_schedule_with_warmup")
    expected = theirs(schedule, 30, 100)
    shares = rates(100, warmup=0.3, decay=None, fall=fall, end_step=end)
    assert shares == pytest.approx([expected(step + shift) for step in range(100)])
    assert [step for step, share in enumerate(shares) if share < 1e-12] == [-shift % 100]


def test_a_tri_stage_schedule_can_be_said():
    ends = {"first_rate": 0.01, "last_rate": 0.05, "fall": "exponential", "end_step": "first"}
    shares = rates(100, warmup=0.1, decay=0.5, **ends)
    assert shares[:11] == pytest.approx(np.linspace(0.01, 1, 11))
    assert shares[10:51] == [1.0] * 41
    assert shares[50:] == pytest.approx(np.geomspace(1, 0.05, 51)[:-1])
    with pytest.raises(ValueError, match="an exponential fall needs a last_rate above 0"):
        rates(1, fall="exponential")


def test_batches_are_bucketed_and_hold_every_utterance_once():
    lengths = np.random.default_rng(0).integers(100, 2000, 500)
    batches = buckets(lengths, 10_000, np.random.default_rng(1))
    assert sorted(sum(batches, [])) == list(range(500))
    assert all(len(b) * lengths[b].max() <= 10_000 or len(b) == 1 for b in batches)
    padded = sum(len(b) * lengths[b].max() for b in batches)
    assert padded < 1.15 * lengths.sum()  # random batches would pad by 60 %


def test_batches_can_be_counted_in_utterances():
    lengths = np.random.default_rng(0).integers(100, 2000, 50)
    epochs = Epochs(lengths, 1, 7, count=8)
    batches = [epochs(step) for step in range(7)]
    assert sorted(map(len, batches)) == [2, 8, 8, 8, 8, 8, 8]
    assert sorted(sum(batches, [])) == list(range(50))
    spread = [np.ptp(lengths[batch]) for batch in batches]
    assert np.mean(spread) < 0.4 * np.ptp(lengths)


def test_utterances_of_other_lengths_are_left_out(caplog):
    spoken = [Utterance(str(n), "", "", "", "", "", "train", 0, 1600 * n) for n in range(1, 9)]
    with caplog.at_level("INFO"):
        kept = within(spoken, 0.3, 0.6)
    assert [utterance.id for utterance in kept] == ["3", "4", "5", "6"]
    assert "4 of 8 training utterances last from 0.3 to 0.6 s" in caplog.text
    assert within(spoken, 0.0, None) == spoken
    with pytest.raises(ValueError, match="of 8 training utterances none lasts 2 s or longer"):
        within(spoken, 2.0, None)


def test_crops_are_drawn_from_the_step():
    wave = np.arange(100.0)
    found = [crop(wave, 30, generator_of(1, step)) for step in range(50)]
    assert all(np.array_equal(cut, wave[begin : begin + 30]) for cut, begin in found)
    assert all(len(cut) == 30 for cut, _ in found)
    assert len({begin for _, begin in found}) > 20
    assert crop(wave, 30, generator_of(1, 7))[1] == found[7][1]
    assert crop(wave, 100, generator_of(1, 0)) == (wave, 0)


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


def test_large_checkpoints_are_written_less_often():
    settings = Training(steps=1, learning_rate=1e-3, checkpoint_seconds=60)
    assert [settings.pause(took) for took in (0.0, 2.0, 10.0, 100.0)] == [60, 60, 200, 600]
    assert Training(steps=1, learning_rate=1e-3, checkpoint_seconds=0).pause(5.0) == 0
