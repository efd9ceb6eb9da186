"""Methods that listen before they cut: their scores and masks in float64, from the formulas."""

import copy

import pytest
import torch

from helpers.backbones import backbone
from helpers.compressing import batches, compress
from speech_pareto.compression import allocation, calibration, method, recipes
from speech_pareto.compression.methods import semi_structured, wanda
from speech_pareto.models import architecture, hidden_states, surgery
from speech_pareto.models import backbone as model
from speech_pareto.training import hubert_units
from speech_pareto.training.hubert_units import UnitPredictor

STEP = {"batches": 3, "batch_seconds": 0.4}
UNITS = {"units": 4, "unit_seconds": 1.0, **STEP}


def layer_inputs(teacher, number, batch):
    """Return what reaches layer `number`'s linear layers, (real frames, inputs), in float64.

    The context before the output matrix is worked out backwards from what the attention gives, so
    that WavLM is left to its own way of computing it.
    """
    layer, seen = teacher.encoder.layers[number], {}
    hooks = [layer.attention.register_forward_hook(lambda m, x, y: seen.update(out=y[0]))]
    for name in architecture.FFN:
        module = surgery.matrix(layer, name)
        hooks.append(
            module.register_forward_pre_hook(lambda m, x, name=name: seen.update({name: x[0]}))
        )
    seen["in"] = teacher(**batch, output_hidden_states=True).hidden_states[number]
    for hook in hooks:
        hook.remove()
    frames = seen["in"].shape[1]
    real = teacher._get_feature_vector_attention_mask(frames, batch["attention_mask"])
    seen = {name: states[real].double() for name, states in seen.items()}
    module = surgery.matrix(layer, "out_proj")
    context = torch.linalg.solve(module.weight.double(), (seen["out"] - module.bias.double()).T).T
    return dict.fromkeys(architecture.ATTENTION[:3], seen["in"]) | {
        "out_proj": context,
        **{name: seen[name] for name in architecture.FFN},
    }


@torch.no_grad()
def test_norms_are_those_of_real_frames(teacher):
    audio = batches(3, 0.4)
    for number, layer in enumerate(teacher.encoder.layers):
        norms = calibration.input_norms(teacher, surgery.linears(layer), audio)
        assert list(norms) == [*architecture.ATTENTION, *architecture.FFN]
        inputs = [layer_inputs(teacher, number, batch) for batch in audio]
        for name in norms:
            expected = torch.cat([x[name] for x in inputs]).square().sum(0).sqrt()
            assert torch.allclose(norms[name], expected, rtol=1e-3)


@torch.no_grad()
def test_norms_do_not_hear_padding(teacher):
    layer = teacher.encoder.layers[1]
    batch = batches(1, 0.4)[0]
    longer = {key: torch.nn.functional.pad(value, (0, 800)) for key, value in batch.items()}
    norms, same = (
        calibration.input_norms(teacher, surgery.linears(layer), [audio])
        for audio in (batch, longer)
    )
    for name in norms:
        assert torch.allclose(norms[name], same[name], rtol=1e-4)


def test_listening_leaves_the_model_as_it_is(teacher):
    subject = copy.deepcopy(teacher)
    classes = [type(module) for module in subject.modules()]
    calibration.input_norms(subject, surgery.linears(subject.encoder.layers[0]), batches(1, 0.4))
    assert [type(module) for module in subject.modules()] == classes
    linears = surgery.linears(subject.encoder.layers[0]).values()
    assert not any(x._forward_pre_hooks or x._forward_hooks for x in linears)


def test_wanda_zeroes_the_lowest_of_each_row(teacher):
    student, solution = compress([{"wanda": STEP}], teacher, 0.3)
    audio, walked = batches(3, 0.4), copy.deepcopy(teacher)
    zeros, total = solution.sizings[0].knobs["zeros"], 0
    share = zeros / sum(o * i for o, i in architecture.linear_shapes(model.describe(teacher)))
    for number, layer in enumerate(student.encoder.layers):
        # Layer n is scored in a model whose layers before it are pruned and whose others are not.
        dense = surgery.linears(walked.encoder.layers[number])
        norms = calibration.input_norms(walked, dense, audio)
        for name, module in surgery.linears(layer).items():
            old = dense[name].weight.detach().double()
            scores = old.abs() * norms[name]
            gone = module.weight.detach() == 0
            total += int(gone.sum())
            for row, mask, weights, kept in zip(scores, gone, old, module.weight, strict=True):
                assert abs(int(mask.sum()) - share * len(row)) < 2
                lowest = row.sort().indices[: int(mask.sum())]
                assert set(mask.nonzero()[:, 0].tolist()) == set(lowest.tolist())
                assert torch.equal(kept.detach().double()[~mask], weights[~mask])
            dense[name].weight.data.mul_(~gone)
        for name in (*architecture.ATTENTION, *architecture.FFN):
            ours, theirs = (
                surgery.bias(surgery.matrix(m.encoder.layers[number], name))
                for m in (student, teacher)
            )
            assert torch.equal(ours, theirs)
    assert total == zeros


