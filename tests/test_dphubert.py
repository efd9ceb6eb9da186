"""Hard-concrete gates and DPHuBERT: draws, expected size, ascent, what is cut, the loss."""

import copy
import math

import numpy as np
import pytest
import torch

from helpers import KINDS
from helpers.backbones import backbone, convolutional
from helpers.compressing import RECIPES, batches, compress
from helpers.contract import check_contract
from speech_pareto.compression import method, recipes
from speech_pareto.compression.parts import (
    channel_gates,
    hard_concrete_gates,
    layer_clusters,
    pinched_units,
    self_pinching_gates,
)
from speech_pareto.models import architecture, hidden_states, operations, sparsity, surgery
from speech_pareto.models import backbone as model
from speech_pareto.training import optimiser
from speech_pareto.training.settings import Training


@pytest.fixture(scope="module")
def teacher():
    return backbone("hubert")


def gating_of(gated, rate=0.02, drops=(0.2, 0.5), stem=None):
    """Return hard-concrete gates on a backbone, whose `stem` may have some already."""
    generator = torch.Generator().manual_seed(0)

    def gates(layer, kind, count):
        return hard_concrete_gates.Gates(count, drops[kind], rate, generator)

    return hard_concrete_gates.Gating(gated, gates, rate, stem)


def test_the_expected_size_is_the_closed_form_and_has_a_gradient(teacher):
    gating, config = gating_of(copy.deepcopy(teacher)), model.describe(teacher)
    layer = architecture.layers_of(config)[0]
    head, row = (f(config, layer) for f in (architecture.head_parameters, _row_size))
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


def _row_size(config, layer):
    return architecture.row_parameters(config, layer)


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


STEMS = {  # norms and biases of the stem, and what stands behind it
    "Base": {"feat_extract_norm": "group", "conv_bias": False, "feat_proj_layer_norm": True},
    "Large": {"feat_extract_norm": "layer", "conv_bias": True, "feat_proj_layer_norm": True},
    "no norm": {"feat_extract_norm": "group", "conv_bias": True, "feat_proj_layer_norm": False},
}


def with_stem(name):
    """Return a backbone of three convolutions, a copy of it with gates on channels, and those."""
    torch.manual_seed(2)
    shape = {"conv_dim": [16, 20, 24], "conv_kernel": [10, 8, 3], "conv_stride": [10, 8, 2]}
    plain = model.new(convolutional("hubert", **shape, **STEMS[name]))
    made = copy.deepcopy(plain)
    gates = channel_gates.ChannelGates(made, 0.3, 0.1, torch.Generator().manual_seed(0))
    return plain, made, gates


@pytest.mark.parametrize("name", STEMS)
def test_the_expected_size_of_a_stem_is_a_sum_of_products(name):
    """In float64, gate by gate, as the authors' code counts; at whole numbers it is what stands."""
    _, made, gates = with_stem(name)
    with torch.no_grad():
        for one in gates.layers:
            one.log_alpha.normal_(0, 3)
    opened = [
        sum(1 / (1 + np.exp(-(a - 2 / 3 * math.log(0.1 / 1.1)))) for a in one.log_alpha.tolist())
        for one in gates.layers
    ]
    inputs, size = 1, 0.0
    for place, (outputs, taps) in enumerate(zip(opened, (10, 8, 3), strict=True)):
        size += inputs * outputs * taps + (outputs if STEMS[name]["conv_bias"] else 0)
        size += 2 * outputs if place == 0 or STEMS[name]["feat_extract_norm"] == "layer" else 0
        inputs = outputs
    size += (inputs + 1) * 32 + (2 * inputs if STEMS[name]["feat_proj_layer_norm"] else 0)
    parts = made.feature_extractor, made.feature_projection
    whole = sum(p.numel() for part in parts for p in part.parameters())
    assert gates.expected_saving().item() == pytest.approx(whole - size, rel=1e-4)
    gates.expected_saving().backward()
    assert all((one.log_alpha.grad < 0).all() for one in gates.layers)
    assert gates.saving([16, 20, 24]) == 0
    gating = gating_of(made, 0.1, stem=gates)
    total = sum(p.numel() for p in made.parameters())
    gating.stem = None
    alone = gating.sparsity().item()
    gating.stem = gates
    assert gating.sparsity().item() - alone == pytest.approx((whole - size) / total, rel=1e-3)


