"""Gates on the channels of a stem: size, where they stand, what is cut, the published form."""

import copy
import math

import numpy as np
import pytest
import torch

from helpers import KINDS
from helpers.backbones import backbone, convolutional
from helpers.compressing import RECIPES, compress
from helpers.contract import check_contract
from helpers.gates import gating_of
from speech_pareto.compression import recipes
from speech_pareto.compression.parts import (
    channel_gates,
    self_pinching_gates,
)
from speech_pareto.models import architecture, operations, surgery
from speech_pareto.models import backbone as model

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
    sizes = {
        "heads": architecture.head_parameters(config, layer),
        "rows": architecture.row_parameters(config, layer),
    }
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
