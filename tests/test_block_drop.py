"""Layers without attention or feed-forward part: what goes, and what the rest then computes."""

import copy

import pytest
import torch

from helpers import KINDS
from helpers.backbones import backbone
from helpers.compressing import batches, compress, example
from speech_pareto.compression import calibration, recipes
from speech_pareto.compression.methods import block_drop, head_pruning
from speech_pareto.models import architecture, operations, surgery
from speech_pareto.models import backbone as model
from speech_pareto.models.hidden_states import real_frames
from speech_pareto.profiling import cost

SILENT = {0: ("out_proj", "output_dense"), 1: ("output_dense",), 2: ("out_proj",)}
FOLLOWS = ("distillation", "head_dim_pruning", "layer_drop", "low_rank")
FOLLOWS += ("random_pruning", "wanda", "ffn_pruning", "data_driven_ffn_pruning", "head_pruning")
FOLLOWS += ("data_driven_head_pruning", "weight_pruning", "fithubert", "semi_structured")
PLACES = [*((kind, False) for kind in (*KINDS, architecture.DATA2VEC)), *((k, True) for k in KINDS)]


@pytest.mark.parametrize(("kind", "stable"), PLACES)
def test_a_block_that_says_nothing_can_go(kind, stable, tmp_path):
    made = backbone(kind, do_stable_layer_norm=stable)
    cut = copy.deepcopy(made)
    for index, names in SILENT.items():
        layer = made.encoder.layers[index]
        for name in names:
            for parameter in surgery.matrix(layer, name).parameters():
                parameter.data.zero_()
        if "out_proj" in names:
            surgery.keep_heads(cut.encoder.layers[index], ())
        if "output_dense" in names:
            surgery.keep_rows(cut.encoder.layers[index], torch.arange(0))
    audio = batches(1, 0.5)[0]
    before, after = made(**audio).last_hidden_state, cut(**audio).last_hidden_state
    assert torch.allclose(before, after, atol=1e-5)
    model.save(cut, tmp_path / "cut")
    again = model.load(tmp_path / "cut")
    assert torch.equal(again(**audio).last_hidden_state, after)
    config = model.describe(again)
    assert [(len(x.heads), x.ffn) for x in architecture.layers_of(config)] == [
        (0, 0),
        (6, 0),
        (0, 160),
    ]
    counted = architecture.count(config)
    assert counted["total"] == sum(p.numel() for p in again.parameters())
    for layer, parts in zip(again.encoder.layers, counted["layers"], strict=True):
        assert sum(parts.values()) == sum(p.numel() for p in layer.parameters())
    assert operations.macs(config, 1.0)["total"] == cost.macs(again, cost.noise(1.0))


@pytest.mark.parametrize(("kind", "stable"), [("hubert", False), ("wavlm", True)])
def test_changes_are_the_formula(kind, stable):
    made = backbone(kind, do_stable_layer_norm=stable)
    audio, sums, frames = batches(2, 0.4), {}, 0
    for batch in audio:
        given = []
        hooks = [
            layer.register_forward_pre_hook(
                lambda module, inputs, named, given=given: given.append((inputs[0], named)),
                with_kwargs=True,
            )
            for layer in made.encoder.layers
        ]
        real = real_frames(made, batch)
        with torch.no_grad():
            made(**batch)
        for hook in hooks:
            hook.remove()
        frames += int(real.sum())
        for index, (layer, (x, named)) in enumerate(zip(made.encoder.layers, given, strict=True)):
            with torch.no_grad():  # the layer, once more by hand
                said = layer.attention(layer.layer_norm(x) if stable else x, **named)[0]
                middle = x + said if stable else layer.layer_norm(x + said)
                more = layer.feed_forward(layer.final_layer_norm(middle) if stable else middle)
            for name, before, added in (("attention", x, said), ("feed_forward", middle, more)):
                a, b = (t[real].double().numpy() for t in (before, before + added))
                cosines = (a * b).sum(1) / ((a * a).sum(1) * (b * b).sum(1)) ** 0.5
                sums[index, name] = sums.get((index, name), 0) + (1 - cosines).sum()
    expected = {place: total / frames for place, total in sums.items()}
    assert calibration.block_changes(made, audio) == pytest.approx(expected, rel=1e-4)


