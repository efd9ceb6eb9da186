"""Heads and rows in one budget: their scores, and which of both go."""

import copy

import pytest
import torch

from helpers.backbones import backbone
from helpers.brute_force import brackets, fills
from helpers.compressing import batches, compress
from speech_pareto.compression import allocation, method, recipes, targets
from speech_pareto.compression.methods.heads_and_rows import HeadsAndRows
from speech_pareto.compression.parts import allocated, units
from speech_pareto.models import architecture, operations, surgery
from speech_pareto.models import backbone as model
from speech_pareto.models.hidden_states import real_frames
from speech_pareto.models.surgery import shapes_of

STRIDES = {"conv_kernel": [10, 32], "conv_stride": [10, 32]}  # 50 frames a second
HEAD, ROW = 4 * 48 * 8 + 3 * 8, 2 * 48 + 1  # parameters


def lost(student):
    """Return how many heads, then how many rows, each layer of a student has lost."""
    shapes = shapes_of(student)
    return [6 - len(layer.heads) for layer in shapes] + [160 - layer.ffn for layer in shapes]


@torch.no_grad()
def test_scores_are_what_a_unit_adds_to_its_parts_output():
    teacher, audio = backbone("wavlm").eval(), batches(2, 0.4)
    context = method.Context(1, batches=lambda *_: audio)
    found = HeadsAndRows().scores(teacher, context)
    for name, width, scores in (("out_proj", 8, found[0]), ("output_dense", 1, found[1])):
        for layer, own in zip(teacher.encoder.layers, scores, strict=True):
            module, given = surgery.matrix(layer, name), []
            handle = module.register_forward_pre_hook(lambda _, x, given=given: given.append(x[0]))
            frames = [(teacher(**batch), real_frames(teacher, batch))[1] for batch in audio]
            handle.remove()
            inputs = torch.cat([x[real] for x, real in zip(given, frames, strict=True)]).double()
            for place in (0, 3, len(own) - 1):
                inner = slice(place * width, (place + 1) * width)
                added = inputs[:, inner] @ module.weight[:, inner].double().T
                assert own[place].item() == pytest.approx(added.norm().item(), rel=1e-4)


def test_uniform_takes_the_same_share_of_both_and_the_best_stay():
    teacher = backbone("hubert")
    student, solution = compress([{"heads_and_rows": {"score": "norm"}}], teacher, 0.4)
    assert solution.reason is None
    heads, rows = lost(student)[:3], lost(student)[3:]
    assert max(heads) - min(heads) <= 1 and max(rows) - min(rows) <= 1
    assert sum(heads) / 15 == pytest.approx(sum(rows) / 477, abs=1 / 15)
    for index, (old, new) in enumerate(
        zip(teacher.encoder.layers, student.encoder.layers, strict=True)
    ):
        order = units.head_scores(old).argsort(descending=True)[: 6 - heads[index]]
        assert new.attention.heads == tuple(sorted(order.tolist()))
        best = units.row_scores(old).argsort(descending=True)[: 160 - rows[index]].sort().values
        first = [surgery.matrix(layer, "intermediate_dense").weight for layer in (old, new)]
        assert torch.equal(first[1], first[0][best])


def test_global_takes_the_least_energy_for_a_parameter():
    teacher = backbone("data2vec-audio")
    scores = [units.head_scores(layer) for layer in teacher.encoder.layers]
    scores += [units.row_scores(layer) for layer in teacher.encoder.layers]
    step = {"heads_and_rows": {"score": "norm", "allocation": "global"}}
    student, solution = compress([step], teacher, 0.3)
    ranked = []
    for part, own in enumerate(scores):
        size = HEAD if part < 3 else ROW
        energies = (own.square() / own.square().sum() / size).sort().values[:-1]
        ranked += [(energy, part, size) for energy in energies.tolist()]
    goal = solution.sizings[0].config
    goal = architecture.remaining(model.describe(teacher)) - architecture.remaining(goal)
    saved, expected = 0, [0] * 6
    for _, part, size in sorted(ranked):
        if saved >= goal:
            break
        saved, expected[part] = saved + size, expected[part] + 1
    found = lost(student)
    assert found[:3] == expected[:3] and all(found)
    back = sum(expected[3:]) - sum(found[3:])  # what the last head is too much
    assert 0 <= back * ROW <= saved - goal < (back + 1) * ROW


@pytest.mark.parametrize(("cost_of", "ratio"), [("parameters", 0.3), ("macs", 0.4)])
def test_one_program_is_brute_force(cost_of, ratio, monkeypatch):
    monkeypatch.setattr(allocated, "LEVELS", 4)
    teacher, audio = backbone("hubert", **STRIDES), batches(2, 0.4)
    config = model.describe(teacher)

    @torch.no_grad()
    def state(made):
        frames = [made.eval()(**x).last_hidden_state[real_frames(made, x)] for x in audio]
        return torch.cat(frames).double()

    def damage(part, number):
        changed = copy.deepcopy(teacher)
        layer = changed.encoder.layers[part % 3]
        score, cut = (
            (units.head_scores, units.without_heads)
            if part < 3
            else (units.row_scores, units.without_rows)
        )
        cut(layer, score(layer).argsort()[:number].tolist())
        return (state(changed) - state(teacher)).square().sum().item()

    damages = [
        {number: damage(part, number) for number in allocation.steps_to(most, 4)}
        for part, most in enumerate([5] * 3 + [159] * 3)
    ]
    heard = {"sensitivity_batches": 2, "sensitivity_seconds": 0.4}
    step = {"heads_and_rows": {"score": "norm", "allocation": "sensitivity", **heard}}
    head, row, target = HEAD, ROW, None
    if cost_of == "macs":
        frames = operations.macs(config, targets.SECONDS)["frames"]
        head, row = 4 * 48 * 8 * frames + 2 * 8 * frames**2, 2 * 48 * frames
        planned = recipes.solve([step], config, ratio).config
        target = {"macs": targets.removed(config, planned, {"macs": 0})}

    def cost(gone):
        return -head * sum(gone[:3]) - row * sum(gone[3:])

    student, solution = compress([step], teacher, ratio, target=target)
    room = cost(solution.sizings[0].knobs["alike"])
    assert solution.reason is None
    assert fills(lost(student), brackets(damages, cost, room), cost, room)
    assert room - cost(lost(student)) < row


def test_rows_make_up_for_heads_that_are_too_large():
    """Heads that cost the model nothing go first, as many as whole ones fit."""
    damage = [{n: 1e-6 * n for n in range(1, 6)}] * 3 + [{n: float(n) for n in (53, 106, 159)}] * 3

    def cost(gone):
        return 10_000 - 700 * sum(gone[:3]) - 3 * sum(gone[3:])

    for saved in (700, 800, 3000, 5001):
        gone = allocation.least_damage(damage, cost, 10_000 - saved)
        assert 0 <= 10_000 - saved - cost(gone) < 3 and sum(gone[:3]) == saved // 700
    scores = [torch.tensor([1e-3] * 5 + [1.0])] * 3 + [torch.ones(160)] * 3
    for saved in (700, 800, 3000, 5001):
        gone = allocation.lowest_of_all(scores, [5] * 3 + [159] * 3, cost, 10_000 - saved)
        assert 0 <= 10_000 - saved - cost(gone) < 3 and sum(gone[:3]) == saved // 700
