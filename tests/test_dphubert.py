"""Hard-concrete gates and DPHuBERT: draws, expected size, ascent, what is cut, the loss."""

import copy
import math

import numpy as np
import pytest
import torch

from helpers import KINDS
from helpers.backbones import backbone
from helpers.compressing import batches, compress
from helpers.contract import check_contract
from helpers.gates import gating_of
from speech_pareto.compression import method, recipes
from speech_pareto.compression.parts import (
    hard_concrete_gates,
    layer_clusters,
    pinched_units,
    self_pinching_gates,
)
from speech_pareto.models import architecture, hidden_states, sparsity, surgery
from speech_pareto.models import backbone as model
from speech_pareto.training import optimiser
from speech_pareto.training.settings import Training


@pytest.fixture(scope="module")
def teacher():
    return backbone("hubert")


def test_the_expected_size_is_the_closed_form_and_has_a_gradient(teacher):
    gating, config = gating_of(copy.deepcopy(teacher)), model.describe(teacher)
    layer = architecture.layers_of(config)[0]
    head, row = (
        f(config, layer) for f in (architecture.head_parameters, architecture.row_parameters)
    )
    chances = [
        [1 / (1 + np.exp(-(a - 2 / 3 * math.log(0.1 / 1.1)))) for a in gates.log_alpha.tolist()]
        for gates in (*gating.heads, *gating.rows)
    ]
    gone = sum(head * sum(1 - p for p in group) for group in chances[:3])
    gone += sum(row * sum(1 - p for p in group) for group in chances[3:])
    total = sum(p.numel() for p in teacher.parameters())
    assert gating.sparsity().item() == pytest.approx(gone / total, rel=1e-5)
    gating.sparsity().backward()
    for gates in (*gating.heads, *gating.rows):
        assert (gates.log_alpha.grad < 0).all()  # to open any gate makes the model larger


@pytest.mark.parametrize("grain", ["units", "weights"])
def test_thresholds_without_a_rate_stay(teacher, grain):
    chosen = recipes.make(
        {"dphubert": {"gates": "self_pinching", "grain": grain, "threshold_rate": 0.0}}
    )
    gated = copy.deepcopy(teacher)
    made = chosen._gating(gated, method.Context(1))
    raws = [linear.parametrizations.weight[0].raw for linear in made.linears]
    before = [raw.item() for raw in raws]
    moves = optimiser.make(gated, Training(steps=1, learning_rate=1e-2))
    for raw in raws:
        raw.grad = torch.ones_like(raw)
    moves.step()
    assert [raw.item() for raw in raws] == before


def test_gates_are_the_hard_concrete_distribution():
    gates = hard_concrete_gates.Gates(20_000, 0.3, 7.0, torch.Generator().manual_seed(0))
    start = math.log(0.7 / 0.3)
    assert gates.log_alpha.mean().item() == pytest.approx(start, abs=1e-3)
    torch.manual_seed(0)
    drawn = gates()
    torch.manual_seed(0)
    u = torch.rand_like(gates.log_alpha).double().numpy()
    s = 1 / (1 + np.exp(-(np.log(u / (1 - u)) + gates.log_alpha.detach().double().numpy()) * 1.5))
    expected = np.clip(s * 1.2 - 0.1, 0, 1)
    assert np.allclose(drawn.detach().numpy(), expected, atol=1e-4)
    assert (drawn > 0).float().mean().item() == pytest.approx(gates.open().mean().item(), abs=0.01)


def test_gates_move_faster_and_multipliers_climb(teacher):
    gating = gating_of(copy.deepcopy(teacher), rate=0.05)
    moves = optimiser.make(gating, Training(steps=1, learning_rate=1e-3, weight_decay=0.1))
    before = gating.rows[0].log_alpha.detach().clone()
    excess = gating.sparsity().item() - 0.9
    with torch.no_grad():
        gating.multipliers.copy_(torch.tensor([-1.0, 1.0]))
    expected = -excess + excess**2
    penalty = gating.penalty(0.9, 0)
    assert penalty.item() == pytest.approx(expected, rel=1e-4)
    penalty.backward()
    chance, row = gating.rows[0].open().detach(), gating.row_sizes[0] / gating.total
    slope = -row * chance * (1 - chance)  # dS / d log α
    assert torch.allclose(gating.rows[0].log_alpha.grad, (-1 + 2 * excess) * slope, rtol=1e-3)
    moves.step()
    moved = (gating.rows[0].log_alpha - before).detach()
    assert moved.tolist() == pytest.approx([-0.05] * 160, rel=1e-2)  # down: too large a model
    first, second = (gating.multipliers - torch.tensor([-1.0, 1.0])).tolist()
    assert excess < 0 and first == pytest.approx(-0.05, rel=1e-2)  # ascent of λ1 (S − S*)
    assert second == pytest.approx(0.05, rel=1e-2)


