"""Where units go: damages of parts alone, the program over them, students that differ by layer."""

import copy
import itertools

import numpy as np
import pytest
import torch

from helpers.backbones import backbone
from helpers.brute_force import brackets, fills
from helpers.compressing import batches, compress
from helpers.contract import check_contract
from speech_pareto.compression import allocation, catalogue, sensitivity, targets
from speech_pareto.compression.parts.units import head_scores, without_heads, without_rows
from speech_pareto.models import architecture, operations
from speech_pareto.models import backbone as model
from speech_pareto.models.surgery import shapes_of
from speech_pareto.study import cells
from speech_pareto.study.shares import located, ratio_of

METHODS = ("ffn_pruning", "data_driven_ffn_pruning", "head_pruning", "data_driven_head_pruning")
METHODS += ("channel_pruning", "head_dim_pruning", "heads_and_rows", "low_rank")
# The parameters of a unit, or of whole ranks, at most: so much a budget may not be spent.
UNIT = {"low_rank": 2 * (48 + 160), "head_dim_pruning": 6 * 2 * 49, "heads_and_rows": 97}
UNIT["channel_pruning"] = 32 * 8 + 3 + 50
AUDIO = {"sensitivity_batches": 2, "sensitivity_seconds": 0.4}
TARGETS = {"macs": 0.1}, {"bytes": 0.1}, {"seconds": 0.1, "device": "epyc-1-threads"}
KINDS = ("hubert", "wav2vec2", "wavlm", architecture.DATA2VEC)


def step(name, kind):
    """Return a step of a method with another allocation, on little audio."""
    return {name: {**catalogue.load(name).example, **AUDIO, "allocation": kind}}


@torch.no_grad()
def last(made, batch):
    """Return the last hidden state (frames, width) of all real frames, in float64."""
    states = made.eval()(**batch).last_hidden_state
    frames = states.shape[1], batch["attention_mask"]
    return states[made._get_feature_vector_attention_mask(*frames)].double()


@pytest.mark.parametrize("kind", KINDS)
def test_a_damage_is_that_of_one_part_alone(kind):
    teacher, audio = backbone(kind), batches(2, 0.4)
    changes = [
        sensitivity.in_layer(0, lambda layer: without_heads(layer, range(6))),
        sensitivity.in_layer(2, lambda layer: without_rows(layer, range(40))),
        sensitivity.in_layer(1, lambda layer: without_heads(layer, [1, 4])),
    ]
    states = {name: value.clone() for name, value in teacher.state_dict().items()}
    found = sensitivity.damages(teacher, changes, audio)
    before = torch.cat([last(teacher, batch) for batch in audio])
    for change, damage in zip(changes, found, strict=True):
        changed = copy.deepcopy(teacher)
        change.apply(changed)
        gap = torch.cat([last(changed, batch) for batch in audio]) - before
        spread = (before - before.mean(0)).square().sum()
        assert damage == pytest.approx((gap.square().sum() / spread).item(), rel=1e-3)
        assert damage > 1e-4
    for name, value in teacher.state_dict().items():  # it is as it was
        assert torch.equal(value, states[name])


def test_what_stands_before_a_change_runs_once():
    teacher, runs = backbone("hubert"), []
    for index, layer in enumerate(teacher.encoder.layers):
        layer.register_forward_pre_hook(lambda *_, index=index: runs.append(index))
    change = sensitivity.in_layer(2, lambda layer: without_rows(layer, range(9)))
    inner = []
    teacher.encoder.layers[1].attention.register_forward_pre_hook(lambda *_: inner.append(1))
    sensitivity.damages(teacher, [change, change], batches(3, 0.4))
    assert len(inner) == 3  # once for each batch, whatever is changed above
    teacher(**batches(1, 0.4)[0])
    assert len(inner) == 4


def test_the_divergence_of_posteriors_is_the_formula():
    teacher, audio = backbone("hubert").eval(), batches(2, 0.4)
    head = torch.nn.Linear(48, 5)

    def posteriors(made, batch):
        states = made(**batch).last_hidden_state
        frames = states.shape[1], batch["attention_mask"]
        return head(states[made._get_feature_vector_attention_mask(*frames)]).log_softmax(-1)

    change = sensitivity.in_layer(1, lambda layer: without_rows(layer, range(80)))
    found = sensitivity.damages(teacher, [change], audio, posteriors)[0]
    changed = copy.deepcopy(teacher)
    change.apply(changed)
    p, q = (
        torch.cat([head(last(made, x).float()).softmax(-1) for x in audio]).detach().double()
        for made in (teacher, changed)
    )
    expected = (p * (p / q).log()).sum(-1).mean().item()
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-7) and found > 0


def test_the_program_is_brute_force():
    generator = np.random.default_rng(7)
    damage = [
        dict(zip((2, 4, 6, 8), np.cumsum(generator.random(4) ** 3), strict=True)) for _ in range(3)
    ]
    levels = [{0: 0.0, **own} for own in damage]
    for amount in (0, 2, 6, 12, 16, 24):
        ways = (way for way in itertools.product(*levels) if sum(way) == amount)
        best = min(ways, key=lambda way: sum(own[n] for own, n in zip(levels, way, strict=True)))
        found = allocation.least_damage(damage, lambda gone: -sum(gone), -amount)
        assert found == list(best), amount
    for amount in range(25):  # between the measured numbers, too, it is exact
        found = allocation.least_damage(damage, lambda gone: -sum(gone), -amount)
        assert sum(found) == amount and all(0 <= number <= 8 for number in found)
    assert allocation.steps_to(3, 12) == [1, 2, 3] and len(allocation.steps_to(159, 12)) == 12


