"""The supernet that learns in the sandwich: loss and slices from the formula, its students."""

import copy
import math

import pytest
import torch

from helpers import KINDS
from helpers.backbones import backbone
from helpers.compressing import batches, compress
from helpers.formulas import BASE, FRAMES
from speech_pareto.compression import method, recipes
from speech_pareto.compression.methods.supernet import Supernet, sort_by_gain
from speech_pareto.compression.parts import nested
from speech_pareto.compression.parts.nested import Subnet
from speech_pareto.models import architecture, slices
from speech_pareto.models import backbone as model

STEP = Supernet(steps=2, drawn=1, cosine=0.5, batch_seconds=0.4)
NARROW = Subnet(32, [0, 2, 3], [4, 2, 3], [40, 53, 80])  # of teachers 48 wide, 160 rows


def learner(made):
    """Return a supernet with the projections that it is trained with, no two of them alike."""
    student = STEP.begin(made)
    generator = torch.Generator().manual_seed(3)
    student.projections = torch.nn.ModuleList(torch.nn.Linear(48, 48) for _ in range(4))
    for parameter in student.projections.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 7
    return student.train()


def sliced(made, subnet):
    """Return the subnet as a model in float64, by lists of places and plain indexing."""
    width, groups, head = subnet.width, 2, 8
    channels = [g * 24 + i for g in range(groups) for i in range(width // groups)]
    own = {name: x.detach().double() for name, x in made.state_dict().items()}
    position = "encoder.pos_conv_embed.conv.parametrizations.weight.original"
    kernel = made.encoder.pos_conv_embed.conv.weight.detach().double()  # normalised
    student = model.build(subnet.shape(model.describe(made))).to(torch.float64)
    found = {}
    for name in student.state_dict():
        parts = name.split(".")
        if parts[:2] != ["encoder", "layers"]:
            whole = own[name]
            if name == f"{position}1":
                whole = kernel[channels, : width // groups]
            elif name == f"{position}0":
                whole = kernel[channels, : width // groups].norm(dim=(0, 1), keepdim=True)
            elif whole.shape[0] == 48 and not name.startswith("feature_extractor"):
                whole = whole[channels]
            found[name] = whole
            continue
        place = int(parts[2])
        parts[2] = str(subnet.layers[place])
        whole, inner = own[".".join(parts)], range(head * subnet.heads[place])
        rows = range(subnet.ffn[place])
        places = {"q_proj": (inner, channels), "out_proj": (channels, inner)}
        places["k_proj"] = places["v_proj"] = places["q_proj"]
        places |= {"intermediate_dense": (rows, channels), "output_dense": (channels, rows)}
        first, second = places.get(parts[-2], (channels, None))
        whole = whole[list(first)]
        found[name] = whole if whole.dim() == 1 else whole[:, list(second)]
    student.load_state_dict(found, assign=True)
    return student, channels


def states(made, batch):
    waves = batch["input_values"].double()
    out = made.eval()(waves, attention_mask=batch["attention_mask"], output_hidden_states=True)
    return [*out.hidden_states[:-1], out.last_hidden_state]


def distance(pairs):
    """Return the loss of states (2, T, D) beside targets, over the real frames."""
    total = 0.0
    for ours, theirs in pairs:
        for b in range(2):
            for t in range(FRAMES[b]):
                x, y = ours[b, t], theirs[b, t]
                cosine = (x @ y / x.norm() / y.norm()).item()
                error = (x - y).abs().mean().item() + 0.5 * math.log(1 + math.exp(-cosine))
                total += error / sum(FRAMES) / len(pairs)
    return total


@pytest.mark.parametrize("targets", ["whole", "teacher"])
def test_loss_and_slices_are_the_formula(targets, batch, monkeypatch):
    made = backbone("hubert", layers=4)
    student = learner(made)
    with torch.no_grad():
        for parameter in student.encoder.layers.parameters():
            parameter.mul_(0.9)  # the whole is no longer the teacher
    least = Subnet(24, [0, 2], [2, 2], [20, 20])  # of four layers the last and the second go first
    monkeypatch.setattr(nested.Space, "draw", lambda space: NARROW)
    with torch.no_grad():
        step = Supernet(steps=2, drawn=1, cosine=0.5, targets=targets)
        loss = step.loss(student, made, batch).item()
    (space,) = step.spaces(model.describe(made)).values()
    assert space.subnet(min) == least
    theirs = states(copy.deepcopy(made).double(), batch)
    whole = copy.deepcopy(student)
    del whole.projections
    whole = states(whole.double(), batch)
    expected = distance(list(zip(whole[1:], theirs[1:], strict=True)))
    goal = whole if targets == "whole" else theirs
    for subnet, places in ((least, [2, 4]), (NARROW, [2, 3, 4])):
        part, channels = sliced(student, subnet)
        pairs = []
        for ours, place in zip(states(part, batch)[1:], places, strict=True):
            head = student.projections[place - 1]
            mapped = ours @ head.weight.detach().double()[:, channels].T
            pairs.append((mapped + head.bias.detach().double(), goal[place]))
        expected += distance(pairs)
    assert loss == pytest.approx(expected / 3, rel=1e-5)


def test_in_place_targets_get_no_gradient_and_the_whole_learns_from_the_teacher(batch):
    made = backbone("hubert", layers=4)
    gradients = {}
    for targets in ("whole", "teacher"):
        student = learner(made)
        Supernet(steps=2, drawn=0, targets=targets).loss(student, made, batch).backward()
        gradients[targets] = [p.grad for p in student.encoder.layers.parameters()]
    # The whole still is the teacher, so both are the same targets; a way back would differ.
    for ours, theirs in zip(*gradients.values(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert [p.weight.grad is not None for p in student.projections] == [False, True, False, True]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "wavlm"])
def test_sorting_changes_nothing_and_puts_first_what_gives_most(kind, batch):
    made = backbone(kind)
    student, audio = STEP.begin(made), batches(2, 0.4)
    sort_by_gain(student, audio)
    ours, theirs = (x(**batch).last_hidden_state for x in (student, made))
    assert torch.allclose(ours, theirs, atol=1e-5)
    layer, seen = student.encoder.layers[1], []
    hooks = [
        module.register_forward_pre_hook(lambda m, x: seen.append(x[0]))
        for module in (layer.attention.out_proj, layer.feed_forward.output_dense)
    ]
    given = [0.0, 0.0]
    for one in audio:
        real = student._get_feature_vector_attention_mask(
            (one["input_values"].shape[1] - 80) // 80 + 1, one["attention_mask"]
        )
        seen.clear()
        student(**one)
        given = [a + x[real].double().square().sum(0) for a, x in zip(given, seen, strict=True)]
    for hook in hooks:
        hook.remove()
    weights = layer.attention.out_proj.weight, layer.feed_forward.output_dense.weight
    scores = [w.detach().double().square().sum(0) * x for w, x in zip(weights, given, strict=True)]
    heads = scores[0].reshape(6, 8).sum(1)
    for score in (heads, scores[1]):
        assert score.tolist() == sorted(score.tolist(), reverse=True)


def test_a_narrow_student_hands_its_readout_on():
    made = backbone("hubert")
    step = Supernet(steps=0, batch_seconds=0.4)
    supernet = step.grow(copy.deepcopy(made), method.Context(1, made, batches=batches))
    weight, bias = supernet.readout
    assert torch.equal(weight, torch.eye(48)) and not bias.any()  # untrained
    for width in (32, 48):
        subnet = Subnet(width, range(3), [3] * 3, [80] * 3)
        config = subnet.shape(model.describe(made))
        student = slices.cut(supernet, config, subnet.layers, step.slicing(model.describe(made)))
        if width == 48:
            assert not hasattr(student, "readout")  # the teacher's head reads it as it is
            continue
        channels = [*range(16), *range(24, 40)]
        assert torch.equal(student.readout[0], weight[:, channels])


def test_the_position_convolution_of_a_width_reads_what_it_did(batch):
    """Groups keep their members, as they do not where a width is the first channels."""
    made = backbone("hubert")
    subnet = Subnet(32, range(3), [6] * 3, [160] * 3)
    config, slicing = subnet.shape(model.describe(made)), STEP.slicing(model.describe(made))
    student = slices.cut(STEP.begin(made), config, subnet.layers, slicing)
    channels = [*range(16), *range(24, 40)]
    hidden = torch.zeros(1, 20, 48)
    hidden[..., channels] = torch.randn(1, 20, 32)
    whole = made.encoder.pos_conv_embed(hidden)[..., channels]
    assert torch.allclose(student.encoder.pos_conv_embed(hidden[..., channels]), whole, atol=1e-5)


def test_students_of_all_ratios_are_of_one_supernet():
    made, trained = backbone("wav2vec2"), []

    def listen(student, loss, **settings):
        trained.append(student)

    context = method.Context(1, made, listen, batches)
    supernet = STEP.grow(copy.deepcopy(made), context)
    assert len(trained) == 1
    context = method.Context(1, made, listen, batches, supernet=supernet)
    for ratio in (0.2, 0.5, 0.7):
        sizing = STEP.solve(model.describe(made), ratio)
        student = STEP.compress(copy.deepcopy(made), sizing, context)
        assert architecture.ratio(model.describe(made), model.describe(student)) == pytest.approx(
            ratio, abs=0.01
        )
    assert len(trained) == 1


def test_all_ratios_of_base_are_reached_in_a_moment():
    for ratio in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        solution = recipes.solve(["supernet"], BASE, ratio)
        assert solution.reason is None, ratio
        knobs = solution.sizings[0].knobs
        assert knobs["width"] == 768 or ratio > 0.75


def test_what_cannot_be_is_said():
    for wrong, said in (
        ([{"supernet": {"widths": [0.5]}}], "widths must have 1"),
        ([{"supernet": {"rows": [0, 1]}}], r"rows\[0\]: 0 must be a number"),
        ([{"ffn_pruning": {"ratio": 0.2}}, "supernet"], "stands first in a recipe"),
    ):
        with pytest.raises(ValueError, match=said):
            recipes.make_all(wrong)


def test_a_recovery_follows():
    chain = [
        {"supernet": {"steps": 2, "batch_seconds": 0.4}},
        {"distillation": {"steps": 1, "ratio": 0.0}},
    ]
    student, solution = compress(chain, backbone("hubert"), 0.5)
    assert solution.reason is None and solution.sizings[1].knobs["layers"]
    assert student(torch.randn(1, 3000)).last_hidden_state.isfinite().all()
