"""Small numbers: what int8 computes, how models of small numbers are stored, and how they train."""

import copy

import pytest
import torch
from safetensors.torch import load_file

from helpers.compressing import compress
from speech_pareto.models import architecture, quantisation, surgery
from speech_pareto.models import backbone as model
from speech_pareto.models.model_folder import read_config
from speech_pareto.profiling import cost
from speech_pareto.training import loop

STEPS = {"float16": "half_precision", "bfloat16": {"half_precision": {"dtype": "bfloat16"}}}
STEPS |= {"int8": "int8"}


@pytest.fixture
def wave():
    return torch.randn(2, 3000, generator=torch.Generator().manual_seed(7))


def rounded(rows):
    """Return what int8 with one scale per row makes of float64 rows."""
    scale = rows.abs().max(1, keepdim=True).values / 127
    return torch.floor(rows / scale + 0.5) * scale


def test_the_integer_product_is_the_formula():
    torch.manual_seed(0)
    linear, frames = torch.nn.Linear(50, 23), torch.randn(2, 9, 50)
    small = quantisation.Int8Linear.of(linear)
    assert small.weight.dtype == torch.int8 and small.weight.abs().max() == 127
    weights, bias = linear.weight.detach().double(), linear.bias.detach().double()
    expected = rounded(frames.flatten(0, 1).double()) @ rounded(weights).T + bias
    assert torch.allclose(small(frames).flatten(0, 1).double(), expected, atol=1e-5)
    assert (expected - frames.flatten(0, 1).double() @ weights.T - bias).abs().max() > 1e-3


def test_a_frame_does_not_feel_its_neighbours():
    small = quantisation.Int8Linear.of(torch.nn.Linear(50, 23))
    frames = torch.randn(6, 50)
    louder = torch.cat([frames[:1], 100 * frames[1:]])
    assert torch.equal(small(frames)[0], small(louder)[0])
    assert small(torch.zeros(1, 50)).isfinite().all()  # silence has no largest number


def test_the_gradient_passes_straight_through():
    linear = torch.nn.Linear(50, 23)
    small = quantisation.Int8Linear.of(linear)
    frames = torch.randn(4, 50, requires_grad=True)
    pull = torch.randn(4, 23)
    (small(frames) * pull).sum().backward()
    assert torch.allclose(frames.grad, pull @ small.dequantised(), atol=1e-5)


@pytest.mark.parametrize("name", STEPS)
def test_the_folder_holds_the_small_numbers(name, teacher, wave, tmp_path):
    student, _ = compress([STEPS[name]], teacher, 0.0)
    model.save(teacher, tmp_path / "teacher")
    model.save(student, tmp_path / "student")
    tensors = load_file(tmp_path / "student" / "model.safetensors")
    config = read_config(tmp_path / "student")
    assert config["compression"]["number_format"] == name
    matrices = [k for k in tensors if k.endswith(("q_proj.weight", "dense.weight"))]
    assert {str(tensors[k].dtype) for k in matrices} == {f"torch.{name}"}
    assert config["dtype"] == ("float32" if name == "int8" else name)
    files = [tmp_path / folder / "model.safetensors" for folder in ("student", "teacher")]
    small, large = (file.stat().st_size for file in files)
    weights = sum(o * i for o, i in architecture.linear_shapes(config))
    saved = 3 * weights if name == "int8" else 2 * architecture.count(config)["total"]
    assert large - small == pytest.approx(saved, rel=0.05)  # int8: less the scales
    assert (student(wave).last_hidden_state - teacher(wave).last_hidden_state).abs().mean() < 0.05


@pytest.mark.parametrize("name", STEPS)
def test_costs_are_those_of_the_small_numbers(name, teacher, tmp_path):
    student, _ = compress([STEPS[name]], teacher, 0.0)
    model.save(student, tmp_path / "student")
    settings = {"audio_seconds": 0.5, "repeats": 1}
    measured = cost.cost(teacher, model.load(tmp_path / "student"), tmp_path / "student", settings)
    assert measured["parameters"]["total"] == cost.parameters(teacher)["total"]
    assert measured["ratio"] == 0
    assert measured["macs_per_second"] == 2 * cost.macs(teacher, cost.noise(0.5))
    assert measured["bytes"] == (tmp_path / "student" / "model.safetensors").stat().st_size
    held = sum(p.numel() * p.element_size() for p in student.parameters())
    assert held < 0.6 * sum(p.numel() * p.element_size() for p in teacher.parameters())
    if teacher.config.model_type != "wavlm":  # whose attention computes otherwise once it is cut
        assert measured["peak_memory_bytes"] < cost.peak_memory(teacher, cost.noise(0.5))


def train(student, wave, steps=5):
    """Train a student in the real loop to give ones; return its loss before and after."""

    def loss(batch):
        return (student(batch).last_hidden_state - 1).square().mean(), {}

    settings = loop.Training(steps=steps, learning_rate=3e-2, precision="fp32")
    before = loss(wave)[0].item()
    with quantisation.trainable(student):
        loop.train(student, lambda step, generator: wave, loss, settings, seed=1)
    return before, loss(wave)[0].item()


@pytest.mark.parametrize("name", STEPS)
def test_small_numbers_train_and_stay_small(name, teacher, wave, tmp_path):
    student, _ = compress([STEPS[name]], teacher, 0.0)
    old = {key: value.clone() for key, value in student.state_dict().items()}
    before, after = train(student, wave)
    assert after < 0.9 * before
    new = student.state_dict()
    assert {k: v.dtype for k, v in new.items()} == {k: v.dtype for k, v in old.items()}
    key = "encoder.layers.1.feed_forward.intermediate_dense.weight"
    assert not torch.equal(new[key], old[key])  # the matrices themselves have moved
    model.save(student, tmp_path / "student")
    again = model.load(tmp_path / "student")
    assert torch.equal(again(wave).last_hidden_state, student(wave).last_hidden_state)


@torch.no_grad()
def test_training_sees_the_rounding_of_the_finished_model(teacher, wave):
    student, _ = compress(["int8"], teacher, 0.0)
    finished, plain = student(wave).last_hidden_state, teacher(wave).last_hidden_state
    with quantisation.trainable(student):
        trained = student(wave).last_hidden_state
    # A difference of 1e-7 turns a few numbers into their neighbours; without rounding all differ.
    assert 3 * (trained - finished).abs().mean() < (plain - finished).abs().mean()


def weights_of(student):
    """Return all weights of the layers' matrices in a row."""
    modules = [x for layer in student.encoder.layers for x in surgery.linears(layer).values()]
    return torch.cat([module.weight.detach().clone().flatten() for module in modules])


@pytest.mark.parametrize("name", STEPS)
def test_zeros_hold_in_training(name, teacher, wave, tmp_path):
    student, _ = compress(["weight_pruning", STEPS[name]], teacher, 0.3)
    model.save(student, tmp_path / "student")
    student = model.load(tmp_path / "student")
    before = weights_of(student)
    train(student, wave, 2)
    after = weights_of(student)
    assert not torch.equal(after, before)
    assert (before == 0).sum() > 0.3 * before.numel() and (after[before == 0] == 0).all()


def test_a_frozen_model_stays_as_it_is(teacher):
    student, _ = compress(["int8"], teacher, 0.0)
    twin = copy.deepcopy(student).requires_grad_(False)
    with quantisation.trainable(twin):
        assert isinstance(surgery.matrix(twin.encoder.layers[0], "q_proj"), quantisation.Int8Linear)
    assert all(torch.equal(v, student.state_dict()[k]) for k, v in twin.state_dict().items())
