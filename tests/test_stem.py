"""Channels of the convolutional stem: cut, counted, saved, exported, and chosen by the formula."""

import copy
import json

import pytest
import torch
import transformers

from helpers.backbones import convolutional
from helpers.brute_force import brackets, fills
from helpers.compressing import batches, compress
from speech_pareto.compression import allocation, method, recipes
from speech_pareto.compression.parts import allocated
from speech_pareto.models import architecture, operations, surgery
from speech_pareto.models import backbone as model
from speech_pareto.models.hidden_states import real_frames
from speech_pareto.profiling import cost

NORMS = ("group", "layer")  # Base has the first, Large and data2vec the second
KINDS = [(kind, norm) for kind in architecture.MODEL_TYPES for norm in NORMS]
KINDS.remove((architecture.DATA2VEC, "group"))
STEM = {"conv_dim": [16, 20, 24], "conv_kernel": [10, 8, 3], "conv_stride": [10, 8, 2]}
KEPT = [(0, 3, 5, 9, 15), (1, 2, 7, 11, 13, 18), (0, 4, 6, 20, 21, 22, 23)]
SCORES = {"norm": {}, "activations": {"batches": 3, "batch_seconds": 0.4}}


def made(kind, norm, **settings):
    """Return a backbone whose norms and biases in the stem all matter."""
    torch.manual_seed(3)
    more = {"conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 2}
    settings = (more if kind == architecture.DATA2VEC else {}) | settings
    config = convolutional(kind, **STEM | {"feat_extract_norm": norm} | settings)
    subject = model.new(config)
    for part in (subject.feature_extractor, subject.feature_projection):
        for parameter in part.parameters():
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, 0.5)
    return subject


def thinned(subject):
    """Return a copy of `subject` with the channels in KEPT alone."""
    student = copy.deepcopy(subject)
    for number, kept in enumerate(KEPT):
        surgery.keep_channels(student, number, torch.tensor(kept))
    return student


@pytest.mark.parametrize(("kind", "norm"), KINDS)
@torch.no_grad()
def test_a_cut_stem_is_the_whole_one_on_the_kept_channels(kind, norm, audio):
    """Layer by layer, from the tensors of the whole one."""
    subject, waves = made(kind, norm), audio[0]
    student, hidden = thinned(subject), waves[:, None]
    for number, layer in enumerate(subject.feature_extractor.conv_layers):
        before = list(KEPT[number - 1]) if number else [0]
        kept = list(KEPT[number])
        hidden = torch.nn.functional.conv1d(
            hidden,
            layer.conv.weight[kept][:, before],
            layer.conv.bias[kept],
            layer.conv.stride,
        )
        own = getattr(layer, "layer_norm", None)
        if isinstance(own, torch.nn.GroupNorm):
            hidden = torch.nn.functional.group_norm(
                hidden, len(kept), own.weight[kept], own.bias[kept], own.eps
            )
        elif own is not None:
            hidden = torch.nn.functional.layer_norm(
                hidden.mT, (len(kept),), own.weight[kept], own.bias[kept], own.eps
            ).mT
        hidden = torch.nn.functional.gelu(hidden)
    assert torch.allclose(student.feature_extractor(waves), hidden, atol=1e-5)
    projection, features = subject.feature_projection, hidden.mT
    kept = list(KEPT[-1])
    if hasattr(projection, "layer_norm"):
        own = projection.layer_norm
        features = torch.nn.functional.layer_norm(
            features, (len(kept),), own.weight[kept], own.bias[kept], own.eps
        )
    matrix = projection.projection
    features = features @ matrix.weight[:, kept].T + matrix.bias
    found = student.feature_projection(hidden.mT)
    found = found[0] if isinstance(found, tuple) else found
    assert torch.allclose(found, features, atol=1e-5)


@pytest.mark.parametrize(("kind", "norm"), KINDS)
@pytest.mark.parametrize("more", [{}, {"conv_bias": False}], ids=["biases", "none"])
@torch.no_grad()
def test_a_cut_stem_counts_saves_and_loads(kind, norm, more, audio, tmp_path):
    student = thinned(made(kind, norm, **more)).eval()
    config = model.describe(student)
    assert config["conv_dim"] == [5, 6, 7]
    held = sum(p.numel() for p in student.parameters())
    assert architecture.count(config)["total"] == architecture.remaining(config) == held
    stem = sum(p.numel() for p in student.feature_extractor.parameters())
    assert architecture.count(config)["stem"] == stem
    assert operations.macs(config, 1)["total"] == cost.macs(student, torch.randn(1, 16_000))
    model.save(student, tmp_path / "student")
    again, (waves, mask) = model.load(tmp_path / "student"), audio
    given = student(waves, attention_mask=mask).last_hidden_state
    assert torch.equal(again(waves, attention_mask=mask).last_hidden_state, given)
    alone = student(waves[1:, :2600]).last_hidden_state
    assert torch.allclose(alone, given[1:, : alone.shape[1]], atol=1e-5)  # padding changes nothing
    plain, said = transformers.AutoModel.from_pretrained(
        tmp_path / "student", output_loading_info=True, attn_implementation="eager"
    )
    assert not said["missing_keys"] and not said["mismatched_keys"]
    assert torch.allclose(
        plain(waves).last_hidden_state, student(waves).last_hidden_state, atol=1e-5
    )