@pytest.mark.parametrize("name", STEMS)
@torch.no_grad()
def test_channel_gates_stand_behind_norm_and_activation(name):
    plain, made, gates = with_stem(name)
    waves = torch.randn(2, 4000)
    for one in gates.layers:
        one.log_alpha.fill_(30.0)
    assert torch.allclose(made(waves)[0], plain(waves)[0], atol=1e-6)
    gates.layers[1].log_alpha[[2, 5]] = -30.0
    gates.layers[2].log_alpha[3] = -30.0
    hidden = waves[:, None]
    for place, layer in enumerate(plain.feature_extractor.conv_layers):
        hidden = layer(hidden)
        hidden[:, {1: [2, 5], 2: [3]}.get(place, [])] = 0
    assert torch.allclose(made.feature_extractor(waves), hidden, atol=1e-6)
    gates.layers[0].log_alpha[4] = gates.layers[2].log_alpha[7] = 0.0  # a strength of one half
    gates.detach(made)
    convolutions = [layer.conv.weight for layer in made.feature_extractor.conv_layers]
    before = [layer.conv.weight for layer in plain.feature_extractor.conv_layers]
    assert torch.equal(convolutions[0], before[0])
    assert torch.allclose(convolutions[1][:, 4], before[1][:, 4] / 2)
    assert torch.equal(convolutions[1][:, 5:], before[1][:, 5:])
    assert convolutions[2][:, [2, 5]].abs().max() < 1e-6
    after, old = (x.feature_projection.projection.weight for x in (made, plain))
    if STEMS[name]["feat_proj_layer_norm"]:  # it would undo them
        assert torch.equal(after, old)
    else:
        assert torch.allclose(after[:, 7], old[:, 7] / 2) and after[:, 3].abs().max() < 1e-6
    assert not any(layer._forward_hooks for layer in made.feature_extractor.conv_layers)


@pytest.mark.parametrize("level", [-2.0, 0.0, 5.0])
def test_channels_of_lowest_alpha_go_with_heads_and_rows(level):
    """In one order with them; what the cut misses rows make up."""
    teacher = with_stem("Base")[0]
    draws = np.random.default_rng(0)
    shapes = {"stem": (16, 20, 24), "heads": (4,) * 3, "rows": (48,) * 3}
    alphas = {kind: [draws.normal(size=n) for n in sizes] for kind, sizes in shapes.items()}
    alphas["stem"] = [values + level for values in alphas["stem"]]

    def train(student, loss, **settings):
        if student.gating is None:
            return
        groups = student.gating.stem.layers, student.gating.heads, student.gating.rows
        with torch.no_grad():
            for kind, gates in zip(alphas, groups, strict=True):
                for one, values in zip(gates, alphas[kind], strict=True):
                    one.log_alpha.copy_(torch.tensor(values))

    step = {"dphubert": {"stem": True}}
    student, solution = compress([step], teacher, 0.4, loop=train)
    amount = solution.sizings[0].knobs["removed"]
    config = model.describe(teacher)
    layer = architecture.layers_of(config)[0]
    sizes = {"heads": architecture.head_parameters(config, layer), "rows": _row_size(config, layer)}
    order = sorted(
        (value, kind, place, unit)
        for kind, groups in alphas.items()
        for place, values in enumerate(groups)
        for unit, value in enumerate(values)
        if unit != values.argmax()
    )
    whole, gone = sum(architecture.stem_parameters(config, [16, 20, 24])), {"stem": set()}
    others = 0
    for _, kind, place, unit in order:
        channels = gone["stem"] | ({(place, unit)} if kind == "stem" else set())
        widths = [n - sum(p == i for p, _ in channels) for i, n in enumerate(shapes["stem"])]
        saved = whole - sum(architecture.stem_parameters(config, widths))
        if saved + others + sizes.get(kind, 0) > amount:
            break
        gone["stem"], others = channels, others + sizes.get(kind, 0)
    assert bool(gone["stem"]) == (level < 5)
    for place, count in enumerate(shapes["stem"]):
        kept = [unit for unit in range(count) if (place, unit) not in gone["stem"]]
        found = student.feature_extractor.conv_layers[place].conv
        old = teacher.feature_extractor.conv_layers[place].conv.weight
        inner = [u for u in range(old.shape[1]) if not place or (place - 1, u) not in gone["stem"]]
        wanted = old[kept][:, inner]
        if place:  # and the strengths of what it reads
            alpha = torch.tensor(alphas["stem"][place - 1][inner])
            wanted = wanted * (0.8 * alpha * 1.5).sigmoid().float()[:, None]
        assert torch.allclose(found.weight, wanted, atol=1e-6)
    held = sum(p.numel() for p in student.parameters())
    total = sum(p.numel() for p in teacher.parameters())
    assert abs(total - held - amount) <= sizes["rows"] / 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_contract_holds_with_gates_on_the_stem(kind, audio, tmp_path):
    step = {"dphubert": {"steps": 2, "final_steps": 1, "stem": True}}
    check_contract(step, 0.35, backbone(kind), audio, tmp_path)


def test_a_stem_without_convolutions_has_no_gates():
    step = [{"dphubert": {"stem": True}}]
    assert "no convolutions" in recipes.solve(step, architecture.tiny(), 0.3).reason


