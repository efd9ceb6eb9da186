"""The contract that every method keeps on every kind of backbone."""

import pytest
import torch

from helpers.backbones import SHAPE
from helpers.compressing import STEM, compress, example, ratio_of
from helpers.contract import check_contract
from speech_pareto.compression import catalogue, recipes
from speech_pareto.compression.method import Context
from speech_pareto.models import backbone as model

RATIO = 0.2  # of the tiny backbones; those with transformers' defaults are in test_defaults.py
REMOVING = [name for name in catalogue.names() if catalogue.load(name).removes]
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
RATIOS = (0.1, 0.25, 0.5, 0.75)
REACHED = {  # which of these a method reaches on published sizes, where that is not all
    "attention_reuse": (0.1,),
    "head_pruning": (0.1, 0.25),
    "data_driven_head_pruning": (0.1, 0.25),
    "head_dim_pruning": (0.1, 0.25),
    "ffn_pruning": (0.1, 0.25, 0.5),
    "data_driven_ffn_pruning": (0.1, 0.25, 0.5),
    "semi_structured": (),
    **dict.fromkeys(STEM, ()),
}
GAP = ("lighthubert", "large", 0.25)  # between its search spaces
FIXED = {"semi_structured"}  # it has one ratio
HEADS = (
    "block_drop",
    "data_driven_head_pruning",
    "distilhubert",
    "distillation",
    "dphubert",
    "head_pruning",
    "heads_and_rows",
)
HEADS += (
    "layer_tying",
    "random_pruning",
    "structured_self_pinching",
    "unit_distillation",
)
FRAMES = ("block_drop", "data_driven_ffn_pruning", "distilhubert", "distillation", "layer_tying")
FRAMES += ("head_dim_pruning", "heads_and_rows", "sparse_gpt", "wanda")
# Nothing comes before these, in any recipe.
FIRST = tuple(name for name in catalogue.names() if catalogue.load(name).trains_once)
FOLLOWING = [name for name in REMOVING if name not in FIRST]
REFUSED = {  # after a thin student: what cannot follow, and why
    "masking_distillation": {
        **dict.fromkeys(HEADS, "attention map the next layer reuses cannot go"),
        **dict.fromkeys(STEM, "stem has no convolutions"),
    },
    "fithubert": {
        **dict.fromkeys(STEM, "stem has no convolutions"),
        **dict.fromkeys(FRAMES, "fewer frames than"),
    },
}


@pytest.mark.parametrize("name", catalogue.names())
def test_contract(name, teacher, audio, tmp_path):
    ratio = ratio_of(name, RATIO, model.describe(teacher))
    check_contract(example(name), ratio, teacher, audio, tmp_path)


@pytest.mark.parametrize("name", REMOVING)
def test_what_cannot_be_reached_is_said(name, teacher):
    solution = recipes.solve([example(name)], model.describe(teacher), 0.99)
    assert "not 0.99" in solution.reason
    assert 0 < solution.ratio < 0.98
    at_bound = recipes.solve([example(name)], model.describe(teacher), solution.ratio)
    assert at_bound.reason is None


@pytest.mark.parametrize("kind", ["hubert", "wavlm"])  # wav2vec 2.0 has HuBERT's sizes
@pytest.mark.parametrize("size", ["base", "large"])
@pytest.mark.parametrize("name", REMOVING)
def test_published_sizes_are_solved_to_the_point(name, size, kind):
    config = {"model_type": kind, **(LARGE if size == "large" else {})}
    for ratio in RATIOS:
        solution = recipes.solve([name], config, ratio)
        if ratio in REACHED.get(name, RATIOS) and (name, size, ratio) != GAP:
            assert solution.reason is None, ratio
            assert abs(solution.ratio - ratio) <= recipes.TOLERANCE
        else:
            assert f"not {ratio}" in solution.reason
    bounds = {"head_pruning": 0.28 if size == "base" else 0.31, "ffn_pruning": 0.62}
    if name in bounds:
        assert recipes.solve([name], config, 0.9).ratio == pytest.approx(bounds[name], abs=0.03)


@pytest.mark.parametrize("name", [name for name in catalogue.names() if name not in STEM])
def test_pre_norm_and_log_mel_models_are_served_too(name):
    torch.manual_seed(5)
    teacher = model.new(model.tiny_config(**SHAPE, do_stable_layer_norm=True))
    ratio = ratio_of(name, 0.25, model.describe(teacher))
    student, solution = compress([example(name)], teacher, ratio)
    assert solution.reason is None
    assert student(torch.randn(1, 3000)).last_hidden_state.isfinite().all()


