"""What one-shot methods and distillation decide, once more in float64, from the formulas."""

import copy
import math

import pytest
import torch

from helpers.compressing import compress
from speech_pareto.compression import recipes
from speech_pareto.compression.methods import distillation, head_pruning
from speech_pareto.compression.parts import units
from speech_pareto.models import architecture, backbone, sparsity, surgery


def numpy_layer(layer):
    """Return a layer's weights and biases as float64 arrays."""
    names = (*architecture.ATTENTION, *architecture.FFN)
    return {
        name: tuple(
            x.detach().double().numpy()
            for x in (surgery.matrix(layer, name).weight, surgery.matrix(layer, name).bias)
        )
        for name in names
    }


def test_head_scores_are_the_formula(teacher):
    for layer in teacher.encoder.layers:
        arrays = numpy_layer(layer)
        for head, score in enumerate(units.head_scores(layer).tolist()):
            rows, expected = range(head * 8, head * 8 + 8), 0.0
            for name in ("q_proj", "k_proj", "v_proj"):
                weights, biases = arrays[name]
                expected += sum(abs(weights[row]).sum() + abs(biases[row]) for row in rows)
            assert score == pytest.approx(expected, rel=1e-12)


def test_each_round_takes_the_lowest_head_of_each_layer(teacher):
    scores = [units.head_scores(layer) for layer in teacher.encoder.layers]
    lowest = [
        [i for _, i in sorted(zip(layer.tolist(), range(6), strict=True))] for layer in scores
    ]
    assert head_pruning.lowest_heads(scores, 6) == [order[:2] for order in lowest]
    partial = head_pruning.lowest_heads(scores, 7)
    shares = [layer[order[2]] / layer.sum() for layer, order in zip(scores, lowest, strict=True)]
    assert [len(gone) for gone in partial] == [3 if share == min(shares) else 2 for share in shares]
    assert [len(gone) for gone in head_pruning.lowest_heads(scores, 15)] == [5, 5, 5]


def test_row_scores_are_the_formula(teacher):
    for layer in teacher.encoder.layers:
        (first, biases), (second, _) = (numpy_layer(layer)[name] for name in architecture.FFN)
        expected = [
            abs(first[i]).sum() + abs(biases[i]) + abs(second[:, i]).sum() for i in range(160)
        ]
        scores = units.row_scores(layer)
        assert scores.tolist() == pytest.approx(expected, rel=1e-12)
        best = sorted(range(160), key=lambda i: -expected[i])[:50]
        assert units.best_rows(layer, 50).tolist() == best


def test_magnitude_takes_the_smallest_of_all_layers_together(teacher):
    student, _ = compress(["weight_pruning"], teacher, 0.4)
    values = torch.cat([p.detach().double().flatten() for p in sparsity.prunable(teacher).values()])
    total = sum(p.numel() for p in teacher.parameters())
    threshold = values.abs().sort().values[round(0.4 * total) - 1]
    pruned = torch.cat([p.detach().double().flatten() for p in sparsity.prunable(student).values()])
    assert torch.equal(pruned, values * (values.abs() > threshold))


def test_low_rank_is_the_best_of_its_rank(teacher):
    student, solution = compress(["low_rank"], teacher, 0.3)
    for layer, old, ranks in zip(
        student.encoder.layers,
        teacher.encoder.layers,
        solution.sizings[0].knobs["ranks"],
        strict=True,
    ):
        for name, rank in ranks.items():
            ours = surgery.weight(surgery.matrix(layer, name)).detach().double()
            theirs = surgery.weight(surgery.matrix(old, name)).detach().double()
            left_out = torch.linalg.svdvals(theirs)[rank:]
            error = (ours - theirs).norm()
            assert error.item() == pytest.approx(left_out.norm().item(), rel=1e-4)


def test_distillation_loss_is_the_formula(teacher, audio):
    waves, mask = audio
    definition = recipes.make({"distillation": {"cosine": 0.7}})
    sizing = definition.solve(backbone.describe(teacher), 0.3)
    student = copy.deepcopy(teacher)
    surgery.keep_layers(student, sizing.knobs["layers"])
    batch = {"input_values": waves, "attention_mask": mask}
    loss = definition.loss(student, teacher, batch).item()
    kept = len(sizing.knobs["layers"])
    frames = [(4000 - 10) // 10 + 1, (2600 - 10) // 10 + 1]
    frames = [(n - 8) // 8 + 1 for n in frames]
    ours = student(**batch, output_hidden_states=True).hidden_states
    theirs = teacher(**batch, output_hidden_states=True).hidden_states
    expected = 0.0
    for index in range(1, kept + 1):
        pairs = [
            (
                ours[index][b, t].detach().double().numpy(),
                theirs[index * 3 // kept][b, t].detach().double().numpy(),
            )
            for b in range(2)
            for t in range(frames[b])
        ]
        for a, b in pairs:
            cosine = (a @ b) / math.sqrt((a @ a) * (b @ b))
            expected += (
                (abs(a - b).mean() + 0.7 * math.log1p(math.exp(-cosine))) / len(pairs) / kept
            )
    assert loss == pytest.approx(expected, rel=1e-5)


def test_distillation_pairs_layers_with_the_end_of_their_stretch():
    config = {"model_type": "hubert", "num_hidden_layers": 6}

    def chosen(start, layers):
        step = distillation.Distillation(start=start, layers=layers)
        return step.solve(config, 0.7).knobs["layers"]

    assert chosen("spaced", 2) == [0, 3]
    assert chosen("spaced", 4) == [0, 1, 3, 4]
    assert chosen("first", 2) == [0, 1]


def test_distillation_can_keep_all_layers_and_make_them_thinner(teacher):
    step = {"distillation": {"layers": 3, "steps": 0}}
    student, solution = compress([step], teacher, 0.6)
    knobs = solution.sizings[0].knobs
    assert solution.reason is None and knobs["layers"] == [0, 1, 2]
    assert max(knobs["heads"]) < 6 and max(knobs["rows"]) < 160
    for layer, old in zip(student.encoder.layers, teacher.encoder.layers, strict=True):
        ranking = units.head_scores(old).argsort(descending=True).tolist()
        assert set(layer.attention.heads) == set(ranking[: len(layer.attention.heads)])


@pytest.mark.slow
def test_distillation_lowers_its_loss(teacher, audio):
    batch = {"input_values": audio[0], "attention_mask": audio[1]}
    losses = []
    for steps in (0, 40):
        student, _ = compress([{"distillation": {"steps": steps}}], teacher, 0.4)
        losses.append(distillation.Distillation().loss(student, teacher, batch).item())
    assert losses[1] < 0.95 * losses[0]


def test_random_pruning_follows_its_seed(teacher):
    states = [compress(["random_pruning"], teacher, 0.4, seed)[0].state_dict() for seed in (1, 2)]
    name = "encoder.layers.0.feed_forward.intermediate_dense.weight"
    assert not torch.equal(states[0][name], states[1][name])


def test_ties_are_broken_so_that_the_number_is_hit(teacher):
    equal = copy.deepcopy(teacher)
    for parameter in sparsity.prunable(equal).values():
        torch.nn.init.constant_(parameter, 0.1)
    student, solution = compress(["weight_pruning"], equal, 0.3)
    zeros = sum(int((p == 0).sum()) for p in sparsity.prunable(student).values())
    assert zeros == solution.sizings[0].knobs["zeros"]


def test_rows_go_evenly_so_transformers_still_knows_the_model(teacher):
    student, _ = compress(["ffn_pruning"], teacher, 0.3)
    assert "compression" not in backbone.describe(student)
