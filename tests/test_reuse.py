"""Reused attention maps: the formula, and the traps of the released code."""

import copy

import pytest
import torch

from helpers import KINDS
from helpers.backbones import backbone
from helpers.compressing import compress
from speech_pareto.compression import recipes
from speech_pareto.models import architecture, operations, surgery
from speech_pareto.models import backbone as model
from speech_pareto.models.layers.reused_attention import reuse_map
from speech_pareto.profiling import cost


def sharing(kind, reuse="map", indices=(1,), **settings):
    """Return a backbone in which the layers `indices` reuse maps."""
    made = backbone(kind, **settings)
    for index in indices:
        reuse_map(made, made.encoder.layers[index], reuse)
    return made


def two_waves():
    """Return audio (2, 4000) and its mask; the second utterance has 2600 samples."""
    waves = torch.randn(2, 4000, generator=torch.Generator().manual_seed(3))
    mask = torch.ones(2, 4000).long()
    waves[1, 2600:], mask[1, 2600:] = 0, 0
    return waves, mask


def maps_of(made, waves, mask):
    """Return the map (B, heads, T, T), the input and the output of each layer's attention."""
    seen, hooks = [], []
    for layer in made.encoder.layers:
        hooks.append(
            layer.attention.register_forward_hook(
                lambda module, args, kwargs, output: seen.append(
                    (output[1], args[0] if args else kwargs["hidden_states"], output[0])
                ),
                with_kwargs=True,
            )
        )
    made(waves, attention_mask=mask)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stable", [False, True])