def test_the_lowest_blocks_go_and_rows_make_up_the_rest():
    teacher = backbone("hubert")
    changes = calibration.block_changes(teacher, batches(2, 0.4))
    order = sorted(changes, key=changes.get)
    student, solution = compress([example("block_drop")], teacher, 0.3)
    assert solution.reason is None
    removed, config = solution.sizings[0].knobs["removed"], model.describe(teacher)
    parts = {"attention": 4 * 48 * 48 + 4 * 48, "feed_forward": 2 * 48 * 160 + 160 + 48}
    stay = {max((b for b in order if b[1] == name), key=order.index) for name in parts}
    gone = []
    for block in (b for b in order if b not in stay):
        if sum(parts[name] for _, name in (*gone, block)) > removed:
            break
        gone.append(block)
    assert gone
    rest = removed - sum(parts[name] for _, name in gone)
    shapes = architecture.layers_of(model.describe(student))
    thin = next(i for i, name in order if name == "feed_forward" and (i, name) not in gone)
    for index, shape in enumerate(shapes):
        assert bool(shape.heads) == ((index, "attention") not in gone)
        rows = 0 if (index, "feed_forward") in gone else 160
        row = architecture.row_parameters(config, shape)
        assert shape.ffn == rows - (round(rest / row) if index == thin else 0)


def test_one_kind_of_block_can_go_alone():
    config = model.describe(backbone("hubert"))
    for blocks, kept in (("attention", "ffn"), ("feed_forward", "heads")):
        method = block_drop.BlockDrop(blocks=blocks)
        layers = architecture.layers_of(method.solve(config, 0.9).config)
        if blocks == "attention":
            assert [len(layer.heads) for layer in layers] == [6, 0, 0]
            assert sorted(layer.ffn for layer in layers)[1:] == [160, 160]
        else:
            assert [len(layer.heads) for layer in layers] == [6, 6, 6]
            assert sorted(layer.ffn for layer in layers) == [0, 0, 1], kept


@pytest.mark.parametrize(("kind", "blocks"), [("hubert", "attention"), ("wavlm", "feed_forward")])
@pytest.mark.parametrize("name", FOLLOWS)
def test_other_methods_follow(name, kind, blocks):
    step = example(name)
    if name in ("fithubert", "distillation"):
        step = {name: {"steps": 1}}
    teacher = backbone(kind, layers=4)
    first = {"ratio": 0.13, "blocks": blocks, **example("block_drop")["block_drop"]}
    chain = [{"block_drop": first}, step]
    most = recipes.solve(chain, model.describe(teacher), 0.99).ratio
    student, solution = compress(
        chain, teacher, most if name == "semi_structured" else min(0.25, most)
    )
    assert solution.reason is None
    assert student.eval()(batches(1, 0.4)[0]["input_values"]).last_hidden_state.isfinite().all()


@pytest.mark.parametrize("name", ["dphubert", "structured_self_pinching"])
def test_what_needs_whole_layers_says_so(name):
    reason = recipes.solve([{"block_drop": {"ratio": 0.3}}, name], {"model_type": "hubert"}, 0.5)
    assert "layers that are whole" in reason.reason or "no attention or no feed" in reason.reason


@pytest.mark.parametrize("name", ["head_pruning", "data_driven_head_pruning"])
def test_a_layer_may_lose_its_last_head(name):
    settings = example(name)[name] | {"keep": 0}
    most = recipes.solve([{name: settings}], {"model_type": "hubert"}, 0.9).ratio
    attention = architecture.count({"model_type": "hubert"})["layers"][0]["attention"]
    assert most == pytest.approx(12 * attention / 94_371_712)
    assert recipes.solve([name], {"model_type": "hubert"}, 0.9).ratio < most
    teacher = backbone("wavlm")
    bound = recipes.solve([{name: settings}], model.describe(teacher), 0.99).ratio
    student, solution = compress([{name: settings}], teacher, 0.9 * bound)
    assert solution.reason is None
    heads = [len(layer.attention.heads) for layer in student.encoder.layers]
    assert 0 in heads and sum(heads) == 18 - sum(solution.sizings[0].knobs["alike"])


def test_rounds_go_on_to_the_last_head():
    scores = [torch.tensor([3.0, 1.0, 2.0]), torch.tensor([4.0, 6.0, 5.0])]
    assert head_pruning.lowest_heads(scores, 6, keep=0) == [[1, 2, 0], [0, 2, 1]]
    assert head_pruning.lowest_heads(scores, 4) == [[1, 2], [0, 2]]