@pytest.mark.parametrize(
    "steps",
    [
        [{"layer_drop": {"ratio": 0.3}}, "head_pruning"],
        [{"low_rank": {"ratio": 0.2}}, "ffn_pruning", "identity"],
        [{"head_pruning": {"ratio": 0.05}}, {"low_rank": {"ratio": 0.2}}, "random_pruning"],
        ["low_rank", {"ffn_pruning": {"ratio": 0.1}}],
        [
            {"distillation": {"steps": 1, "ratio": 0.3}},
            {"ffn_pruning": {"ratio": 0.1}},
            "weight_pruning",
        ],
        [{"head_pruning": {"ratio": 0.1}}, "low_rank", "int8"],
        [{"ffn_pruning": {"ratio": 0.1}}, {"wanda": {"batch_seconds": 0.4}}, "half_precision"],
    ],
    ids=lambda steps: "-".join(next(iter(s)) if isinstance(s, dict) else s for s in steps),
)
def test_chains_end_at_the_asked_ratio(steps, teacher, audio, tmp_path):
    student, solution = compress(steps, teacher, 0.42)
    assert solution.reason is None
    model.save(student, tmp_path / "student")
    again = model.load(tmp_path / "student")
    assert torch.equal(
        again(audio[0]).last_hidden_state, student.eval()(audio[0]).last_hidden_state
    )


@pytest.mark.parametrize(
    ("thin", "name"),
    [(thin, name) for thin in REFUSED for name in FOLLOWING if name not in REFUSED[thin]],
)
def test_what_follows_a_thin_student_works(thin, name):
    torch.manual_seed(5)
    teacher = model.new(model.tiny_config(**SHAPE))
    steps = [{thin: {"steps": 0, "ratio": 0.3}}, example(name)]
    most = recipes.solve(steps, model.describe(teacher), 0.99).ratio
    student, solution = compress(steps, teacher, most if name in FIXED else min(0.5, most))
    assert solution.reason is None
    assert student(torch.randn(1, 3000)).last_hidden_state.isfinite().all()


@pytest.mark.parametrize(
    ("thin", "name", "said"),
    [(thin, name, said) for thin, names in REFUSED.items() for name, said in names.items()],
)
def test_what_cannot_follow_a_thin_student_says_why_not(thin, name, said):
    config = model.tiny_config(**SHAPE).to_dict()
    steps = [{thin: {"steps": 0, "ratio": 0.3}}, example(name)]
    assert said in recipes.solve(steps, config, 0.5).reason


def test_only_what_compares_hidden_states_needs_them_alike():
    steps = [{"fithubert": {"steps": 0, "ratio": 0.3}}, {"distillation": {"steps": 1}}]
    reason = recipes.solve(steps, {"model_type": "hubert"}, 0.5).reason
    assert reason == "distillation: the methods before it leave fewer frames than the teacher has"
    steps[1] = {"distillation": {"steps": 0}}
    assert recipes.solve(steps, {"model_type": "hubert"}, 0.5).reason is None


def test_steps_with_their_own_ratio_must_add_up():
    steps = [{"layer_drop": {"ratio": 0.3}}, {"ffn_pruning": {"ratio": 0.2}}]
    config = {"model_type": "hubert"}
    assert recipes.solve(steps, config, 0.44).reason is None  # 1 - 0.7 * 0.8
    assert "can remove 0.4" in recipes.solve(steps, config, 0.6).reason
    too_much = recipes.solve([{"layer_drop": {"ratio": 0.5}}, "ffn_pruning"], config, 0.3)
    assert too_much.ratio == pytest.approx(0.5, abs=0.01) and too_much.reason


@pytest.mark.parametrize("name", FIRST)
def test_what_serves_all_ratios_stands_first(name):
    with pytest.raises(ValueError, match=f"^{name}: it stands first in a recipe"):
        recipes.make_all([{"head_pruning": {"ratio": 0.1}}, name])
    assert recipes.make_all([name, {"low_rank": {"ratio": 0.1}}])


@pytest.mark.parametrize("name", [n for n in catalogue.names() if n not in ("identity", *FIRST)])
def test_nothing_follows_rounding(name):
    for last in ("int8", "half_precision", "intx"):
        solution = recipes.solve([last, name], {"model_type": "hubert"}, 0.5)
        assert f"{name}: the weights before it are" in solution.reason


def test_nothing_follows_zeros():
    solution = recipes.solve(
        [{"weight_pruning": {"ratio": 0.3}}, "low_rank"], {"model_type": "hubert"}, 0.5
    )
    assert "low_rank: it would undo the zeros" in solution.reason


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["head_prunning"], "did you mean 'head_pruning'"),
        ([{"low_rank": {"part": "ffn"}}], "did you mean 'parts'"),
        (
            [{"low_rank": {"parts": "all"}}],
            "parts: 'all' must be one of both, attention, ffn",
        ),
        ([{"distillation": {"steps": 1.5}}], "steps: 1.5 must be a whole number, at least 0"),
        ([{"distillation": {"layers": 0}}], "layers: 0 must be a whole number, at least 1"),
        ([{"head_pruning": {"ratio": 1.0}}], "ratio: 1.0 must be a number, at least 0 and below 1"),
        ([{"head_pruning": {}, "low_rank": {}}], "one method"),
        (["head_pruning", "low_rank"], "all but one of these need a ratio"),
        ([], "at least one method"),
    ],
)
def test_mistakes_in_a_recipe_are_named(steps, message):
    with pytest.raises(ValueError, match=message):
        recipes.make_all(steps)


def test_what_a_method_does_not_ask_for_it_is_not_given():
    for given in (Context(1).train, Context(1).batches, Context(1).tune):
        with pytest.raises(RuntimeError, match="`needs`"):
            given()