def test_the_map_is_applied_as_it_is(kind, stable):
    made = sharing(kind, do_stable_layer_norm=stable)
    waves, mask = two_waves()
    (first, _, _), (second, given, output), _ = maps_of(made, waves, mask)
    assert torch.equal(first, second)
    assert torch.allclose(first.sum(-1), torch.ones(()), atol=1e-5)
    assert not torch.allclose(first[:, 0], first[:, 1], atol=1e-3)  # of each head, not their mean
    frames = made._get_feat_extract_output_lengths(torch.tensor(2600))
    assert not first[1, :, :, frames:].any()  # no padding in it
    # Once more in float64, head by head, from the formula.
    attention = made.encoder.layers[1].attention
    weights = {n: p.detach().double() for n, p in attention.named_parameters()}
    given = given.detach().double()
    values = given @ weights["v_proj.weight"].T + weights["v_proj.bias"]
    heads = [first[:, h].detach().double() @ values[..., 8 * h : 8 * h + 8] for h in range(6)]
    expected = torch.cat(heads, -1) @ weights["out_proj.weight"].T + weights["out_proj.bias"]
    assert torch.allclose(output.double(), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_is_that_of_the_plain_model(kind):
    waves, mask = two_waves()
    theirs = maps_of(backbone(kind), waves, mask)[0][0]
    ours = maps_of(sharing(kind), waves, mask)[1][0]
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reuse", ["map", "softmax"])
def test_an_utterance_does_not_feel_its_batch_mates(kind, reuse):
    made = sharing(kind, reuse, (1, 2))
    waves, mask = two_waves()
    together = made(waves, attention_mask=mask).last_hidden_state
    swapped = made(waves.flip(0), attention_mask=mask.flip(0)).last_hidden_state.flip(0)
    alone = made(waves[1:, :2600], attention_mask=mask[1:, :2600]).last_hidden_state
    assert torch.allclose(together, swapped, atol=1e-5)
    assert torch.allclose(together[1:, : alone.shape[1]], alone, atol=1e-5)


def test_the_released_form_mixes_up_utterances_and_is_the_others_for_one():
    waves, mask = two_waves()
    outputs = {}
    for reuse in architecture.REUSE:
        made = sharing("hubert", reuse)
        together = made(waves, attention_mask=mask).last_hidden_state
        swapped = made(waves.flip(0), attention_mask=mask.flip(0)).last_hidden_state.flip(0)
        outputs[reuse] = together, swapped, made(waves[:1]).last_hidden_state
    together, swapped, alone = outputs["released"]
    assert not torch.allclose(together, swapped, atol=1e-3)
    assert torch.allclose(alone, outputs["softmax"][2], atol=1e-6)
    assert not torch.allclose(alone, outputs["map"][2], atol=1e-3)


def test_the_released_form_reads_heads_and_utterances_in_the_order_of_memory():
    made, plain = sharing("hubert", "released"), sharing("hubert")
    waves = two_waves()[0]
    first = maps_of(plain, waves, None)[0][0]  # (B, heads, T, T)
    given = maps_of(made, waves, None)[1][0]
    for place in range(12):
        utterance, head = divmod(place, 6)
        other_head, other = divmod(place, 2)
        expected = first[other, other_head].softmax(-1)
        assert torch.allclose(given[utterance, head], expected, atol=1e-6)


def test_a_second_softmax_leaves_little_of_a_map():
    waves = two_waves()[0]
    spread = {
        reuse: maps_of(sharing("hubert", reuse), waves, None)[1][0].std().item()
        for reuse in ("map", "softmax")
    }
    assert spread["softmax"] < 0.1 * spread["map"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reuse", architecture.REUSE)
def test_a_folder_says_which_layers_reuse_maps(kind, reuse, tmp_path):
    made = sharing(kind, reuse, (1, 2))
    surgery.keep_heads(made.encoder.layers[2], (0, 4))
    waves, mask = two_waves()
    before = made(waves, attention_mask=mask).last_hidden_state
    model.save(made, tmp_path / "student")
    again = model.load(tmp_path / "student")
    assert torch.equal(again(waves, attention_mask=mask).last_hidden_state, before)
    config = model.describe(again)
    assert config == model.describe(made)
    assert [layer.reuse for layer in architecture.layers_of(config)] == [None, reuse, reuse]
    counted = architecture.count(config)
    assert counted["total"] == sum(p.numel() for p in again.parameters())
    for layer, parts in zip(again.encoder.layers, counted["layers"], strict=True):
        assert parts["attention"] == sum(p.numel() for p in layer.attention.parameters())


def test_heads_that_are_left_read_their_own_map():
    made = sharing("hubert", indices=(2,))
    layer, waves = made.encoder.layers[2], two_waves()[0]
    with torch.no_grad():
        layer.attention.out_proj.weight[:, 8:32] = 0  # heads 1, 2 and 3 say nothing
    before = made(waves).last_hidden_state
    surgery.keep_heads(layer, (0, 4, 5))
    assert torch.allclose(made(waves).last_hidden_state, before, atol=1e-5)


def test_a_model_can_be_copied_between_passes_and_its_copy_stands_alone():
    made = sharing("hubert").train()
    waves = two_waves()[0]
    made(waves).last_hidden_state.sum().backward()  # leaves no map behind
    twin = copy.deepcopy(made.eval())
    before = made(waves).last_hidden_state
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    assert torch.equal(twin(waves).last_hidden_state, before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reused_map_costs_no_macs(kind):
    audio = cost.noise(1.0)
    frames = 16000 // 80
    gate = 8 * 48 if kind == "wavlm" else 0
    saved = frames * (2 * 48 * 48 + gate + frames * 48)
    parts = [cost.macs(sharing(kind, indices=indices), audio) for indices in ((2,), (1, 2))]
    assert parts[0] - parts[1] == saved
    planned = operations.macs(model.describe(sharing(kind, indices=(1, 2))), 1.0)["total"]
    assert planned == parts[1]


def test_maps_that_are_not_there_are_refused():
    config = {"model_type": "hubert", "num_hidden_layers": 2}
    for layers, message in (
        ([{"reuse": "map"}, {}], "does not have"),
        ([{"heads": [1]}, {"reuse": "map"}], "does not have"),
        ([{}, {"reuse": "twice"}], "not one of map"),
    ):
        with pytest.raises(ValueError, match=message):
            architecture.layers_of({**config, "compression": {"layers": layers}})


def test_every_second_layer_goes_first():
    step = recipes.make("attention_reuse")
    config = {"model_type": "hubert"}
    size = 2 * (768 * 768 + 768) / 94_371_712
    assert step.solve(config, 6 * size).knobs["layers"] == [1, 3, 5, 7, 9, 11]
    assert step.solve(config, 8 * size).knobs["layers"] == [1, 3, 5, 7, 9, 11, 2, 4]
    assert step.solve(config, 3.4 * size).knobs["layers"] == [1, 3, 5]
    assert step.solve(config, 0.9).knobs["layers"][-1] == 10
    again = step.solve(step.solve(config, 6 * size).config, 2 * size)
    assert again.knobs["layers"] == [2, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_other_methods_follow_where_they_can(kind):
    chain = [{"attention_reuse": {"ratio": 0.054}}, "low_rank"]
    student, solution = compress(chain, backbone(kind), 0.4)
    assert solution.reason is None
    assert student(two_waves()[0]).last_hidden_state.isfinite().all()
    for name in ("ffn_pruning", "layer_drop", "weight_pruning"):
        student, solution = compress([chain[0], name], backbone(kind), 0.3)
        assert solution.reason is None
        assert student.eval()(two_waves()[0]).last_hidden_state.isfinite().all()
    for name in ("head_pruning", "random_pruning", "distillation"):
        reason = recipes.solve([chain[0], name], model.describe(backbone(kind)), 0.2).reason
        assert "attention map the next layer reuses cannot go" in reason


@pytest.mark.parametrize("kind", KINDS)
def test_a_reused_map_is_the_one_before_dropout(kind):
    made = sharing(kind, indices=(1,), attention_dropout=0.5).train()
    seen = []
    made.encoder.layers[1].attention.register_forward_hook(lambda m, i, out: seen.append(out[1]))
    waves = two_waves()[0]
    torch.manual_seed(0)
    made(waves)
    assert torch.allclose(seen[0].sum(-1), torch.ones(()), atol=1e-5)  # dropout would break the sum
    assert (seen[0] > 0).all()
    outputs = []
    for seed in (1, 2):  # the layer that lends has its own dropout
        torch.manual_seed(seed)
        layer = made.encoder.layers[0].attention
        generator = torch.Generator().manual_seed(0)
        outputs.append(layer(torch.randn(1, 9, 48, generator=generator))[0])
    assert not torch.allclose(*outputs)