@pytest.mark.parametrize("kind", KINDS)
def test_the_published_form_is_counted_as_the_authors_do(kind):
    """Theirs has uneven channels, heads and rows; which, is not published: any such will do.

    Their count has a weight for each last channel that this project has not, and no mask vector.
    """
    widths = [377, 512, 401, 490, 463, 395, 440]
    heads, rows = [3, 1, 12, 7, 2, 5, 1, 1, 4, 8, 2, 6], [64 * n + 5 for n in range(1, 13)]
    layers = [architecture.Layer(tuple(range(h)), r) for h, r in zip(heads, rows, strict=True)]
    config = architecture.with_layers({"model_type": kind, "conv_dim": widths}, layers)
    kernels, strides = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
    inputs, theirs, frames, macs = 1, 0, 16_000 * 10, 0
    for outputs, kernel, stride in zip(widths, kernels, strides, strict=True):
        frames = (frames - kernel) // stride + 1
        theirs += inputs * outputs * kernel
        macs += frames * inputs * outputs * kernel
        inputs = outputs
    theirs += 2 * widths[0] + inputs  # norm of the first one, weights of the last channels
    theirs += 2 * inputs + (inputs + 1) * 768  # projection
    theirs += 768 * 48 * 128 + 768 + 128 + 2 * 768  # positions, norm
    macs += frames * inputs * 768 + (frames + 1) * 768 * 48 * 128
    for h, r in zip(heads, rows, strict=True):
        theirs += 769 * h * 64 * 3 + (h * 64 + 1) * 768 + 769 * r + (r + 1) * 768 + 4 * 768
        macs += frames * (4 * 768 * 64 * h + 2 * 768 * r) + 2 * frames**2 * 64 * h
        if kind == "wavlm":  # gated relative positions
            theirs += h + 8 * 65
            macs += frames * 8 * 64 * h
    theirs += 320 * 12 if kind == "wavlm" else 0
    assert architecture.count(config)["total"] == theirs - inputs + 768
    assert operations.macs(config, 10)["total"] == macs


def test_plans_take_the_macs_of_the_published_student():
    """654.1 G over SUPERB's clips: a stem thinned evenly; the gates decide for themselves."""
    from generate import sizes

    solution = recipes.solve(RECIPES["dphubert"], {"model_type": "hubert"}, 0.75)
    assert solution.reason is None and abs(solution.ratio - 0.75) < 1e-4
    assert sizes.superb_macs(solution.config) == pytest.approx(654.1e9, rel=0.005)
    assert architecture.remaining(solution.config) == pytest.approx(23_585_946, rel=0.001)


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


@pytest.mark.parametrize("name", STEMS)
def test_pinched_channels_are_scored_counted_and_silent_before_they_go(name):
    plain, *_ = with_stem(name)
    made = copy.deepcopy(plain)
    channels = channel_gates.PinchedChannels(made, 1.0, None)
    layers = plain.feature_extractor.conv_layers
    weights = [layer.conv.weight.detach().double().numpy() for layer in layers]
    weights.append(plain.feature_projection.projection.weight.detach().double().numpy())
    kept = []
    for place, reader in enumerate(channels.readers):
        own, reading = weights[place], weights[place + 1]
        raw = [(own[c] ** 2).sum() + (reading[:, c] ** 2).sum() for c in range(len(own))]
        expected = [(x - min(raw)) / (max(raw) - min(raw)) + 1e-5 for x in raw]
        gate, scores = self_pinching_gates.read(reader)
        assert scores.tolist() == pytest.approx(expected, rel=1e-3, abs=1e-5)
        with torch.no_grad():  # the threshold, t = pace · raw
            gate.raw.fill_(0.3**0.5 / gate.pace)
        kept.append([c for c, score in enumerate(expected) if score > 0.3])
    widths = [len(index) for index in kept]
    assert all(0 < n < len(w) for n, w in zip(widths, weights, strict=False))
    cut = copy.deepcopy(plain)
    for place, index in enumerate(kept):
        surgery.keep_channels(cut, place, torch.tensor(index))
    sizes = [sum(p.numel() for p in x.parameters()) for x in (plain, cut)]
    saving = channels.expected_saving()
    assert saving.item() == pytest.approx(sizes[0] - sizes[1])
    saving.backward()  # a higher threshold saves more
    assert all(self_pinching_gates.read(x)[0].raw.grad > 0 for x in channels.readers)
    if name == "no norm":  # others mix all channels of a frame
        waves = torch.randn(1, 4000)
        ours, theirs = made(waves).last_hidden_state, cut(waves).last_hidden_state
        assert torch.allclose(ours, theirs, atol=1e-5)
    channels.detach()
    assert not any(hasattr(x, "parametrizations") for x in channels.readers)
    for margins, index in zip(channels.levels(), kept, strict=True):
        assert (margins > 1).nonzero()[:, 0].tolist() == index


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["dphubert", "structured_self_pinching"])
def test_the_contract_holds_with_pinched_channels(kind, method, audio, tmp_path):
    more = {"gates": "self_pinching", "final_steps": 1} if method == "dphubert" else {}
    step = {method: {"steps": 2, "stem": True, **more}}
    check_contract(step, 0.35, backbone(kind), audio, tmp_path)


def test_gates_on_a_frozen_stem_are_refused():
    with pytest.raises(ValueError, match="freeze_stem"):
        recipes.make({"structured_self_pinching": {"stem": True, "freeze_stem": True}})


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
