"""Costs: counted right, timed in pairs, repeatable where no clock is involved."""

import copy
import math

import pytest
import torch

from speech_pareto import cost, model, surgery


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return model.new(model.tiny_config(hidden=48, layers=2, heads=4, ffn=96, pos_conv=16))


def test_parameters_by_part(tiny):
    counted = cost.parameters(tiny)
    assert counted["total"] == counted["stem"] + counted["encoder"]
    assert counted["stem"] == 0
    assert counted["nonzero"] < counted["total"]  # biases begin at zero


def test_macs_are_the_formula(tiny):
    audio = cost.noise(2.0)
    frames, width, layers = (32000 - 560) // 320 + 1, 48, 2
    spectra = 2 * frames
    stem = spectra * 257 * 80 + spectra * round(2.5 * 512 * math.log2(512)) // 2
    inner = 160 * width + layers * (4 * width * width + 2 * width * 96)
    position = (
        (frames + 1) * 16 * width * (width // 4)
    )  # four groups; an even kernel makes one frame too many
    attention = layers * 2 * frames * frames * width
    assert cost.macs(tiny, audio) == stem + frames * inner + position + attention


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2", "wavlm"])
def test_what_is_cut_costs_no_macs(kind):
    config = model.tiny_config(hidden=48, layers=2, heads=4, ffn=96, pos_conv=16, model_type=kind)
    whole, part = model.new(config), model.new(config)
    for layer in part.encoder.layers:
        surgery.keep_heads(layer, (1,))
        surgery.keep_rows(layer, torch.arange(24))
    audio = cost.noise(1.0)
    frames = (16000 - 560) // 320 + 1
    saved = 2 * frames * 0.75 * (4 * 48 * 48 + 2 * 48 * 96 + 2 * frames * 48)
    gate = 2 * frames * 3 * 12 * 8 if kind == "wavlm" else 0  # three heads' gates of two layers
    assert cost.macs(whole, audio) - cost.macs(part, audio) == saved + gate


def test_a_shared_layer_computes_twice_and_is_stored_once(tiny):
    shared = copy.deepcopy(tiny)
    shared.encoder.layers[1] = shared.encoder.layers[0]
    audio = cost.noise(1.0)  # profilers that sum over modules would count its MACs four times
    assert cost.macs(shared, audio) == cost.macs(tiny, audio)
    layer = sum(p.numel() for p in tiny.encoder.layers[1].parameters())
    assert cost.parameters(tiny)["total"] - cost.parameters(shared)["total"] == layer


def test_zeros_are_multiplied_like_any_number(tiny):
    sparse, audio = copy.deepcopy(tiny), cost.noise(1.0)
    for parameter in model.prunable(sparse).values():
        parameter.data.zero_()
    assert cost.macs(sparse, audio) == cost.macs(tiny, audio)
    counted, dense = cost.parameters(sparse), cost.parameters(tiny)
    assert counted["total"] == dense["total"] and counted["nonzero"] < dense["nonzero"]


def test_batches_cost_the_same_per_second(tiny):
    assert cost.macs(tiny, cost.noise(1.0, 3)) == 3 * cost.macs(tiny, cost.noise(1.0))


def test_memory_repeats_and_holds_the_largest_moment(tiny):
    audio = cost.noise(4.0)
    first = cost.peak_memory(tiny, audio)
    assert first == cost.peak_memory(tiny, audio)
    frames = (64000 - 560) // 320 + 1
    weights = sum(p.numel() for p in tiny.parameters()) * 4
    maps = 4 * frames * frames * 4  # one layer's attention maps
    assert first > weights + 2 * maps
    assert cost.peak_memory(tiny, cost.noise(8.0)) > first


def test_the_race_pairs_each_pass_with_its_own_neighbour(monkeypatch):
    clock = iter(
        [9.0, 9.0, 2.0, 1.0, 5.0, 20.0, 4.0, 2.0]
    )  # warm-up; then the order turns each time
    order = []

    def timed(subject, audio):
        order.append(subject)
        return next(clock)

    monkeypatch.setattr(cost, "_timed", timed)
    result = cost.race("teacher", "student", torch.zeros(1, 16000), 3)
    assert order[2:] == ["teacher", "student", "student", "teacher", "teacher", "student"]
    assert (result["speedup"], result["seconds"], result["teacher_seconds"]) == (2.0, 2.0, 4.0)
    assert (result["speedup_low"], result["speedup_high"]) == (2.0, 3.0)
    assert result["rtf"] == 2.0


def test_half_the_layers_are_faster(tiny):
    torch.manual_seed(0)
    long = model.new(model.tiny_config(hidden=48, layers=12, heads=4, ffn=96, pos_conv=16))
    result = cost.race(long, tiny, cost.noise(4.0), 5)
    assert result["speedup"] > 1.5
