"""Gates on shares of a layer's units, drawn by Gumbel-softmax."""

import copy

import numpy as np
import pytest
import torch

from helpers import KINDS
from helpers.backbones import backbone
from helpers.contract import check_contract
from speech_pareto.compression import recipes
from speech_pareto.compression.parts.hard_concrete_gates import Gating
from speech_pareto.compression.parts.ratio_ladder import Ladder
from speech_pareto.models import architecture
from speech_pareto.models import backbone as model


def ordered(layer, kind):
    """Return the units of a layer, strongest first, by their sums of squares in float64."""
    attention, ffn = layer.attention, layer.feed_forward
    inner = [attention.q_proj, attention.k_proj, attention.v_proj], [ffn.intermediate_dense]
    outer = attention.out_proj, ffn.output_dense
    squares = outer[kind].weight.detach().double().numpy() ** 2
    total = squares.sum(0)
    total = total + sum((x.weight.detach().double().numpy() ** 2).sum(1) for x in inner[kind])
    units = 6 if kind == 0 else total.size
    return np.argsort(-total.reshape(units, -1).sum(1), kind="stable")


@pytest.mark.parametrize("kind", [0, 1])
def test_draws_and_chances_follow_the_formula(kind):
    layer = backbone("hubert").encoder.layers[1]
    count = (6, 160)[kind]
    ladder = Ladder(layer, kind, count, 0.02)
    with torch.no_grad():
        ladder.theta.copy_(torch.linspace(-1, 2, 7))
    theta = np.linspace(-1, 2, 7)
    kept = [int(np.ceil(count * share / 7)) for share in range(7, 0, -1)]
    rank = np.argsort(ordered(layer, kind))

    def of(shares):
        return np.array([sum(p for p, n in zip(shares, kept, strict=True) if r < n) for r in rank])

    torch.manual_seed(3)
    drawn = ladder()
    torch.manual_seed(3)
    noise = -torch.empty(7).exponential_().log().double().numpy()
    shares = np.exp(theta + noise) / np.exp(theta + noise).sum()
    assert np.allclose(drawn.detach().numpy(), of(shares), atol=1e-5)
    shares = np.exp(theta) / np.exp(theta).sum()
    assert np.allclose(ladder.open().detach().numpy(), of(shares), atol=1e-5)
    drawn.sum().backward()
    assert ladder.theta.grad.abs().sum() > 0


def test_the_expected_size_is_that_of_the_chances():
    made = backbone("wavlm")
    gating = Gating(copy.deepcopy(made), lambda *own: Ladder(*own, 0.02), 0.02)
    config = model.describe(made)
    layers = architecture.layers_of(config)
    head = architecture.head_parameters(config, layers[0])
    row = architecture.row_parameters(config, layers[0])
    mean = [sum(-(-count * share // 7) for share in range(1, 8)) / 7 for count in (6, 160)]
    gone = len(layers) * (head * (6 - mean[0]) + row * (160 - mean[1]))
    total = sum(p.numel() for p in made.parameters())
    assert gating.sparsity().item() == pytest.approx(gone / total, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_contract_holds_with_a_ladder(kind, audio, tmp_path):
    step = {"dphubert": {"gates": "ladder", "steps": 2, "final_steps": 1}}
    check_contract(step, 0.35, backbone(kind), audio, tmp_path)


def test_what_a_ladder_does_not_choose_is_refused():
    with pytest.raises(ValueError, match="stem"):
        recipes.make({"dphubert": {"gates": "ladder", "stem": True}})