def test_wanda_spreads_zeros_to_the_last(teacher):
    config = model.describe(teacher)
    shapes = architecture.linear_shapes(config)
    for zeros in (0, 1, 12_345, sum(o * i for o, i in shapes)):
        rows = wanda.zeros_of_rows(config, zeros)
        assert sum(map(sum, rows)) == zeros
        for (outputs, inputs), own in zip(shapes, rows, strict=True):
            assert len(own) == outputs and max(own) <= inputs and max(own) - min(own) <= 1


def test_of_equal_scores_the_first_are_the_lowest():
    scores, amounts = torch.tensor([[1.0, 0, 0, 1, 0], [2, 2, 2, 2, 2]]), torch.tensor([2, 4])
    mask = wanda.smallest(scores, amounts)
    assert mask.tolist() == [[False, True, True, False, False], [True, True, True, True, False]]


def test_wanda_listens_to_what_magnitude_does_not_see():
    """The smallest weights stay where the input is loud."""
    scores = torch.tensor([[0.1, 0.2, 0.3, 0.4]]) * torch.tensor([9.0, 1.0, 1.0, 1.0])
    mask = wanda.smallest(scores, torch.tensor([2]))
    assert mask.tolist() == [[False, True, True, False]]


@torch.no_grad()
def test_data_driven_rows_are_those_that_give_most(teacher):
    """A unit's score is the norm of what it adds to the output, over all real frames."""
    step = {"data_driven_ffn_pruning": STEP}
    student, solution = compress([step], teacher, 0.2)
    audio = batches(3, 0.4)
    for number in range(len(student.encoder.layers)):
        old, new = (
            surgery.matrix(m.encoder.layers[number], "output_dense") for m in (teacher, student)
        )
        given = torch.cat([layer_inputs(teacher, number, b)["output_dense"] for b in audio])
        added = given[:, :, None] * old.weight.double().T  # (frames, rows, outputs)
        scores = added.square().sum((0, 2)).sqrt()
        width = len(scores) - solution.sizings[0].knobs["alike"][number]
        best = scores.argsort(descending=True)[:width].sort().values
        assert torch.equal(new.weight, old.weight[:, best]) and width < len(scores)


@pytest.mark.parametrize("score", ["magnitude", "wanda"])
def test_two_of_each_four_inputs_stay(score, teacher):
    settings = {"score": score, **STEP}
    config = model.describe(teacher)
    ratio = recipes.solve(["semi_structured"], config, 0.4).ratio
    student, solution = compress([{"semi_structured": settings}], teacher, ratio)
    assert solution.reason is None
    first = teacher.encoder.layers[0]
    norms = calibration.input_norms(teacher, surgery.linears(first), batches(3, 0.4))
    for number, layer in enumerate(student.encoder.layers):
        old = surgery.linears(teacher.encoder.layers[number])
        for name, module in surgery.linears(layer).items():
            groups = module.weight.detach().unflatten(1, (-1, 4)) != 0
            assert (groups.sum(2) == 2).all()
            if score == "wanda" and number > 0:
                continue  # later layers get the outputs of pruned ones, as for Wanda itself
            scores = old[name].weight.detach().double().abs()
            scores = scores * norms[name] if score == "wanda" else scores
            highest = scores.unflatten(1, (-1, 4)).sort(2).indices[:, :, 2:].sort(2).values
            assert torch.equal(groups.nonzero()[:, 2].view_as(highest), highest)


def test_the_structure_leaves_no_choice_of_ratio():
    base = {"model_type": "hubert"}
    solution = recipes.solve(["semi_structured"], base, 0.2)
    assert solution.reason == "semi_structured can remove 0.450 of the parameters, not 0.2"
    assert solution.sizings[0].knobs["zeros"] == 84_934_656 // 2
    thinner = recipes.solve(["ffn_pruning"], base, 0.3).config  # 2:4 takes 43 % of what it leaves
    share = recipes.solve(["semi_structured"], thinner, 0).ratio
    chain = ["ffn_pruning", {"semi_structured": {"ratio": round(share, 2)}}]
    assert recipes.solve(chain, base, 1 - 0.7 * (1 - share)).reason is None
    assert (
        "not 0.5"
        in recipes.solve([chain[0], {"semi_structured": {"ratio": 0.2}}], base, 0.5).reason
    )
    odd = torch.arange(12.0).view(2, 6) + 1
    assert semi_structured.two_of_four(odd).tolist() == [[True, True] + [False] * 4] * 2


