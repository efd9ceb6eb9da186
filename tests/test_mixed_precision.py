"""Mixed precision: mixtures, budgets and damages from their formulas; stopped trainings."""

import copy
import itertools
import os
import signal

import numpy as np
import pytest
import torch

import compress as script
from helpers.backbones import backbone
from helpers.compressing import batches, compress
from helpers.folders import files
from helpers.results import RUN
from speech_pareto.compression import allocation, method, recipes
from speech_pareto.compression.methods.mixed_precision import MixedPrecision
from speech_pareto.compression.parts import mixtures
from speech_pareto.models import backbone as model
from speech_pareto.models import packed, storage
from speech_pareto.runtime.result import read_status
from speech_pareto.training import loop
from speech_pareto.training.settings import Unlabelled

STEP = {"batches": 3, "batch_seconds": 0.4}


@pytest.fixture
def weights():
    return torch.randn(5, 150, generator=torch.Generator().manual_seed(3)) ** 3 + 0.1


def test_a_mixture_is_the_formula(weights):
    method = MixedPrecision(widths=(2, 4), average=3.0, temperature=0.7)
    own = mixtures.Mixture(method, weights.numel())
    own.logits.data = torch.tensor([0.3, -0.4])
    torch.manual_seed(9)
    found = own(weights)
    torch.manual_seed(9)
    noise = -np.log(torch.empty(2).exponential_().double().numpy())
    shares = np.exp((np.array([0.3, -0.4]) + noise) / 0.7)
    shares /= shares.sum()
    rounded = [
        packed.grid(weights, bits, 64, True).rounded(weights).double().numpy() for bits in (2, 4)
    ]
    expected = shares[0] * rounded[0] + shares[1] * rounded[1]
    assert found.detach().double().numpy() == pytest.approx(expected, abs=1e-4)
    chances = np.exp([0.3, -0.4]) / np.exp([0.3, -0.4]).sum()
    assert own.expected().item() == pytest.approx(chances @ [2, 4])
    with torch.autocast("cpu", torch.bfloat16):
        assert own.expected().item() == pytest.approx(chances @ [2, 4])
    assert list(own.costs().values()) == pytest.approx(-np.log(chances))


