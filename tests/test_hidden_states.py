"""Hidden states with and without a mask, from one run of the stem."""

import pytest
import torch

from helpers.backbones import backbone
from speech_pareto.models.hidden_states import real_frames, state_after, states, without_and_with

KINDS = ("hubert", "wav2vec2", "wavlm", "data2vec-audio")


@pytest.mark.parametrize("kind", KINDS)
def test_the_stem_runs_once_for_both_and_changes_nothing(kind):
    model = backbone(kind).eval()
    waves = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    batch = {"input_values": waves, "attention_mask": torch.ones(2, 4000, dtype=torch.long)}
    batch["attention_mask"][1, 2500:] = 0
    mask = torch.zeros_like(real_frames(model, batch))
    mask[:, 2:5] = True
    runs = []
    handle = model.feature_extractor.register_forward_hook(lambda *inputs: runs.append(1))
    with torch.no_grad():
        apart = states(model, batch), states(model, batch, mask)
        assert len(runs) == 2
        together = without_and_with(model, batch, mask)
    handle.remove()
    for one, other in zip(apart, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(together[0][1], together[1][1])
    assert "forward" not in vars(model.feature_extractor)
    inputs = batch["input_values"].clone()
    batch["input_values"] = 2 * inputs  # nothing is kept for the next batch
    with torch.no_grad():
        assert torch.equal(without_and_with(model, batch, mask)[0][1], states(model, batch)[1])


def test_the_stem_is_as_before_after_an_error():
    model = backbone("hubert")
    with pytest.raises(KeyError):
        without_and_with(model, {}, torch.ones(1, 1, dtype=torch.bool))
    assert "forward" not in vars(model.feature_extractor)


@pytest.mark.parametrize(
    ("kind", "stable"),
    [*((kind, False) for kind in KINDS), *((kind, True) for kind in KINDS[:3])],
)
def test_a_state_is_had_without_the_layers_behind_it(kind, stable, batch):
    norms = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"} if stable else {}
    model, ran = backbone(kind, **norms).eval(), []
    for number, layer in enumerate(model.encoder.layers, 1):
        layer.register_forward_hook(lambda *call, number=number: ran.append(number))
    with torch.no_grad():
        expected = states(model, batch)
        for number in range(len(expected)):
            ran.clear()
            assert torch.equal(state_after(model, batch, number), expected[number])
            assert ran == list(range(1, number + 1))
        assert torch.equal(states(model, batch)[-1], expected[-1])  # nothing is left behind


def test_wavlm_copies_the_bias_of_some_heads_not_of_all():
    attention = backbone("wavlm").encoder.layers[0].attention
    bias = torch.randn(2, len(attention.heads), 5, 5)
    assert attention.own(bias) is bias
    attention.heads = tuple(attention.heads)[1:]
    assert torch.equal(attention.own(bias), bias[:, 1:])