def test_the_target_rises_with_the_steps(teacher):
    gating = gating_of(copy.deepcopy(teacher))
    with torch.no_grad():
        gating.multipliers.copy_(torch.tensor([1.0, 0.0]))
    now = gating.sparsity().item()
    excesses = []
    for _ in range(6):
        pieces = [gating.penalty(0.6, 4).item() for _ in range(2)]
        assert pieces[0] == pieces[1]  # a batch in pieces is one step
        excesses.append(pieces[0])
        gating.follow(0.0)
    assert excesses == pytest.approx([now - t for t in (0, 0.15, 0.3, 0.45, 0.6, 0.6)], abs=1e-6)


def test_the_units_of_lowest_alpha_go_and_nothing_else(teacher):
    """Heads and rows in one order until the size is met, what heads miss in rows."""
    alphas = np.random.default_rng(0).normal(size=(3, 166))

    def train(student, loss, **settings):
        if student.gating is None:
            return
        with torch.no_grad():
            for gates, values in zip(student.gating.heads, alphas[:, :6], strict=True):
                gates.log_alpha.copy_(torch.tensor(values))
            for gates, values in zip(student.gating.rows, alphas[:, 6:], strict=True):
                gates.log_alpha.copy_(torch.tensor(values))

    student, solution = compress(["dphubert"], teacher, 0.4, loop=train)
    config = model.describe(teacher)
    layer = architecture.layers_of(config)[0]
    head, row = (
        architecture.head_parameters(config, layer),
        architecture.row_parameters(config, layer),
    )
    amount, gone = solution.sizings[0].knobs["removed"], 0
    order = sorted((alphas[i, k], i, k) for i in range(3) for k in range(166))
    heads, rows = set(), set()
    for _, i, k in order:
        size = head if k < 6 else row
        if gone + size > amount + (0 if k < 6 else row / 2):
            break
        gone += size
        (heads if k < 6 else rows).add((i, k))
    spare = [(i, k) for _, i, k in order if k >= 6 and (i, k) not in rows]
    rows |= set(spare[: round((amount - gone) / row)])
    assert heads and rows
    for i, layer in enumerate(student.encoder.layers):
        assert layer.attention.heads == tuple(k for k in range(6) if (i, k) not in heads)
        old = teacher.encoder.layers[i].feed_forward.intermediate_dense.weight
        new = layer.feed_forward.intermediate_dense.weight
        assert torch.equal(new, old[[k - 6 for k in range(6, 166) if (i, k) not in rows]])
    held = sum(p.numel() for p in student.parameters())
    total = sum(p.numel() for p in teacher.parameters())
    assert abs(total - held - amount) <= row / 2


@pytest.mark.parametrize("kind", KINDS)
def test_taking_gates_off_leaves_their_strength(kind, batch):
    plain = backbone(kind)
    gated = copy.deepcopy(plain)
    gating = gating_of(gated, 1.0, (0.01, 0.3))
    assert not torch.allclose(gated(**batch)[0], plain(**batch)[0], atol=1e-3)
    with torch.no_grad():
        for gates in (*gating.heads, *gating.rows):
            gates.log_alpha.fill_(30.0)  # open: a draw is 1, and so is the strength
    assert torch.allclose(gated(**batch)[0], plain(**batch)[0], atol=1e-5)
    with torch.no_grad():  # closed: a draw is 0, what is left are the biases
        gating.heads[1].log_alpha.fill_(-30.0)
    silent = copy.deepcopy(plain)
    silent.encoder.layers[1].attention.out_proj.weight.data.zero_()
    assert torch.allclose(gated(**batch)[0], silent(**batch)[0], atol=1e-5)
    with torch.no_grad():
        gating.heads[1].log_alpha.fill_(30.0)
        gating.heads[1].log_alpha[2] = gating.rows[1].log_alpha[3] = 0.0
    gating.detach(gated)
    out = "encoder.layers.1.attention.out_proj.weight"
    ours, theirs = gated.state_dict()[out], plain.state_dict()[out]
    assert torch.allclose(ours[:, 16:24], theirs[:, 16:24] / 2)
    assert torch.equal(ours[:, 24:], theirs[:, 24:])
    out = "encoder.layers.1.feed_forward.output_dense.weight"
    ours, theirs = gated.state_dict()[out], plain.state_dict()[out]
    assert torch.allclose(ours[:, 3], theirs[:, 3] / 2)
    assert torch.equal(ours[:, 4], theirs[:, 4])
    for layer, old in zip(gated.encoder.layers, plain.encoder.layers, strict=True):
        assert type(layer.attention) is type(old.attention)
        assert not layer.feed_forward.output_dense._forward_pre_hooks
        assert not layer.attention.out_proj._forward_pre_hooks