def test_the_last_channels_stay_where_they_are_the_width():
    config = model.describe(made("hubert", "layer", conv_dim=[16, 20, 32]))
    config |= {"compression": {"projection": "none"}, "feat_proj_layer_norm": False}
    subject = model.build(config)
    with pytest.raises(ValueError, match="no projection follows"):
        surgery.keep_channels(subject, 2, torch.arange(4))
    most = recipes.solve(["channel_pruning"], config, 0.9)
    assert most.config["conv_dim"] == [2, 3, 32] and "not 0.9" in most.reason
    assert sum(p.numel() for p in model.build(most.config).parameters()) == architecture.remaining(
        most.config
    )


def test_a_stem_without_convolutions_is_refused():
    reason = recipes.solve(["channel_pruning"], architecture.tiny(), 0.01).reason
    assert "no convolutions" in reason


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("score", SCORES)
@torch.no_grad()
def test_channel_scores_are_the_formulas(score, norm):
    """In float64, utterance by utterance without padding; what stays are the highest."""
    subject, squares = made("hubert", norm), [0.0] * 3
    batch_audio = batches(3, 0.4)
    if score == "norm":
        expected = [
            torch.stack([(row * row).sum().sqrt() for row in layer.conv.weight.double()])
            for layer in subject.feature_extractor.conv_layers
        ]
    else:
        exact = copy.deepcopy(subject).double()
        for batch in batch_audio:
            for wave, mask in zip(batch["input_values"], batch["attention_mask"], strict=True):
                hidden = wave[None, None, : int(mask.sum())].double()
                for number, layer in enumerate(exact.feature_extractor.conv_layers):
                    hidden = layer(hidden)
                    squares[number] = squares[number] + (hidden[0] ** 2).sum(1)
        expected = [total.sqrt() for total in squares]
    step = {"channel_pruning": {"score": score, **SCORES[score]}}
    chosen = recipes.make(step)
    scores = chosen.scores(subject, method.Context(1, batches=batches))
    for found, wanted in zip(scores, expected, strict=True):
        assert found.dtype == torch.float64 and torch.allclose(found, wanted, rtol=1e-4)
    most = recipes.solve([step], model.describe(subject), 0.99).ratio
    student, solution = compress([step], subject, most / 2)
    assert solution.reason is None
    before = [0]
    for number, (old, new) in enumerate(
        zip(
            subject.feature_extractor.conv_layers,
            student.feature_extractor.conv_layers,
            strict=True,
        )
    ):
        width = solution.config["conv_dim"][number]
        best = expected[number].argsort(descending=True)[:width].sort().values
        assert torch.equal(new.conv.weight, old.conv.weight[best][:, before])
        assert width < len(expected[number])
        before = best


@pytest.mark.parametrize("kind", architecture.MODEL_TYPES)
def test_base_is_solved_to_a_channel(kind):
    """The same share of each layer, as near to the ratio as one channel allows."""
    config = json.loads(json.dumps(architecture.complete({"model_type": kind})))
    for ratio in (0.0, 0.01, 0.025, 0.04):
        solution = recipes.solve(["channel_pruning"], config, ratio)
        widths = solution.config["conv_dim"]
        assert solution.reason is None and abs(solution.ratio - ratio) < 5e-5
        assert max(widths) - min(widths) <= 1
        assert solution.sizings[0].knobs["alike"] == [512 - width for width in widths]
    bound = recipes.solve(["channel_pruning"], config, 0.5)
    assert bound.config["conv_dim"] == [64] * 7
    assert "channel_pruning can remove 0.04" in bound.reason
    assert operations.macs(bound.config, 1)["stem"] < operations.macs(config, 1)["stem"] / 40


def test_every_number_of_channels_can_go():
    config = {
        "model_type": "hubert",
        "conv_dim": [16, 9, 40],
        **{k: STEM[k] for k in list(STEM)[1:]},
    }
    total = sum(allocation.spare_channels(config))
    walk = [allocation.narrowed(config, amount) for amount in range(total + 1)]
    assert walk[0] == [16, 9, 40] and walk[-1] == [2, 2, 5]
    for before, after in zip(walk, walk[1:], strict=False):
        assert all(a <= b for a, b in zip(after, before, strict=True))


@torch.no_grad()
def test_channels_that_the_model_needs_least_are_those_of_brute_force(monkeypatch):
    """What neighbours save is a product; all combinations of measured numbers are tried."""
    monkeypatch.setattr(allocated, "LEVELS", 5)
    subject, audio = made("wav2vec2", "layer").eval(), batches(2, 0.4)
    config = model.describe(subject)

    def state(changed):
        return torch.cat(
            [changed(**x).last_hidden_state[real_frames(changed, x)] for x in audio]
        ).double()

    def damage(place, number):
        changed = copy.deepcopy(subject)
        scores = changed.feature_extractor.conv_layers[place].conv.weight.flatten(1).norm(dim=1)
        surgery.keep_channels(changed, place, scores.argsort()[number:])
        return (state(changed) - state(subject)).square().sum().item()

    def cost(gone):
        widths = [width - number for width, number in zip(STEM["conv_dim"], gone, strict=True)]
        return architecture.remaining({**config, "conv_dim": widths})

    damages = [
        {number: damage(place, number) for number in allocation.steps_to(most, 5)}
        for place, most in enumerate((14, 17, 21))
    ]
    audio_of_damages = {"sensitivity_batches": 2, "sensitivity_seconds": 0.4}
    step = {"channel_pruning": {"allocation": "sensitivity", **audio_of_damages}}
    for ratio in (0.04, 0.08):
        student, solution = compress([step], subject, ratio)
        lost = [a - b for a, b in zip(STEM["conv_dim"], student.config.conv_dim, strict=True)]
        room = architecture.remaining(solution.sizings[0].config)
        assert solution.reason is None
        assert fills(lost, brackets(damages, cost, room), cost, room)
