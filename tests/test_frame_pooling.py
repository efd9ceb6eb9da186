"""Frame pooling: means of frames, written from the formula, and the layers that run on them."""

from fractions import Fraction
from math import ceil

import pytest
import torch

from helpers.backbones import backbone
from helpers.compressing import compress
from speech_pareto.compression import recipes, targets
from speech_pareto.models import architecture, operations
from speech_pareto.models import backbone as model
from speech_pareto.models.hidden_states import states
from speech_pareto.profiling import cost

KINDS = ("hubert", "wav2vec2", "wavlm", "data2vec-audio")
FACTORS = (1.01, 1.5, 2.0, 2.75, 4.0)


def weights(frames, factor):
    """Return w (groups, frames) in float64, and the group of each frame, from exact fractions."""
    span = Fraction(round(factor * 100), 100)
    group = [int((t + Fraction(1, 2)) / span) for t in range(frames)]
    rows = [
        [max(0, min(t + 1, (j + 1) * span) - max(t, j * span)) for t in range(frames)]
        for j in range(group[-1] + 1)
    ]
    return torch.tensor(rows, dtype=torch.float64), group


def pooled(kind, factor, after=0, **settings):
    step = {"frame_pooling": {"factor": factor, "after": after}}
    return compress([step], backbone(kind, **settings), 0.0)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("frames", [1, 2, 7, 50])
def test_the_mean_is_the_formula(factor, frames):
    student, _ = pooled("hubert", factor)
    pooling, hidden = student.encoder.frame_pooling, torch.randn(2, frames, 48)
    real = torch.tensor([frames, ceil(frames / 2)])
    groups, place = pooling.groups(frames), torch.device("cpu")
    found = pooling.join(hidden, real)
    for row, length in enumerate(real.tolist()):
        own, group = weights(length, factor)
        expected = own @ hidden[row, :length].double() / own.sum(1, keepdim=True)
        assert torch.allclose(found[row, : len(own)].double(), expected, atol=1e-6)
        assert pooling.groups(torch.tensor(length)) == len(own)
    own, group = weights(frames, factor)
    assert groups == len(own)
    output = torch.randn(1, groups, 3)
    full = pooling.part(output, real, frames, False)
    assert torch.equal(full, output[:, group])
    assert torch.equal(full[:, pooling.places(groups, place)], output)  # nothing is lost between


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [0, 1, 2])
def test_layers_behind_run_on_groups(kind, after):
    student, solution = pooled(kind, 1.5, after)
    assert solution.reason is None and solution.ratio == 0
    seen = []
    for layer in student.encoder.layers:
        layer.attention.register_forward_hook(lambda m, args, out: seen.append(out[0].shape[1]))
    audio = cost.noise(0.25)
    found = student(audio).last_hidden_state  # 49 or 50 frames
    group = weights(found.shape[1], 1.5)[1]
    assert seen == [found.shape[1]] * after + [group[-1] + 1] * (3 - after)
    assert torch.equal(found, found[:, [group.index(j) for j in group]])
    assert operations.macs(solution.config, 0.25)["total"] == cost.macs(student, audio)
    zeros = cost.planned_macs(solution.config, [1, 10, 100], 0.25)
    expected = sum(frames * number for frames, number in zip(seen[:3], (1, 10, 100), strict=True))
    assert zeros["total"] - zeros["theoretical_total"] == expected


@pytest.mark.parametrize("after", [0, 1])
def test_positions_of_wavlm_are_those_of_the_frames(after):
    """What a layer computes on groups, its own function computes with the bias of the distances."""
    teacher = backbone("wavlm")
    student, _ = pooled("wavlm", 2.0, after)
    audio, attention = torch.randn(1, 4000), teacher.encoder.layers[0].attention
    batch = {"input_values": audio, "attention_mask": torch.ones_like(audio).long()}
    with torch.no_grad():
        before = states(teacher, batch)[after]  # 50 frames
        bias = attention.compute_bias(50, 50)[:, ::2, ::2]
        means = before.unflatten(1, (25, 2)).mean(2)
        expected, _ = teacher.encoder.layers[after](means, position_bias=bias)
        found = states(student, batch)[after + 1]
    assert torch.allclose(found[:, ::2], expected, atol=1e-5)


def test_a_batch_gives_what_each_utterance_gives():
    student, _ = pooled("wav2vec2", 2.75, 1, do_stable_layer_norm=True)
    waves, mask = torch.randn(3, 4080), torch.ones(3, 4080).long()
    for row, samples in enumerate((4080, 2680, 250)):
        waves[row, samples:], mask[row, samples:] = 0, 0
    with torch.no_grad():
        together = student(waves, attention_mask=mask).last_hidden_state
        for row, samples in enumerate((4080, 2680, 250)):
            alone = student(waves[row : row + 1, :samples]).last_hidden_state[0]
            assert torch.allclose(together[row, : len(alone)], alone, atol=1e-5)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([{"frame_pooling": {"after": 12}}], "after is 12, which leaves none of the 12 layers"),
        (["frame_pooling", "layer_drop"], "the model pools frames already; only roundings follow"),
        (["frame_pooling", "frame_pooling"], "the methods before it join frames already"),
        (["frame_pooling", "gptq"], "fewer frames than the model has"),
        (
            [{"attention_reuse": {"ratio": 0.07}}, {"frame_pooling": {"after": 11}}],
            "layer 12 reuses the attention map of more frames",
        ),
    ],
)
def test_what_cannot_be_pooled_is_said(steps, said):
    ratio = 0.07 if "attention_reuse" in steps[0] else 0.0
    assert said in recipes.solve(steps, {"model_type": "hubert"}, ratio).reason


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_a_factor_meets_a_target_in_macs(share):
    config = {"model_type": "hubert"}
    solution = recipes.solve(["frame_pooling", "int8"], config, 0.0, {"macs": share})
    assert solution.reason is None and solution.ratio == 0
    assert targets.removed(config, solution.config, {"macs": share}) == pytest.approx(
        share, abs=0.002
    )
    reason = recipes.solve(["frame_pooling"], config, 0.0, {"macs": 0.9}).reason
    assert reason.startswith("frame_pooling can remove 0.4") and reason.endswith("not 0.9")
    fixed = [{"frame_pooling": {"factor": 3}}]
    assert recipes.solve(fixed, config, 0.0, {"macs": share}).reason is not None


def test_factors_have_two_decimals():
    with pytest.raises(ValueError, match=r"1\.333 has more than two decimals"):
        recipes.make({"frame_pooling": {"factor": 1.333}})
    for factor in (1, 4.5):
        with pytest.raises(ValueError, match="above 1 and at most 4"):
            recipes.make({"frame_pooling": {"factor": factor}})


@pytest.mark.parametrize(
    "steps", [["low_rank", "frame_pooling", "int8"], ["frame_pooling", "intx"]]
)
def test_roundings_follow(steps, tmp_path):
    ratio = 0.2 if "low_rank" in steps else 0.0
    student, solution = compress(steps, backbone("wavlm"), ratio)
    assert solution.reason is None
    assert architecture.section(solution.config)["frame_pooling"] == {"factor": 2.0, "after": 0}
    model.save(student, tmp_path / "student")
    audio = torch.randn(1, 4000)
    again = model.load(tmp_path / "student")
    assert torch.equal(again(audio).last_hidden_state, student(audio).last_hidden_state)