def additive(gone):
    """Return what three layers cost without some of 5 heads, of 70 each, and 159 rows, of 3."""
    return 3 * (5 * 70 + 159 * 3) - 70 * sum(gone[:3]) - 3 * sum(gone[3:])


def chained(gone):
    """Return the weights of three convolutions, and of what reads them."""
    first, second, third = 16 - gone[0], 20 - gone[1], 24 - gone[2]
    return 10 * first + 8 * first * second + 3 * second * third + 48 * third


@pytest.mark.parametrize(
    ("cost", "steps", "neighbours"),
    [
        (additive, [(1, 2, 3, 4, 5)] * 3 + [(50, 100, 159)] * 3, ()),
        (chained, [(4, 9, 14), (5, 11, 17), (3, 8, 12, 21)], [(0, 1), (1, 2)]),
    ],
    ids=["heads and rows", "channels"],
)
def test_the_program_is_brute_force_where_units_cost_unlike_amounts(cost, steps, neighbours):
    generator = np.random.default_rng(3)
    damage = [
        dict(zip(own, np.cumsum(generator.random(len(own)) ** 2), strict=True)) for own in steps
    ]
    most, least = cost([0] * len(steps)), cost([own[-1] for own in steps])
    for share in (0.15, 0.4, 0.7, 0.9):
        room = most - share * (most - least)
        found = allocation.least_damage(damage, cost, room, neighbours)
        assert fills(found, brackets(damage, cost, room), cost, room), share


def test_a_student_is_the_best_of_all_by_damages_measured_apart():
    teacher, audio = backbone("wavlm"), batches(2, 0.4)
    before = torch.cat([last(teacher, batch) for batch in audio])

    def damage(index, number):
        changed = copy.deepcopy(teacher)
        layer = changed.encoder.layers[index]
        without_heads(layer, head_scores(layer).argsort()[:number].tolist())
        gap = torch.cat([last(changed, batch) for batch in audio]) - before
        return gap.square().sum().item()

    tables = [[damage(index, number) for number in range(6)] for index in range(3)]
    student, solution = compress([step("head_pruning", "sensitivity")], teacher, 0.1)
    lost = [6 - len(layer.heads) for layer in shapes_of(student)]
    ways = [way for way in itertools.product(range(6), repeat=3) if sum(way) == sum(lost)]
    best = min(ways, key=lambda way: sum(own[n] for own, n in zip(tables, way, strict=True)))
    assert lost == list(best) and sum(lost) == sum(solution.sizings[0].knobs["alike"]) > 3


@pytest.mark.parametrize("kind", ["global", "sensitivity"])
@pytest.mark.parametrize("name", METHODS)
def test_contract(name, kind, teacher, audio, tmp_path):
    ratio = 0.02 if name == "channel_pruning" else 0.15
    check_contract(step(name, kind), ratio, teacher, audio, tmp_path, slack=UNIT.get(name, 0))


@pytest.mark.parametrize("kind", ["global", "sensitivity"])
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: next(iter(target)))
@pytest.mark.parametrize("name", [name for name in METHODS if not name.startswith("data")])
def test_a_target_is_met_in_its_own_terms(name, target, kind):
    """On a model whose parts a shipped table knows."""
    stem = {"conv_dim": [64, 48], "conv_kernel": [40, 19], "conv_stride": [20, 16]}
    made = {"hidden": 48, "layers": 3, "heads": 6, "ffn": 160, **stem}
    torch.manual_seed(5)
    teacher, target = model.new(model.tiny_config(**made)), located(target, {"latency": "latency"})
    before = model.describe(teacher)
    ratio = ratio_of([step(name, kind)], before, target)
    student, solution = compress([step(name, kind)], teacher, ratio, target=target)
    planned, own = (
        targets.removed(before, config, target)
        for config in (solution.sizings[0].config, model.describe(student))
    )
    # What a unit saves is the rest: a head is much of a model with 18.
    assert planned - 1e-9 <= own < planned + (0.05 if name == "head_pruning" else 0.01)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "channel_pruning"])
def test_sizes_are_those_of_uniform_and_layers_differ(name):
    teacher = backbone("hubert")
    torch.nn.init.normal_(teacher.encoder.layers[1].feed_forward.output_dense.weight, std=1e-4)
    torch.nn.init.normal_(teacher.encoder.layers[1].attention.out_proj.weight, std=1e-4)
    students = {
        kind: compress([step(name, kind)], teacher, 0.12)[0] for kind in ("uniform", "sensitivity")
    }
    sizes = {kind: architecture.remaining(model.describe(made)) for kind, made in students.items()}
    assert 0 <= sizes["uniform"] - sizes["sensitivity"] <= UNIT.get(name, 0)
    macs = [operations.macs(model.describe(made), 10.0)["total"] for made in students.values()]
    if name not in UNIT:  # a unit has as many in any layer
        assert macs[0] == macs[1]
    cost = [
        architecture.layer_parameters(model.describe(students["sensitivity"]), x)
        for x in shapes_of(students["sensitivity"])
    ]
    parts = ["attention"] * ("head" in name) + ["ffn"] * ("head" not in name or "rows" in name)
    for part in parts:  # what says nothing gives most
        assert min(cost, key=lambda own, part=part: own[part]) is cost[1]
    assert cells.learns([step(name, "sensitivity")])