def test_roundings_are_not_kept_for_the_gradients(weights):
    method, own = MixedPrecision(), weights.clone().requires_grad_()
    mixture, sizes = mixtures.Mixture(method, own.numel()), []

    def keep(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        mixed = mixture(own)
    assert sum(sizes) < 2 * own.numel()  # the weights; all roundings are ten times as much
    mixed.sum().backward()
    assert own.grad.shape == own.shape and mixture.logits.grad.abs().sum() > 0


def test_the_loss_has_the_budget_in_it():
    teacher = backbone("hubert").eval()
    method, batch = MixedPrecision(average=4.0, penalty=5.0), batches(1, 0.4)[0]
    own = {name: mixtures.Mixture(method, 10) for name in ("a", "b")}
    own["b"].logits.data = torch.tensor([0.0, 9.0, 0.0, 0.0, 0.0])
    logits = [mixture.logits.detach().double().numpy() for mixture in own.values()]
    means = [np.exp(x) @ [2, 3, 4, 6, 8] / np.exp(x).sum() for x in logits]
    plain = method.loss(teacher, teacher, {}, batch).item()
    found = method.loss(teacher, teacher, own, batch).item()
    assert found - plain == pytest.approx(5 * (np.mean(means) / 4 - 1) ** 2, rel=1e-3)


def test_the_cheapest_choice_is_that_of_brute_force():
    generator = np.random.default_rng(5)
    widths, names = (2, 3, 4, 8), ("a", "b", "c", "d")
    number = dict(zip(names, (100, 400, 50, 230), strict=True))
    damage = {name: dict(zip(widths, generator.random(4), strict=True)) for name in names}
    sizes = {name: {bits: number[name] * bits / 8 for bits in widths} for name in names}
    ways = [dict(zip(names, way, strict=True)) for way in itertools.product(widths, repeat=4)]
    for least, most in ((300, 340), (0, 250), (500, 600)):
        fits = [w for w in ways if least <= sum(sizes[n][w[n]] for n in names) <= most]
        best = min(fits, key=lambda way: sum(damage[name][way[name]] for name in names))
        assert allocation.cheapest(damage, sizes, least, most) == best
    with pytest.raises(ValueError, match="no choice takes 100 to 120"):
        allocation.cheapest(damage, sizes, 100, 120)


def real_states(backbone, batch):
    """Return the last hidden state (frames, width) of all real frames, in float64."""
    states = backbone(**batch).last_hidden_state
    frames = states.shape[1], batch["attention_mask"]
    return states[backbone._get_feature_vector_attention_mask(*frames)].double()


@torch.no_grad()
def test_damage_is_that_of_one_tensor_alone():
    teacher, audio = backbone("hubert").eval(), batches(2, 0.4)
    own = MixedPrecision(widths=(2, 4), average=3.0, batches=2, batch_seconds=0.4)
    names = ["encoder.pos_conv_embed.conv", "encoder.layers.1.feed_forward.output_dense"]
    context = method.Context(1, teacher, batches=batches)
    found = own.measure(teacher, model.describe(teacher), context)
    states = torch.cat([real_states(teacher, batch) for batch in audio])
    for name, bits in itertools.product(names, (2, 4)):
        changed = copy.deepcopy(teacher)
        packed.round_weights(
            changed.get_submodule(name), own.grid(teacher.get_submodule(name).weight, bits)
        )
        gaps = torch.cat([real_states(changed, batch) for batch in audio]) - states
        spread = states - states.mean(0)
        share = gaps.square().sum() / spread.square().sum()
        assert found[name][bits] == pytest.approx(share.item(), rel=1e-3)
    assert found[names[0]][2] > found[names[0]][4] > 0


def train(student, loss, averages="frames", follow=None, moments=None, **settings):
    """Be the real loop, on noise."""
    training = Unlabelled(**{**settings, "precision": "fp32"})
    made = batches(training.steps, 0.4)
    loop.train(student, lambda step, _: made[step], lambda b: (loss(b), {}), training, seed=1)


@pytest.mark.parametrize("choice", ["learnt", "sensitivity"])
def test_mixed_bits_fill_the_budget_and_beat_one_width(choice):
    teacher, audio = backbone("wavlm"), batches(3, 0.4)
    settings = {"average": 3.0, "choice": choice, "steps": 40, "width_rate": 0.3, **STEP}
    settings["learning_rate"] = 1e-3
    student, solution = compress([{"mixed_precision": settings}], teacher, 0.0, loop=train)
    plain, even = compress([{"intx": {"bits": 3}}], teacher, 0.0)
    bits = storage.bits_of(solution.config)
    assert len(set(bits.values())) > 1
    size, most = (storage.stored_bytes(x.config) for x in (solution, even))
    assert 0.99 * most < size <= most

    @torch.no_grad()
    def error(model):
        gaps = (model(**x).last_hidden_state - teacher(**x).last_hidden_state for x in audio)
        return sum(gap.square().mean() for gap in gaps).item()

    assert error(student.eval()) < 0.95 * error(plain)


@pytest.mark.parametrize("stop", [2, 6])  # while bits are learnt, and while the chosen ones train
def test_a_stopped_training_ends_with_the_same_bytes(
    stop, teacher_folder, corpus, tmp_path, monkeypatch
):
    settings = {"steps": 4, "second_steps": 4, "batch_seconds": 2.0}

    def make(name):
        folder = tmp_path / name
        step = [{"mixed_precision": settings}]
        places = folder / "student", folder / "state"
        script.main(step, 0.0, 1, teacher_folder, [corpus], RUN, *places, precision="fp32")
        return folder / "student"

    whole, seen, loss = make("whole"), [], MixedPrecision.loss

    def stopping(self, *arguments):
        seen.append(1)
        if len(seen) == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(self, *arguments)

    monkeypatch.setattr(MixedPrecision, "loss", stopping)
    with pytest.raises(SystemExit, match="143"):
        make("stopped")
    assert not (tmp_path / "stopped" / "student").exists()
    assert read_status(make("stopped")) is None
    assert len(seen) < 8 + stop  # it went on where it was stopped
    assert files(whole) == files(tmp_path / "stopped" / "student")


def test_an_average_out_of_reach_is_named():
    with pytest.raises(ValueError, match="average must lie between"):
        recipes.make({"mixed_precision": {"average": 2.5, "widths": [3, 4]}})
