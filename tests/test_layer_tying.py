"""Layers that share their weights: stored and counted once, applied each time, taught twice."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from helpers import KINDS
from helpers.backbones import backbone
from helpers.compressing import batches, compress
from speech_pareto.compression import recipes
from speech_pareto.compression.methods.layer_tying import LayerTying
from speech_pareto.models import architecture, operations, surgery
from speech_pareto.models import backbone as model
from speech_pareto.models.hidden_states import real_frames, states
from speech_pareto.profiling import cost

PLACES = [0, 0, 1, 1, 1]


def tied(kind, **settings):
    """Return a backbone of two blocks in five places, and the same with weights of its own each."""
    made = backbone(kind, layers=2, **settings)
    loose = copy.deepcopy(made)
    loose.encoder.layers = nn.ModuleList(copy.deepcopy(made.encoder.layers[i]) for i in PLACES)
    surgery.keep_layers(made, PLACES)
    return made, loose


@pytest.mark.parametrize("kind", [*KINDS, architecture.DATA2VEC])
def test_a_shared_layer_is_stored_once_and_applied_each_time(kind, tmp_path):
    made, loose = tied(kind)
    audio = batches(1, 0.5)[0]
    before = states(made, audio)
    for ours, theirs in zip(before, states(loose, audio), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    model.save(made, tmp_path / "tied")
    stored = load_file(tmp_path / "tied" / "model.safetensors")
    assert sum(x.numel() for x in stored.values()) == sum(p.numel() for p in made.parameters())
    again = model.load(tmp_path / "tied")
    layers = again.encoder.layers
    assert [layers[i] is layers[j] for i, j in ((0, 1), (1, 2), (2, 4))] == [True, False, True]
    assert torch.equal(again(**audio).last_hidden_state, before[-1])
    config = model.describe(again)
    assert config == model.describe(made)
    assert [x.shared for x in architecture.layers_of(config)] == [None, 0, None, 2, 2]
    assert architecture.count(config)["total"] == sum(p.numel() for p in made.parameters())
    assert operations.macs(config, 1.0)["total"] == cost.macs(again, cost.noise(1.0))


def test_a_shared_layer_has_the_gradients_of_all_its_places():
    made, loose = tied("hubert")
    audio = batches(1, 0.5)[0]
    for one in (made, loose):
        one(**audio).last_hidden_state.square().sum().backward()
    for block, places in ((0, (0, 1)), (2, (2, 3, 4))):
        ours = made.encoder.layers[block].feed_forward.output_dense.weight.grad
        parts = [loose.encoder.layers[i].feed_forward.output_dense.weight.grad for i in places]
        assert torch.allclose(ours, sum(parts), rtol=1e-3, atol=1e-5)


def test_the_loss_is_the_formula():
    teacher = backbone("hubert", layers=5)
    made, loose = tied("hubert")
    seed = copy.deepcopy(made)
    surgery.keep_layers(seed, [0, 2])
    audio = batches(1, 0.5)[0]
    real = real_frames(teacher, audio)

    def distance(ours, theirs):
        a, b = (x.detach()[real].double().numpy() for x in (ours, theirs))
        cosine = (a * b).sum(1) / ((a * a).sum(1) * (b * b).sum(1)) ** 0.5
        return (abs(a - b).mean(1) + torch.tensor(cosine).neg().exp().add(1).log().numpy()).mean()

    deep, theirs = states(loose, audio), states(teacher, audio)
    expected = sum(distance(deep[i], theirs[i]) for i in range(1, 6)) / 5
    expected += 0.3 * distance(states(seed, audio)[-1], deep[-1])
    method = LayerTying(self_distillation=0.3)
    assert method.loss(made, teacher, audio).item() == pytest.approx(expected, rel=1e-5)
    assert len(made.encoder.layers) == 5  # the seed's pass leaves no trace


def test_blocks_follow_each_other_and_rows_make_up_the_rest():
    config = {"model_type": "hubert"}
    solution = recipes.solve(["layer_tying"], config, 0.5)
    knobs = solution.sizings[0].knobs
    assert knobs["blocks"] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert solution.ratio == pytest.approx(0.5, abs=1e-4)
    macs = [operations.macs(x, 10)["total"] for x in (config, solution.config)]
    assert 0.9 < macs[1] / macs[0] < 1  # as deep as the teacher
    teacher = backbone("wavlm")
    student, _ = compress([{"layer_tying": {"layers": 1, "steps": 0}}], teacher, 0.45)
    assert len(student.encoder.layers) == 3 and len(set(student.encoder.layers)) == 1


@pytest.mark.parametrize("name", ["int8", "low_rank", "weight_pruning", "head_pruning"])
def test_nothing_follows_shared_weights(name):
    steps = [{"layer_tying": {"ratio": 0.5}}, name]
    assert "share their weights" in recipes.solve(steps, {"model_type": "hubert"}, 0.6).reason


@pytest.mark.parametrize("layers", [[{"shared": 0}, {}], [{}, {"shared": 1}], [{}, {"shared": 2}]])
def test_a_layer_shares_with_an_earlier_one_alone(layers):
    config = {"model_type": "hubert", "num_hidden_layers": 2, "compression": {"layers": layers}}
    with pytest.raises(ValueError, match="cannot share"):
        architecture.layers_of(config)