@pytest.mark.slow
def test_head_scores_are_finite_differences(teacher):
    """⟨c, ∂L/∂c⟩ is how fast the loss changes when a head's context at one frame is scaled."""
    definition = recipes.make({"data_driven_head_pruning": UNITS})
    subject = copy.deepcopy(teacher).double()
    audio = [
        {"input_values": x["input_values"].double(), "attention_mask": x["attention_mask"]}
        for x in batches(1, 0.08)
    ]
    labeller, head = hubert_units.fit(copy.deepcopy(subject), audio, 2, 4, 1)
    predictor = hubert_units.UnitPredictor(subject, head.double())
    scores = definition.gradients(predictor, labeller, audio, seed=1)

    def loss_when_scaled(number, head, utterance, frame, factor):
        def scale(module, inputs):
            context = inputs[0].clone()
            context[utterance, frame, head * 8 : head * 8 + 8] *= factor
            return (context,)

        torch.manual_seed(1)  # the same masks
        with torch.no_grad():
            hook = surgery.matrix(subject.encoder.layers[number], "out_proj")
            hook = hook.register_forward_pre_hook(scale)
            loss = definition.masked_prediction(predictor, labeller, audio[0])
            hook.remove()
        return loss.item()

    real = hidden_states.real_frames(subject, audio[0])
    for number, head in ((0, 1), (2, 4)):
        expected = 0.0
        for utterance, frame in real.nonzero().tolist():
            up, down = (  # the loss is in fp32, so smaller steps drown in its rounding
                loss_when_scaled(number, head, utterance, frame, 1 + step) for step in (5e-2, -5e-2)
            )
            expected += abs(up - down) / 1e-1
        assert scores[number][head].item() == pytest.approx(expected, rel=5e-3)


def test_batches_need_not_be_of_one_size():
    """The last one of an epoch holds fewer and shorter utterances, and counts like the others."""
    teacher, (whole, last) = backbone("hubert"), batches(2, 0.4)
    audio = [whole, {key: value[1:, :2100] for key, value in last.items()}]
    definition = recipes.make({"data_driven_head_pruning": UNITS})
    labeller, head = definition.fit_units(method.Context(1, teacher, batches=lambda *_: audio))
    student, contexts = copy.deepcopy(teacher), []
    predictor = UnitPredictor(student, head)
    scores = definition.gradients(predictor, labeller, audio, seed=1)
    for layer in student.encoder.layers:
        surgery.matrix(layer, "out_proj").register_forward_pre_hook(
            lambda module, inputs: contexts.append(inputs[0])
        )
    expected = torch.zeros(3, 6).double()
    torch.manual_seed(1)  # the same masks
    for batch in audio:
        contexts.clear()
        loss = definition.masked_prediction(predictor, labeller, batch)
        gradients = torch.autograd.grad(loss, contexts)
        for number, (c, gradient) in enumerate(zip(contexts, gradients, strict=True)):
            for place in range(6):
                own = slice(place * 8, place * 8 + 8)
                products = (c[..., own] * gradient[..., own]).detach().double().sum(2)
                expected[number, place] += products.abs().sum() / 2
    assert torch.allclose(torch.stack(scores), expected, rtol=1e-4)
    modules = surgery.linears(teacher.encoder.layers[1])
    both, *each = (calibration.input_norms(teacher, modules, x) for x in (audio, *zip(audio)))
    for name, norm in both.items():
        assert torch.allclose(norm.square(), sum(x[name].square() for x in each))


def test_the_best_head_of_each_layer_is_protected():
    scores = [torch.tensor([3.0, 4.0]), torch.tensor([10.0, 0.1, 20.0]), torch.tensor([1e-3, 2e-3])]
    # shares: .6 .8 | .447 .004 .894 | .447 .894

    def lowest(amount):
        spare = [len(own) - 1 for own in scores]
        return allocation.lowest_of_all(scores, spare, lambda gone: -sum(gone), -amount)

    assert lowest(0) == [0, 0, 0] and lowest(1) == [0, 1, 0]
    assert lowest(3) == [0, 2, 1] and lowest(9) == [1, 2, 1]


def test_heads_that_nothing_hangs_on_go_first(teacher):
    subject = copy.deepcopy(teacher)
    for layer in subject.encoder.layers:  # heads 2 and 5 do not reach what follows
        surgery.matrix(layer, "out_proj").weight.data[:, 16:24] = 0
        surgery.matrix(layer, "out_proj").weight.data[:, 40:48] = 0
    config = model.describe(subject)
    ratio = 6 * architecture.head_parameters(config, architecture.layers_of(config)[0])
    step = {"data_driven_head_pruning": UNITS}
    student, _ = compress([step], subject, ratio / architecture.remaining(config))
    assert [layer.attention.heads for layer in student.encoder.layers] == [(0, 1, 3, 4)] * 3