def test_dphubert_loss_is_the_formula(teacher, batch):
    student = hard_concrete_gates.MappedStudent(copy.deepcopy(teacher))
    for parameter in sparsity.prunable(student.backbone).values():
        parameter.data.mul_(0.9)
    student.maps[0].weight.data.mul_(2.0)
    loss = recipes.make("dphubert").loss(student, teacher, batch).item()
    real = hidden_states.real_frames(teacher, batch)
    ours, theirs = (
        list(made(**batch, output_hidden_states=True).hidden_states)
        for made in (student.backbone, teacher)
    )
    for made, found in ((student.backbone, ours), (teacher, theirs)):
        stem = made.feature_extractor(batch["input_values"]).transpose(1, 2)
        projected = made.feature_projection(stem)  # before position convolution and norm
        found[0] = projected[0] if isinstance(projected, tuple) else projected
    expected = 0.0
    for index, factor in zip((0, 1, 2, 3), (2, 1, 1, 1), strict=True):
        a = factor * ours[index][real].detach().double().numpy()
        b = theirs[index][real].detach().double().numpy()
        cosines = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
        expected += (np.abs(a - b).mean() - cosines.mean()) / 4
    assert loss == pytest.approx(expected, rel=1e-4)


def test_alike_layers_are_one_cluster_and_its_mean_is_learnt(batch):
    """SKILL: layers 0 and 1 are the same but for a rotation, which CKA does not see."""
    teacher = backbone("hubert")
    layer = teacher.encoder.layers[0]
    for part in (layer.attention.out_proj, layer.feed_forward.output_dense):
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(part.bias)
    audio = batches(20, 0.3)
    found = layer_clusters.cluster_layers(teacher, audio, 3)
    assert found == [[0, 1], [2], [3]]
    assert layer_clusters.cluster_layers(teacher, audio, 1) == [[0, 1, 2, 3]]
    assert layer_clusters.cluster_layers(teacher, audio, 9) == [[0], [1], [2], [3]]

    seen = {}

    def train(student, loss, **settings):
        if student.gating is not None:
            return
        student.eval()
        theirs = hidden_states.states(teacher, batch)
        ours = hidden_states.states(student.backbone, batch)
        real, expected = hidden_states.real_frames(teacher, batch), 0.0
        for own in found:
            a, b = (
                sum(states[index][real].detach().double().numpy() for index in own) / len(own)
                for states in (ours, theirs)
            )
            cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
            expected += (np.abs(a - b).mean(1) - cosine).mean() / 3
        seen.update(loss=loss(batch).item(), expected=expected)

    step = recipes.make({"dphubert": {"clusters": 3}})
    context = method.Context(1, teacher, train, batches)
    step.compress(copy.deepcopy(teacher), step.solve(model.describe(teacher), 0.2), context)
    assert seen["loss"] == pytest.approx(seen["expected"], rel=1e-4)


