"""Iterative pruning: the walk, its events, when it goes on, and the published schedules."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from helpers.backbones import backbone
from helpers.checkout import ROOT
from helpers.compressing import RECIPES, batches, train
from helpers.contract import check_contract
from helpers.formulas import BASE
from speech_pareto.compression import method, recipes, runner
from speech_pareto.compression.methods.data_driven_head_pruning import DataDrivenHeadPruning
from speech_pareto.compression.methods.distillation import Distillation
from speech_pareto.compression.parts import convergence
from speech_pareto.compression.parts.units import head_scores, row_scores
from speech_pareto.models import architecture, sparsity
from speech_pareto.models import backbone as model
from speech_pareto.models.model_folder import read_config

UNITS = {"units": 4, "unit_seconds": 1.0}
WALK = {"steps": 1, "schedule": [0.05, 0.1, 0.15], **UNITS}


@pytest.fixture(scope="module")
def teacher():
    return backbone("hubert")


def context(teacher, train=train):
    return method.Context(1, teacher, train, batches)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("hubert", {"method": "head_pruning"}),
        ("wavlm", {"method": "data_driven_head_pruning", "batches": 2, "batch_seconds": 0.4}),
        ("wav2vec2", {"method": "ffn_pruning", "objective": "layer_distillation"}),
        ("hubert", {"method": "data_driven_ffn_pruning", "batches": 2, "batch_seconds": 0.4}),
    ],
    ids=lambda value: value if isinstance(value, str) else value["method"],
)
def test_the_contract_holds_for_heads_and_rows(kind, settings, audio, tmp_path):
    step = {"iterative_pruning": {**WALK, **settings}}
    check_contract(step, 0.2, backbone(kind), audio, tmp_path)


def test_each_event_takes_the_lowest_head_of_every_layer(teacher):
    sizes, ranks = [], []
    lowest = [head_scores(layer).argmin().item() for layer in teacher.encoder.layers]

    def watch(student, loss, **settings):
        ranks.append([layer.attention.heads for layer in student.encoder.layers])
        sizes.append(sum(p.numel() for p in student.parameters()))
        train(student, loss, **settings)

    config = model.describe(teacher)
    total = architecture.remaining(config)
    head = architecture.head_parameters(config, architecture.layers_of(config)[0])
    share = 3 * head / total
    settings = {"method": "head_pruning", "schedule": [share, 2 * share], "steps": 1}
    step = recipes.make({"iterative_pruning": {**settings, "objective": "layer_distillation"}})
    sizing = step.solve(config, 3 * share)
    assert sizing.knobs["left"] == [total - 3 * head * k for k in (1, 2, 3)]
    student = step.compress(copy.deepcopy(teacher), sizing, context(teacher, watch))
    assert sizes == sizing.knobs["left"]
    assert [len(heads) for event in ranks for heads in event] == [5] * 3 + [4] * 3 + [3] * 3
    assert all(low not in heads for low, heads in zip(lowest, ranks[0], strict=True))
    assert architecture.remaining(model.describe(student)) == sizes[-1]


def test_scores_are_computed_anew_at_each_event(teacher):
    def boost(student, loss, **settings):
        layer = student.encoder.layers[0]  # training makes what was lowest the highest
        low = row_scores(layer).argmin()
        layer.feed_forward.intermediate_dense.weight.data[low] = 9.0

    settings = {"method": "ffn_pruning", "schedule": [0.1], "objective": "layer_distillation"}
    step = recipes.make({"iterative_pruning": settings})
    sizing = step.solve(model.describe(teacher), 0.2)
    student = step.compress(copy.deepcopy(teacher), sizing, context(teacher, boost))
    weights = student.encoder.layers[0].feed_forward.intermediate_dense.weight
    assert (weights == 9.0).all(1).sum() == 2  # both boosted rows are there, one shot keeps none


def test_zeros_never_come_back_from_one_event_to_the_next(teacher):
    zeros = []

    def watch(student, loss, **settings):
        train(student, loss, **settings)
        zeros.append({k: p == 0 for k, p in sparsity.prunable(student.backbone).items()})

    step = recipes.make({"iterative_pruning": {**WALK, "steps": 3}})
    sizing = step.solve(model.describe(teacher), 0.3)
    step.compress(copy.deepcopy(teacher), sizing, context(teacher, watch))
    total = architecture.remaining(model.describe(teacher))
    shares = [sum(int(z.sum()) for z in event.values()) / total for event in zeros]
    assert shares == pytest.approx([0.05, 0.1, 0.15, 0.3], abs=1e-4)
    for before, after in zip(zeros, zeros[1:], strict=False):
        assert all((after[key] | ~before[key]).all() for key in before)


def test_a_ratio_inside_the_schedule_ends_its_walk():
    step, config = recipes.make("iterative_pruning"), {"model_type": "hubert"}
    total = architecture.remaining(config)
    left = step.solve(config, 0.33).knobs["left"]
    shares = [1 - size / total for size in left]
    assert shares == pytest.approx([0.1, 0.2, 0.3, 0.33], abs=1e-6)
    assert len(step.solve(config, 0.3).knobs["left"]) == 3


@pytest.mark.parametrize("schedule", [[0.2, 0.1], [0.0, 0.1], [0.5, 1.0], ["a"], 0.3])
def test_a_schedule_must_rise(schedule):
    with pytest.raises(ValueError, match="iterative_pruning: schedule"):
        recipes.make({"iterative_pruning": {"schedule": schedule}})


def test_data_driven_scores_use_the_head_that_learns(teacher, monkeypatch):
    heads, gradients = [], DataDrivenHeadPruning.gradients

    def watch(self, predictor, *arguments):
        heads.append(predictor.head.weight.detach().clone())
        return gradients(self, predictor, *arguments)

    monkeypatch.setattr(DataDrivenHeadPruning, "gradients", watch)
    settings = {**WALK, "method": "data_driven_head_pruning", "batches": 2, "batch_seconds": 0.4}
    step = recipes.make({"iterative_pruning": settings})
    student = copy.deepcopy(teacher)
    step.compress(student, step.solve(model.describe(teacher), 0.15), context(teacher))
    assert len(heads) == 3 and not torch.equal(heads[0], heads[1])
    assert sum(len(layer.attention.heads) for layer in student.encoder.layers) < 18


def test_steps_may_change_along_the_walk():
    settings = {"steps": [3, 5], "schedule": [0.1, 0.2, 0.3], "patience": 1}
    step = recipes.make({"iterative_pruning": settings})
    assert [step.steps_after(event) for event in range(4)] == [3, 5, 5, 5]
    assert step.training_steps() == 2 * (3 + 3 * 5)
    for steps in ([], [0], 0, "many", 1.5):
        with pytest.raises(ValueError, match="iterative_pruning: steps"):
            recipes.make({"iterative_pruning": {"steps": steps}})


def smoothed(losses, d):
    """Return the published average after each loss: the mean of three, a pause, then d."""
    level = sum(losses[:3]) / 3
    levels = [None, None, level, level]
    for loss in losses[4:]:
        level = d * level + (1 - d) * loss
        levels.append(level)
    return levels


@pytest.mark.parametrize("slope", [-0.1, -0.004, -0.001, 0.02])
def test_the_gate_is_the_published_formula(slope):
    generator = np.random.default_rng(0)
    losses = (5 + slope * np.arange(80) + 0.01 * generator.normal(size=80)).tolist()
    levels = smoothed(losses, 0.9)
    gate = convergence.Convergence(0.9, 40, 24)
    for step, loss in enumerate(losses, 1):
        gate.follow(torch.tensor(loss, dtype=torch.float64))
        if step >= 3:
            assert gate.now.item() == pytest.approx(levels[step - 1], rel=1e-12)
        if step % 40 == 0:  # theirs: not converged if e_tgt - 0.001 > e
            not_converged = levels[step - 25] - 0.05 > levels[step - 1]
            assert gate.reached(0.05) != not_converged
            assert not_converged == (slope < -0.002)


def test_nothing_has_converged_before_its_time():
    gate = convergence.Convergence(0.9, 4, 2)
    for _ in range(4):  # the mark, step 2, comes before there is an average
        gate.follow(torch.tensor(1.0))
    assert not gate.reached(9.0)


def test_the_gate_waits_and_gives_up_after_its_patience(teacher):
    calls = []

    def falling(until):
        def run(student, loss, steps, follow, **settings):
            calls.append(steps)
            for step in range(steps):
                fallen = min(len(calls) - 1 + step / steps, until)
                follow(-fallen)

        return run

    settings = {"method": "ffn_pruning", "objective": "layer_distillation", "schedule": [0.1]}
    more = {"steps": 20, "patience": 4, "smoothing": 0.5}
    step = recipes.make({"iterative_pruning": {**settings, **more}})
    sizing = step.solve(model.describe(teacher), 0.1)
    for until, expected in ((0, 1), (2, 3), (99, 5)):
        calls.clear()
        step.compress(copy.deepcopy(teacher), sizing, context(teacher, falling(until)))
        assert calls == [20] * expected
    unbound = dataclasses.replace(step, patience=None, first_steps=7)
    calls.clear()
    unbound.compress(copy.deepcopy(teacher), sizing, context(teacher, falling(9)))
    assert calls == [7] + [20] * 9
    assert unbound.training_steps() == 7 + 2 * 20  # plans reckon that no event waits


def test_only_single_weights_keep_moments():
    with pytest.raises(ValueError, match="moments are kept by weight_pruning only"):
        recipes.make({"iterative_pruning": {"method": "head_pruning", "moments": "kept"}})


def test_a_killed_walk_goes_on_with_the_moments_that_it_had(teacher, corpus, tmp_path):
    """Killed within its third training; what was trained before is read from checkpoints."""
    settings = {"schedule": [0.1], "objective": "layer_distillation", "steps": 4, "first_steps": 4}
    step = recipes.make({"iterative_pruning": {**settings, "moments": "kept"}})
    sizing = step.solve(model.describe(teacher), 0.2)

    def walk(state=None, last=99):
        student, calls = copy.deepcopy(teacher), []
        run = runner.trainer([corpus], 1, state, "fp32")

        def train(student, loss, **settings):
            def killed(batch):
                calls.append(1)
                if len(calls) > last:
                    raise KeyboardInterrupt
                return loss(batch)

            run(student, killed, checkpoint_seconds=0.0, **settings)

        return step.compress(student, sizing, method.Context(1, teacher, train)).state_dict()

    whole = walk()
    with pytest.raises(KeyboardInterrupt):
        walk(tmp_path, last=10)
    resumed = walk(tmp_path)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


# The schedules in config/recipes.yaml, on HuBERT Base.


def walked(step, config, ratio):
    """Return the layers after each event of a walk."""
    step = recipes.make(step)
    sizing, shapes = step.solve(config, ratio), []
    for left in sizing.knobs["left"]:
        cut = step.shot().solve(config, 1 - left / architecture.remaining(config))
        config = cut.config
        shapes.append(architecture.layers_of(config))
    return shapes


@pytest.mark.parametrize("recipe", ["lin-heads", "lin-heads-by-data"])
def test_a_head_of_each_layer_goes_at_each_event(recipe):
    shapes = walked(RECIPES[recipe][0], BASE, 0.2753)
    assert [[len(x.heads) for x in layers] for layers in shapes] == [
        [n] * 12 for n in range(11, 0, -1)
    ]


def test_rows_go_by_128():
    shapes = walked(RECIPES["lin-rows"][0], BASE, 0.5003)
    assert [[x.ffn for x in layers] for layers in shapes] == [
        [3072 - 128 * k] * 12 for k in range(1, 21)
    ]


def test_weights_go_by_shares_of_the_matrices():
    step, total = recipes.make(RECIPES["lin-weights"][0]), architecture.remaining(BASE)
    left = step.solve(BASE, 0.8558).knobs["left"]
    published = [0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.675, *np.arange(0.7, 0.905, 0.01), 0.91]
    published += [0.915, 0.92, 0.925, 0.93, 0.935, 0.94, 0.945, 0.95]
    shares = [(total - size) / 85_017_600 for size in left]
    assert shares == pytest.approx(published, abs=1e-4)
    assert step.steps_after(0) * step.lookback == 15_000


def test_the_combination_distils_then_takes_heads_then_rows():
    solution = recipes.solve(RECIPES["lin-combined"], BASE, 0.7)
    assert solution.reason is None
    layers = architecture.layers_of(solution.config)
    assert [len(x.heads) for x in layers] == [9] * 6
    distilled = recipes.solve(RECIPES["lin-distilled"], BASE, 0.45).config
    assert architecture.layers_of(distilled) == [architecture.Layer(tuple(range(12)), 3072)] * 6
    heads = walked(RECIPES["lin-combined"][1], distilled, 0.0683)
    assert [len(layers[0].heads) for layers in heads] == [11, 10, 9]
    config = architecture.with_layers(distilled, heads[-1])
    rows = walked(RECIPES["lin-combined"][2], config, 0.5621)
    assert [layers[0].ffn for layers in rows] == [3072 - 128 * k for k in range(1, 24)]


@pytest.mark.parametrize(
    ("recipe", "ratios"),
    {
        "iterative-weights": (0.3, 0.8),
        "iterative-heads": (0.05, 0.24),
        "iterative-rows": (0.1, 0.58),
        "combined": (0.35, 0.7),
    }.items(),
)
def test_short_walks_suit_the_tiny_teacher(recipe, ratios):
    tiny = read_config(ROOT / "resources" / "teachers" / "tiny")
    for ratio in ratios:
        assert recipes.solve(RECIPES[recipe], tiny, ratio).reason is None


@pytest.mark.parametrize(
    ("recipe", "ratios"),
    {"lin-combined": (0.5, 0.75), "lin-distilled": (0.45,), "dphubert": (0.75,)}.items(),
)
def test_published_chains_reach_their_ratios(recipe, ratios):
    for ratio in ratios:
        assert recipes.solve(RECIPES[recipe], BASE, ratio).reason is None


def test_bf16_ends_with_the_training(teacher_folder, corpus):
    """Each event trains the same student: what one run wraps around it must come off again."""
    student, teacher = model.load(teacher_folder), model.load(teacher_folder)
    before, loss = student.forward, Distillation().loss
    run = runner.trainer([corpus], 1, None, "bf16")
    run(student, lambda batch: loss(student, teacher, batch), steps=1, learning_rate=1e-3)
    assert student.forward.__func__ is before.__func__
    assert student(torch.randn(1, 4000)).last_hidden_state.dtype == torch.float32
