"""Heads narrower than the teacher's: which dimensions go, and what the heads then compute."""

import copy

import pytest
import torch

from helpers import KINDS
from helpers.backbones import backbone
from helpers.compressing import batches, compress
from speech_pareto.compression.methods import head_dim_pruning
from speech_pareto.models import architecture, surgery
from speech_pareto.models import backbone as model
from speech_pareto.models.hidden_states import real_frames
from speech_pareto.models.layers.reused_attention import reuse_map


def test_scores_of_dimensions_are_the_formula():
    teacher = backbone("hubert")
    layer, sizes = teacher.encoder.layers[1], {}
    audio, seen = batches(2, 0.4), []
    layer.attention.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        for batch in audio:
            teacher(**batch)
    frames = torch.cat([x[real_frames(teacher, b)] for x, b in zip(seen, audio, strict=True)])
    frames = frames.double().numpy()  # (frames, 48)
    for name in architecture.ATTENTION:
        module = surgery.matrix(layer, name)
        weights, biases = (x.detach().double().numpy() for x in (module.weight, module.bias))
        own = [
            (sum(w**2 for w in row) + b**2) ** 0.5 for row, b in zip(weights, biases, strict=True)
        ]
        given = ((frames @ weights.T + biases) ** 2).sum(0) ** 0.5
        if name == "out_proj":
            own = given = (weights**2).sum(0) ** 0.5
        sizes[name] = own, given
    context = type("Context", (), {"batches": staticmethod(lambda *_: audio)})
    for place, score in enumerate(("norm", "activations")):
        method = head_dim_pruning.HeadDimPruning(score=score)
        found = method.scores(teacher, context)[1]
        for scores, (one, other) in zip(found, surgery.DIMENSIONS, strict=True):
            expected = [a * b for a, b in zip(sizes[one][place], sizes[other][place], strict=True)]
            assert scores.shape == (6, 8)
            assert scores.flatten().tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", [*KINDS, architecture.DATA2VEC])
@pytest.mark.parametrize("reuse", [False, True])
def test_dimensions_that_say_nothing_can_go(kind, reuse, tmp_path):
    made = backbone(kind)
    silent, heads = torch.tensor([1, 4, 6]), torch.arange(6)[:, None] * 8
    kept = torch.tensor([x for x in range(8) if x not in silent]).expand(6, -1)
    if reuse:
        reuse_map(made, made.encoder.layers[2], "map")
    with torch.no_grad():
        for layer in made.encoder.layers[1:]:
            for name in [n for n in surgery.matrix_names(layer) if n in ("q_proj", "out_proj")]:
                module, index = surgery.matrix(layer, name), (heads + silent).flatten()
                if name == "q_proj":
                    module.weight[index], module.bias[index] = 0, 0
                else:
                    module.weight[:, index] = 0
    audio = batches(1, 0.5)[0]
    narrow = copy.deepcopy(made)
    surgery.keep_dimensions(narrow.encoder.layers[1], surgery.DIMENSIONS[0], kept)
    for layer in narrow.encoder.layers[1:]:
        surgery.keep_dimensions(layer, surgery.DIMENSIONS[1], kept)
    before = made(**audio).last_hidden_state
    assert torch.allclose(narrow(**audio).last_hidden_state, before, atol=1e-5)
    shapes = [(layer.qk, layer.vo) for layer in architecture.layers_of(model.describe(narrow))]
    assert shapes == [(None, None), (5, 5), (None, 5)]
    surgery.keep_heads(narrow.encoder.layers[1], (0, 1, 2, 3, 4, 5))
    if not reuse:
        surgery.keep_heads(narrow.encoder.layers[1], (1, 5))
        assert surgery.dimensions(narrow.encoder.layers[1]) == (5, 5)
    model.save(narrow, tmp_path / "narrow")
    again = model.load(tmp_path / "narrow")
    assert torch.equal(again(**audio).last_hidden_state, narrow(**audio).last_hidden_state)


def test_every_head_keeps_its_highest_and_all_layers_lose_alike():
    teacher = backbone("wavlm")
    step = {"head_dim_pruning": {"score": "norm"}}
    student, solution = compress([step], teacher, 0.05)
    flat = [8 - number for number in solution.sizings[0].knobs["alike"]]
    assert max(flat) - min(flat) <= 1 and min(flat) < 8
    before, after = teacher.encoder.layers[0], student.encoder.layers[0]
    found = head_dim_pruning.HeadDimPruning(score="norm").scores(teacher, None)[0]
    for scores, names, number in zip(found, surgery.DIMENSIONS, flat[:2], strict=True):
        for head in range(6):
            order = sorted(range(8), key=lambda i: -scores[head, i].item())[:number]
            rows = [8 * head + i for i in sorted(order)]
            old = surgery.matrix(before, names[0]).weight[rows]
            new = surgery.matrix(after, names[0]).weight[head * number : (head + 1) * number]
            assert torch.equal(old, new)