def test_self_pinching_gates_can_stand_in_for_hard_concrete_ones(teacher, batch):
    """SASPG: the same loss and the same control of size, thresholds in the place of chances."""
    config, seen = model.describe(teacher), {}
    units = [(i, j) for i in range(3) for j in range(2)]  # a threshold for heads, one for rows

    def train(student, loss, **settings):
        gating = student.gating
        if gating is None:
            return
        gates = [linear.parametrizations.weight[0] for linear in gating.linears]
        assert len(gates) == len(units)
        started = [gate.raw.item() for gate in gates]
        assert started == pytest.approx([math.sqrt(1e-5)] * 6)
        with torch.no_grad():
            for number, gate in enumerate(gates):
                gate.raw.fill_(0.3 + 0.05 * number)
            gating.multipliers.copy_(torch.tensor([0.5, 2.0]))
        gating.passed += 7  # of 40 steps, 20 of them ramp
        student.eval()
        seen["gated"] = loss(batch).item() - bare(student)
        kept, total = 0, 0
        for layer in range(3):
            own = student.backbone.encoder.layers[layer]
            for number, squares in enumerate(unit_squares(own)):
                scores = (squares - squares.min()) / (squares.max() - squares.min()) + 1e-5
                size = gating.sizes[number]
                threshold = 0.3 + 0.05 * (2 * layer + number)
                kept += size * (scores > threshold**2).sum()
                total += size * len(scores)
        target = sizing.knobs["removed"] / gating.total
        excess = (total - kept) / gating.total - target * 7 / 20
        seen["expected"] = 0.5 * excess + 2 * excess**2
        progress = 7 / 40 / 0.3
        tau = 0.01 + 0.49 * (1 + math.cos(math.pi * progress)) / 2
        assert gates[0].temperature.item() == pytest.approx(tau, rel=1e-5)
        gating.sparsity().backward()
        assert all(gate.raw.grad > 0 for gate in gates)  # a higher threshold removes more

    def bare(student):
        """Return the loss without gates' penalty."""
        gating, student.gating = student.gating, None
        found = step.loss(student, teacher, batch).item()
        student.gating = gating
        return found

    step = recipes.make({"dphubert": {"gates": "self_pinching"}})
    sizing = step.solve(config, 0.3)
    context = method.Context(1, teacher, train, batches)
    student = step.compress(copy.deepcopy(teacher), sizing, context)
    assert seen["gated"] == pytest.approx(seen["expected"], rel=1e-3)
    held = sum(p.numel() for p in student.parameters())
    before = sum(p.numel() for p in teacher.parameters())
    row = architecture.row_parameters(config, architecture.layers_of(config)[0])
    assert abs(before - held - sizing.knobs["removed"]) <= row / 2


def unit_squares(layer):
    """Return the sums of squares of the weights of heads (6,) and of rows (160,), in float64."""
    attention, ffn = layer.attention, layer.feed_forward
    weights = [getattr(attention, f"{name}_proj").weight for name in "qkv"]
    heads = sum(w.detach().double().square().sum(1) for w in weights)
    original = attention.out_proj.parametrizations.weight.original.detach().double()
    heads = (heads + original.square().sum(0)).view(6, -1).sum(1)
    original = ffn.output_dense.parametrizations.weight.original.detach().double()
    rows = ffn.intermediate_dense.weight.detach().double().square().sum(1)
    return heads, rows + original.square().sum(0)


def test_without_steps_the_smallest_weights_go_first():
    teacher, before = backbone("hubert"), {}
    settings = {"gates": "self_pinching", "grain": "weights", "steps": 0, "final_steps": 2}

    def train(student, loss, **given):
        before.update({"mapped": student, "steps": given["steps"]})

    student, solution = compress([{"dphubert": settings}], teacher, 0.4, loop=train)
    assert before["steps"] == 2 and before["mapped"].gating is None
    weights = [m.weight for x in teacher.encoder.layers for m in surgery.linears(x).values()]
    ours = [m.weight for x in student.encoder.layers for m in surgery.linears(x).values()]
    limit = np.sort(np.concatenate([abs(w.detach().numpy()).ravel() for w in weights]))
    limit = limit[solution.sizings[0].knobs["removed"] - 1]
    for old, new in zip(weights, ours, strict=True):
        assert torch.equal(new, old * (old.abs() > limit))


@pytest.mark.parametrize("grain", ["weights", "units"])
@pytest.mark.parametrize("steps", [0, 3])
def test_the_contract_holds_without_a_task(grain, steps, audio, tmp_path):
    settings = {"gates": "self_pinching", "grain": grain, "steps": steps, "final_steps": 2}
    check_contract({"dphubert": settings}, 0.35, backbone("wavlm"), audio, tmp_path)


def test_gates_on_weights_count_what_they_keep():
    made = backbone("hubert")
    linears = self_pinching_gates.gate_weights(made, 1.0, None)
    gating = pinched_units.Pinched(made, linears, 0.1, 10)
    gone = 0
    for linear in linears:
        gate, scores = self_pinching_gates.read(linear)
        with torch.no_grad():
            gate.raw.fill_(0.05 / gate.pace)
        gone += int((scores <= 0.05**2).sum())
    assert gone
    assert gating.sparsity().item() == pytest.approx(gone / gating.total, rel=1e-4)


@pytest.mark.parametrize("settings", [{"steps": 0}, {"grain": "weights"}])
def test_only_self_pinching_gates_stand_on_weights_or_need_no_steps(settings):
    with pytest.raises(ValueError, match="self-pinching"):
        recipes.make({"dphubert": settings})
