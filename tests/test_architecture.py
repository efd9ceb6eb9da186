"""Counting parameters from a config alone gives what the real module holds."""

import random
import subprocess
import sys

import pytest

from speech_pareto.compression import allocation
from speech_pareto.models import architecture as a
from speech_pareto.models import operations

LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "do_stable_layer_norm": True,
}
TINY = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "mask_time_prob": 0.0,
    "num_conv_pos_embeddings": 31,
}


@pytest.mark.parametrize("kind", a.MODEL_TYPES)
@pytest.mark.parametrize("settings", [{}, LARGE, TINY], ids=["base", "large", "tiny"])
def test_count_is_the_modules(kind, settings):
    from speech_pareto.models.backbone import build

    config = {"model_type": kind, **settings}
    module, counted = build(config), a.count(config)
    assert counted["total"] == sum(p.numel() for p in module.parameters())
    assert counted["stem"] == sum(p.numel() for p in module.feature_extractor.parameters())
    for layer, parts in zip(module.encoder.layers, counted["layers"], strict=True):
        assert parts["attention"] == sum(p.numel() for p in layer.attention.parameters())
        assert parts["ffn"] == sum(p.numel() for p in layer.feed_forward.parameters())
        assert sum(parts.values()) == sum(p.numel() for p in layer.parameters())


def test_published_sizes():
    base = {"model_type": "hubert"}
    assert a.count(base)["total"] == 94_371_712
    layer = a.layers_of(base)[0]
    assert a.head_parameters(base, layer) == 196_800
    assert 128 * 12 * a.row_parameters(base, layer) == 2_360_832


def drawn_layers(seed):
    """Return one to four layers of `TINY`."""
    draw = random.Random(seed)
    return [drawn_layer(draw) for _ in range(draw.randint(1, 4))]


def drawn_layer(draw):
    """Return a layer of `TINY`: without attention or feed-forward part, or with any of either."""
    heads = tuple(sorted(draw.sample(range(4), draw.choice([0, 1, 3, 4]))))
    ffn = draw.choice([0, draw.randint(1, 96)])
    names = (*(a.ATTENTION if heads else ()), *(a.FFN if ffn else ()))
    ranks = {name: draw.randint(1, 9) for name in names if draw.random() < 0.5}
    widths = {key: draw.choice([None, draw.randint(1, 11)]) for key in ("qk", "vo") if heads}
    return a.Layer(heads, ffn, ranks, **widths)


@pytest.mark.parametrize("kind", a.MODEL_TYPES)
@pytest.mark.parametrize("seed", range(3))
def test_count_is_the_modules_for_any_compression(kind, seed):
    from speech_pareto.models.backbone import build, describe

    layers = drawn_layers(seed)
    config = a.with_layers({"model_type": kind, **TINY}, layers, zeros=7)
    module = build(config)
    assert a.layers_of(config) == layers
    assert a.count(config)["total"] == sum(p.numel() for p in module.parameters())
    assert a.remaining(config) == a.count(config)["total"] - 7
    assert a.layers_of(describe(module)) == layers


SHORT = {"conv_dim": [8, 24], "conv_kernel": [10, 8], "conv_stride": [10, 8]}
LOG_MEL = {"conv_dim": [a.WIDTH], "conv_kernel": [a.KERNEL], "conv_stride": [a.STRIDE]}
LOG_MEL |= {"compression": {"stem": "log_mel"}}


@pytest.mark.parametrize("kind", a.MODEL_TYPES)
@pytest.mark.parametrize(
    "settings",
    [pytest.param({}, id="base"), pytest.param(LARGE, id="large", marks=pytest.mark.slow)],
)
def test_macs_are_what_torch_counts(kind, settings):
    import torch

    from speech_pareto.models import backbone
    from speech_pareto.profiling import cost

    config = {"model_type": kind, **settings}
    audio = torch.empty(1, 20560, device="meta")  # shapes alone say how much there is to compute
    assert operations.macs(config, 20560 / 16000)["total"] == cost.macs(
        backbone.build(config), audio
    )


@pytest.mark.parametrize("kind", a.MODEL_TYPES)
@pytest.mark.parametrize("stem", [SHORT, LOG_MEL], ids=["convolutions", "log-mel"])
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_macs_are_what_torch_counts_for_any_compression(kind, stem, seed):
    from speech_pareto.models import backbone
    from speech_pareto.profiling import cost

    config = a.with_layers({"model_type": kind, **TINY, **stem}, drawn_layers(seed))
    module = backbone.build(config).to_empty(device="cpu")
    for seconds in (0.5, 1.234):
        assert operations.macs(config, seconds)["total"] == cost.macs(module, cost.noise(seconds))


def test_a_recording_without_a_frame_has_no_macs():
    assert operations.macs({"model_type": "hubert"}, 400 / 16000)["frames"] == 1
    with pytest.raises(ValueError, match="too short"):
        operations.macs({"model_type": "hubert"}, 399 / 16000)


def test_what_transformers_can_express_needs_no_section():
    config = {"model_type": "hubert", **TINY}
    assert "compression" not in a.with_layers(config, a.layers_of(config))
    thinner = a.with_layers(config, [a.Layer((0, 1, 2, 3), 10)] * 5)
    assert (thinner["num_hidden_layers"], thinner["intermediate_size"]) == (5, 10)
    assert "compression" not in thinner


def test_the_section_keeps_the_stem():
    config = {"model_type": "hubert", **TINY, "compression": {"stem": "log_mel"}}
    assert a.with_layers(config, a.layers_of(config))["compression"] == {"stem": "log_mel"}
    assert a.count(config)["stem"] == 0


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "bert"}, "not one of hubert"),
        ({"model_type": "wav2vec2", "add_adapter": True}, "adapters"),
        ({"model_type": "hubert", "compression": {"layers": [{}]}}, "1 for 12 layers"),
    ],
)
def test_what_cannot_be_rebuilt_is_refused(config, reason):
    with pytest.raises(ValueError, match=reason):
        a.count(config)


@pytest.mark.parametrize(
    ("amount", "capacities", "shares"),
    [(7, [5, 5, 5], [3, 2, 2]), (10, [3, 9, 1], [3, 6, 1]), (99, [1, 2], [1, 2]), (0, [4], [0])],
)
def test_spread_is_even(amount, capacities, shares):
    assert allocation.spread(amount, capacities) == shares


def test_planning_needs_no_torch():
    code = "import sys, speech_pareto.compression.method; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": "workflow/scripts"})
