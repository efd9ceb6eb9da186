"""Task-aware methods: gates against their formulas in float64, and what is pruned by them."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from speech_pareto.compression import method, recipes
from speech_pareto.compression.methods.self_pinching import SelfPinching
from speech_pareto.compression.methods.structured_self_pinching import StructuredSelfPinching
from speech_pareto.compression.parts import self_pinching_gates
from speech_pareto.models import architecture, backbone, sparsity, surgery
from speech_pareto.training import finetuning

TASK = {"kind": "ctc", "unit": "characters", "languages": ["en"], "protocol": "finetune"}


@pytest.fixture
def student():
    """Return a small random backbone whose layers are of unlike size of weights."""
    torch.manual_seed(3)
    made = backbone.new(backbone.tiny_config(hidden=48, layers=3, heads=6, ffn=160, pos_conv=16))
    for name, parameter in sparsity.prunable(made).items():
        nn.init.normal_(parameter, std=0.05 * (1 + int(name.split(".")[2])))
    return made


def gated(weight, **settings):
    """Return a linear layer in float64 with these weights behind a gate, and the gate."""
    linear = surgery.linear(torch.as_tensor(weight, dtype=torch.float64), None)
    self_pinching_gates.gate(linear, **settings)
    return linear, linear.parametrizations.weight[0]


def set_threshold(linear, value):
    own = linear.parametrizations.weight[0]
    own.raw.data.fill_(value / own.pace)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("tau", [0.5, 0.01])
def test_gradients_are_those_of_the_soft_gate(tau):
    generator = np.random.default_rng(0)
    w, c, t, h = generator.normal(size=(7, 5)), generator.normal(size=(7, 5)), 0.6, 1e-6
    linear, own = gated(w, reach=3.0)
    own.temperature = tau
    set_threshold(linear, -t)  # its sign means nothing
    (linear.weight * torch.from_numpy(c)).sum().backward()

    def soft(w, t):
        return sigmoid((w**2 - t**2) / tau)

    over_t = (c * w * (soft(w, -t + h) - soft(w, -t - h)) / (2 * h)).sum()
    over_w = c * ((abs(w) > t) + w * (soft(w + h, t) - soft(w - h, t)) / (2 * h))
    assert own.raw.grad.item() / own.pace == pytest.approx(over_t, rel=1e-6)
    gradient = linear.parametrizations.weight.original.grad.numpy()
    assert gradient == pytest.approx(over_w, rel=1e-6, abs=1e-8)


def test_the_forward_pass_uses_the_hard_gate():
    w = np.random.default_rng(1).normal(size=(9, 4)) * 1e-3  # w² far below τ: σ is 0.5 in fp32
    linear, _ = gated(w)
    assert np.array_equal(linear.weight.detach().numpy(), w * (abs(w) > 1e-5))  # t at first
    set_threshold(linear, 5e-4)
    assert np.array_equal(linear.weight.detach().numpy(), w * (abs(w) > 5e-4))
    linear.float()
    assert np.array_equal((linear.weight != 0).numpy(), abs(w) > 5e-4)


def test_temperatures_fall_along_a_cosine():
    pinching, structured = SelfPinching(), StructuredSelfPinching()
    for progress, tau in ((0, 0.5), (0.25, 0.01 + 0.245 * (1 + math.cos(math.pi / 4))), (1, 0.01)):
        assert pinching.temperature(progress) == pytest.approx(tau)
    for progress, tau in ((0, 0.5), (0.15, 0.255), (0.3, 0.01), (0.65, 0.255), (1, 0.5)):
        assert structured.temperature(progress) == pytest.approx(tau)


@pytest.mark.parametrize("definition", [SelfPinching, StructuredSelfPinching])
def test_the_size_loss_has_a_gradient_outside_its_band_only(definition, student):
    chosen = definition(strength=10.0, band=0.1)
    linears = chosen.gated(student)
    thresholds = [linear.parametrizations.weight[0].raw for linear in linears]
    for linear in linears:
        root = linear.parametrizations.weight[0].scores(linear.weight.detach()).sqrt()
        set_threshold(linear, root.flatten().median().item())
    number, total = self_pinching_gates.kept(linears)
    share = number.item() / total
    assert share == pytest.approx(0.5, abs=0.1)
    for goal, sign in ((share - 0.05, -1), (share + 0.05, 0), (share + 0.15, 1)):
        loss = chosen.penalty(linears, (1 - goal) * total)(0)
        slopes = torch.autograd.grad(loss, thresholds)
        assert loss.item() == pytest.approx(-sign * 10 * share)
        assert all(torch.sign(slope) == sign for slope in slopes)  # too much: thresholds shall rise


def test_the_size_loss_means_the_same_on_any_size():
    for hidden in (16, 48):
        made = backbone.new(
            backbone.tiny_config(hidden=hidden, layers=2, heads=2, ffn=64, pos_conv=16)
        )
        for definition in (SelfPinching(), StructuredSelfPinching()):
            linears = definition.gated(copy.deepcopy(made))
            removed = self_pinching_gates.kept(linears)[1] / 2
            loss = definition.penalty(linears, removed)(0).item()
            assert loss == pytest.approx(definition.strength, rel=1e-3)


def pruned(definition, student, ratio, change):
    """Return a copy of `student`, pruned with `change(linears)` in the place of training."""
    made, linears = copy.deepcopy(student), []
    sizing = definition.solve(backbone.describe(student), ratio)

    def tune(student, penalty, **settings):
        parts = (
            linear for layer in student.encoder.layers for linear in surgery.linears(layer).values()
        )
        linears.extend(linear for linear in parts if hasattr(linear, "parametrizations"))
        change(linears)

    made = definition.compress(made, sizing, method.Context(1, tune=tune))
    return made, sizing


def test_the_weights_that_go_are_the_lowest_of_their_threshold(student):
    values = np.random.default_rng(2).uniform(0.01, 0.2, 18)

    def change(linears):
        for linear, value in zip(linears, values, strict=True):
            set_threshold(linear, value)

    made, sizing = pruned(SelfPinching(), student, 0.5, change)
    before = [x for layer in student.encoder.layers for x in surgery.linears(layer).values()]
    after = [x for layer in made.encoder.layers for x in surgery.linears(layer).values()]
    weights = [linear.weight.detach().double().numpy() for linear in before]
    ratios = [abs(w) / t for w, t in zip(weights, values, strict=True)]
    limit = np.sort(np.concatenate([x.ravel() for x in ratios]))[sizing.knobs["removed"] - 1]
    for linear, weight, x in zip(after, weights, ratios, strict=True):
        assert np.array_equal(linear.weight.detach().numpy(), weight * (x > limit))
        assert type(linear) is nn.Linear


def test_unit_scores_are_the_formula(student):
    for layer in student.encoder.layers:
        arrays = {
            name: surgery.matrix(layer, name).weight.detach().double().numpy()
            for name in (*architecture.ATTENTION, *architecture.FFN)
        }
        heads = [
            sum((arrays[n][h * 8 : h * 8 + 8] ** 2).sum() for n in ("q_proj", "k_proj", "v_proj"))
            + (arrays["out_proj"][:, h * 8 : h * 8 + 8] ** 2).sum()
            for h in range(6)
        ]
        first, second = (arrays[name] for name in architecture.FFN)
        rows = [(first[i] ** 2).sum() + (second[:, i] ** 2).sum() for i in range(160)]
        for names, raw in ((architecture.ATTENTION, heads), (architecture.FFN, rows)):
            expected = [(x - min(raw)) / (max(raw) - min(raw)) + 1e-5 for x in raw]
            *inner, outer = (surgery.matrix(layer, name) for name in names)
            scores = self_pinching_gates.unit_scores(inner, outer, len(raw))(outer.weight)
            assert scores.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)
            found = [surgery.factors(outer.weight, torch.eye(48), outer.bias)]
            factorised = self_pinching_gates.unit_scores(inner, found[0], len(raw))(
                found[0].down.weight
            )
            assert torch.allclose(factorised, scores)


def test_a_pruned_unit_is_silent_before_it_goes(student):
    audio = torch.randn(1, 4000)
    definition = StructuredSelfPinching()
    gone = copy.deepcopy(student)
    linears = definition.gated(student)
    for linear in linears:
        set_threshold(linear, 0.5)
    masks = []
    for linear in linears:
        weight = linear.parametrizations.weight
        masks.append(weight[0].hard(weight[0].scores(weight.original)) > 0.5)
    for layer, heads, rows in zip(gone.encoder.layers, masks[::2], masks[1::2], strict=True):
        surgery.keep_heads(layer, heads.nonzero()[:, 0].tolist())
        surgery.keep_rows(layer, rows.nonzero()[:, 0])
    assert sum(map(len, masks)) - sum(int(mask.sum()) for mask in masks) > 0
    ours, theirs = student(audio).last_hidden_state, gone(audio).last_hidden_state
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_units_that_go_are_the_lowest_of_their_threshold(student):
    def change(linears):  # heads of layer 1 and channels of layer 2 are the ones to go
        for index, linear in enumerate(linears):
            set_threshold(linear, 10.0 if index in (2, 5) else 1e-3)

    made, sizing = pruned(StructuredSelfPinching(), student, 0.2, change)
    shapes = [surgery.shape_of(layer) for layer in made.encoder.layers]
    assert [len(shape.heads) for shape in shapes] == [6, len(shapes[1].heads), 6]
    assert [shape.ffn for shape in shapes] == [160, 160, shapes[2].ffn]
    assert len(shapes[1].heads) < 6 and shapes[2].ffn < 160
    layer = student.encoder.layers[1]
    *inner, outer = (surgery.matrix(layer, name) for name in architecture.ATTENTION)
    order = self_pinching_gates.unit_scores(inner, outer, 6)(outer.weight).argsort(descending=True)
    assert sorted(order[: len(shapes[1].heads)].tolist()) == list(shapes[1].heads)
    sizes = [architecture.remaining(backbone.describe(x)) for x in (student, made)]
    assert abs(sizes[0] - sizes[1] - sizing.knobs["removed"]) <= 97 / 2  # parameters of a channel


def test_whole_heads_go_when_channels_do_not_suffice():
    heads, rows = [torch.arange(1.0, 5)] * 2, [torch.arange(0.0, 1, 0.1)] * 2
    for removed, expected in ((60, (0, 6)), (180, (0, 18)), (200, (1, 10)), (780, (6, 18))):
        assert self_pinching_gates.split(heads, rows, (100, 10), removed) == expected


@pytest.mark.slow
def test_gates_pinch_to_the_asked_size_in_a_short_run(student, prompts_en):
    for definition in (SelfPinching, StructuredSelfPinching):
        made, chosen = copy.deepcopy(student), definition(steps=20)
        sizing = chosen.solve(backbone.describe(made), 0.5)
        linears = chosen.gated(made)
        tune = finetuning.Tuner(TASK, "nowhere", [prompts_en], 1, precision="fp32")
        penalty = chosen.penalty(linears, sizing.knobs["removed"])
        tune(made, penalty, steps=20, learning_rate=chosen.learning_rate, batch_seconds=6.0)
        number, total = self_pinching_gates.kept(linears)
        assert number.item() / total == pytest.approx(1 - sizing.knobs["removed"] / total, abs=0.06)


def test_parp_lets_weights_revive(student):
    definition = recipes.make({"parp": {"steps": 4, "every": 2, "first": 0.5}})
    sizing = definition.solve(backbone.describe(student), 0.4)
    counts = []

    def tune(student, penalty, **settings):
        parameters = list(sparsity.prunable(student).values())
        for step in range(4):
            before = [p.detach().clone() for p in parameters]
            assert penalty(step) == 0.0
            counts.append(sum(int((p == 0).sum()) for p in parameters))
            if step in (1, 3):  # no pruning: what was not zero before is not now
                assert all(map(torch.equal, before, parameters))
            for parameter in parameters:  # an update that moves zeros too
                parameter.data += 1e-6
        lowest.data.fill_(9.0)

    made = copy.deepcopy(student)
    lowest = made.encoder.layers[0].attention.q_proj.bias
    lowest.data.fill_(1e-9)  # the first to be pruned
    made = definition.compress(made, sizing, method.Context(1, tune=tune))
    zeros = sizing.knobs["zeros"]
    assert [counts[0], counts[2]] == [round(0.5 * zeros), round(0.75 * zeros)]
    assert counts[1] == counts[3] == 0
    assert made.encoder.layers[0].attention.q_proj.bias.tolist() == [9.0] * 48
    assert sum(int((p == 0).sum()) for p in sparsity.prunable(made).values()) == zeros
