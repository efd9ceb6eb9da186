"""LightHuBERT's search spaces: the published sizes, and which subnet meets a ratio."""

from itertools import product

import pytest
import torch

from helpers import KINDS
from helpers.compressing import RECIPES
from helpers.formulas import BASE
from speech_pareto.compression import recipes
from speech_pareto.compression.methods.lighthubert import SPACES, LightHuBERT
from speech_pareto.compression.parts.nested import Subnet
from speech_pareto.models import architecture
from speech_pareto.models import backbone as model


def space_of(name, config):
    """Return one of the two search spaces."""
    return LightHuBERT(space=name).spaces(config)[name]


def test_the_published_subnet_has_its_size():
    published = Subnet(384, range(12), [6] * 12, [1536] * 12).shape(BASE)
    assert architecture.count(published)["total"] == 26_873_344  # "27M" in the released code
    assert "compression" not in published  # plain transformers load it
    for kind in KINDS:
        for ratio in (0.715, 0.72):
            solution = recipes.solve(RECIPES["lighthubert-small"], {"model_type": kind}, ratio)
            assert solution.reason is None
            assert architecture.count(solution.config)["total"] == 26_873_344
            assert sum(p.numel() for p in model.build(solution.config).parameters()) == 26_873_344


def test_spaces_of_hubert_base_are_those_published():
    small, base = space_of("small", BASE), space_of("base", BASE)
    assert (small.widths, small.heads) == ([256, 384, 512], [4, 6, 8])
    assert (base.widths, base.heads) == ([512, 640, 768], [8, 10, 12])
    assert list(small.depths) == [10, 11, 12] and list(base.depths) == [12]
    assert small.rows == {256: [768, 896, 1024], 384: [1152, 1344, 1536], 512: [1536, 1792, 2048]}
    assert base.rows == {512: [1792, 2048], 640: [2240, 2560], 768: [2688, 3072]}
    assert small.layers(11) == list(range(11))
    assert small.layers(10) == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10]  # of 1 to 12, 8 and 12 go
    tiny = space_of("small", architecture.tiny())
    assert (tiny.widths, tiny.heads, list(tiny.depths)) == ([64, 96, 128], [2, 3, 4], [5, 6])
    assert tiny.rows[96] == [288, 336, 384]


def bound(name, choose):
    """Return the size of the least or greatest subnet of a space of HuBERT Base."""
    space = space_of(name, BASE)
    width, layers = choose(space.widths), space.layers(choose(space.depths))
    heads, rows = [choose(space.heads)] * len(layers), [choose(space.rows[width])] * len(layers)
    return architecture.count(Subnet(width, layers, heads, rows).shape(BASE))["total"]


@pytest.mark.parametrize("space", SPACES)
def test_ratios_outside_a_space_reach_its_bounds(space):
    for ratio, choose in ((0.99, min), (0.0, max)):
        solution = recipes.solve([{"lighthubert": {"space": space}}], BASE, ratio)
        size = architecture.count(solution.config)["total"]
        assert size == bound(space, choose)
        assert (solution.reason is None) == (space == "base" and ratio == 0)
    assert bound("base", max) == architecture.count(BASE)["total"]


def test_a_ratio_is_met_by_the_most_regular_subnet():
    step = recipes.make("lighthubert")
    sizings = {ratio: step.solve(BASE, ratio) for ratio in (0.1, 0.25, 0.5, 0.6, 0.7, 0.75, 0.8)}
    for ratio, sizing in sizings.items():
        assert abs(architecture.ratio(BASE, sizing.config) - ratio) <= 0.005
        for counts in (sizing.knobs["heads"], sizing.knobs["ffn"]):
            assert counts == sorted(counts, reverse=True) and len(set(counts)) <= 2
    assert sizings[0.75].knobs | {"layers": 0} == {
        "space": "small",
        "width": 384,
        "layers": 0,
        "heads": [6] * 11,
        "ffn": [1344] * 11,
    }
    # By brute force: where layers can be alike within half of the tolerance, they are.
    alike = []
    for space in (space_of(name, BASE) for name in SPACES):
        for width, depth, heads in product(space.widths, space.depths, space.heads):
            for rows in space.rows[width]:
                subnet = Subnet(width, space.layers(depth), [heads] * depth, [rows] * depth)
                config = subnet.shape(BASE)
                alike.append((architecture.ratio(BASE, config), heads * 64 == width))
    for ratio, sizing in sizings.items():
        near = [square for there, square in alike if abs(there - ratio) <= 0.005]
        heads, rows = sizing.knobs["heads"], sizing.knobs["ffn"]
        assert (len(set(heads)) == len(set(rows)) == 1) == bool(near), ratio
        assert (heads[0] * 64 == sizing.knobs["width"]) == any(near) or not near


def test_what_no_subnet_has_is_said():
    """The spaces have gaps: width 768 has no fewer rows than 2688, and 640 is the next."""
    solution = recipes.solve(["lighthubert"], BASE, 0.2)
    assert solution.reason == "lighthubert can remove 0.175 of the parameters, not 0.2"
    unmasked = BASE | {"mask_time_prob": 0.0}
    assert "no mask vector" in recipes.solve(["lighthubert"], unmasked, 0.7).reason
    pruned = recipes.solve(["head_pruning"], BASE, 0.05).config
    assert "layers that are whole" in recipes.solve(["lighthubert"], pruned, 0.7).reason
    for wrong in ({"steps": -1}, {"first_stage": 1.5}):
        with pytest.raises(ValueError, match="must be a (whole )?number, at least 0"):
            recipes.make({"lighthubert": wrong})


def test_draws_cover_the_space_and_follow_the_seed():
    space = space_of("small", BASE)
    torch.manual_seed(1)
    drawn = [space.draw() for _ in range(300)]
    torch.manual_seed(1)
    assert drawn[:3] == [space.draw() for _ in range(3)]
    shapes = {(subnet.width, len(subnet.layers)) for subnet in drawn}
    assert shapes == {(width, depth) for width in space.widths for depth in space.depths}
    for place in range(10):
        pairs = {(s.width, s.heads[place], s.ffn[place]) for s in drawn}
        choices = {(w, h, f) for w in space.widths for h in space.heads for f in space.rows[w]}
        assert pairs == choices
    assert all(len(s.layers) == len(s.heads) == len(s.ffn) for s in drawn)
    sizes = [architecture.count(subnet.shape(BASE))["total"] for subnet in drawn]
    assert bound("small", min) <= min(sizes) < max(sizes) <= bound("small", max)
