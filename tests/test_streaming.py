"""Streaming: no frame hears beyond its chunk, and chunk by chunk is one pass."""

import copy

import numpy as np
import pytest
import torch

from helpers.backbones import SHAPE, STEM, backbone
from helpers.compressing import compress, example
from speech_pareto.compression import recipes
from speech_pareto.models import backbone as model
from speech_pareto.models import lookahead
from speech_pareto.models.layers.chunked import EPSILON
from speech_pareto.models.quantisation import HALVES
from speech_pareto.models.stream import Stream

KINDS = ("hubert", "wav2vec2", "wavlm", "data2vec-audio")
# Stems of Base, narrow: a group norm over time, convolutions that overlap.
DEFAULT = {**SHAPE, "conv_dim": [32] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2]}
DEFAULT |= {"conv_stride": [5, 2, 2, 2, 2, 2, 2], "feat_extract_norm": "group"}
MODELS = {
    **{kind: {**SHAPE, **STEM, "model_type": kind} for kind in KINDS},
    **{f"{kind} with a stem as Base": {**DEFAULT, "model_type": kind} for kind in KINDS},
    "norms first": {**SHAPE, **STEM, "do_stable_layer_norm": True},
    "batch norm": {**SHAPE, **STEM, "conv_pos_batch_norm": True},
    "log-mel": SHAPE,
}


def streaming(teacher, chunk=60, left=100, before=(), **settings):
    """Return a student of a teacher that hears chunks of so many milliseconds, untrained."""
    own = {"chunk": chunk, "left": left, "steps": 0, "chunks": [20], **settings}
    ratio = 0.3 if before else 0.0
    student, solution = compress([*before, {"streaming": own}], teacher, ratio)
    assert solution.reason is None
    return student.eval()


def random(name):
    torch.manual_seed(5)
    made = model.new(model.tiny_config(**MODELS[name]))
    for norm in (m for m in made.modules() if isinstance(m, torch.nn.GroupNorm)):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    for layer in made.encoder.layers:  # WavLM's biases of positions count
        if hasattr(layer.attention, "rel_attn_embed"):
            torch.nn.init.normal_(layer.attention.rel_attn_embed.weight)
    return made


def wave(samples, batch=2):
    """Return noise (batch, samples) that grows louder, and is not centred."""
    return torch.randn(batch, samples) * torch.linspace(0.02, 2, samples) + 0.05


def by_chunks(stream, waves):
    state, found = stream.begin(len(waves)), []
    for begin in range(0, waves.shape[1], stream.samples):
        output, state = stream(waves[:, begin : begin + stream.samples], state)
        found.append(output)
    return torch.cat(found, 1)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_chunk_by_chunk_is_one_pass(name):
    stream = Stream(streaming(random(name)))
    waves = wave(7 * stream.samples)
    whole = stream.backbone(torch.nn.functional.pad(waves, (stream.lead, 0))).last_hidden_state
    assert whole.shape[1] == 7 * stream.backbone.flow.chunk
    assert torch.allclose(by_chunks(stream, waves), whole, atol=1e-5)


@pytest.mark.parametrize(
    "before",
    ["low_rank", "head_pruning", "block_drop", "channel_pruning", "attention_reuse"],
)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_students_of_any_shape_stream(kind, before):
    step = {before: {**example(before)[before], "ratio": 0.1}}
    teacher = random(f"{kind} with a stem as Base")
    most = recipes.solve([step, "streaming"], model.describe(teacher), 0.1)
    student, _ = compress([step, {"streaming": {"steps": 0, "chunk": 60}}], teacher, most.ratio)
    stream = Stream(student.eval())
    waves = wave(4 * stream.samples, 1)
    whole = student(torch.nn.functional.pad(waves, (stream.lead, 0))).last_hidden_state
    assert torch.allclose(by_chunks(stream, waves), whole, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["hubert with a stem as Base", "wavlm", "log-mel"])
@torch.no_grad()
def test_students_in_half_precision_stream(name, dtype):
    own = {"chunk": 60, "left": 100, "steps": 0}
    halved = [{"streaming": own}, {"half_precision": {"dtype": dtype}}]
    stream = Stream(compress(halved, random(name), 0.0)[0].eval())
    waves = wave(4 * stream.samples)
    whole = stream.backbone(torch.nn.functional.pad(waves, (stream.lead, 0))).last_hidden_state
    assert torch.allclose(by_chunks(stream, waves), whole, atol=8 * torch.finfo(HALVES[dtype]).eps)


@pytest.mark.parametrize("kind", ["hubert", "wavlm"])
@torch.no_grad()
def test_padding_that_reads_nothing_is_not_nan_in_half_precision(kind):
    teacher = random(kind)
    for layer in teacher.encoder.layers:  # all scores are far below zero
        torch.nn.init.constant_(layer.attention.q_proj.bias, 6.0)
        torch.nn.init.constant_(layer.attention.k_proj.bias, -6.0)
    halved = [{"streaming": {"chunk": 60, "left": 20, "steps": 0}}, "half_precision"]
    student = compress(halved, teacher, 0.0)[0].eval()
    mask = (torch.arange(9600) < torch.tensor([[9600], [3000]])).long()
    waves = wave(9600) * mask
    alone = student(waves[1:, :3000]).last_hidden_state
    found = student(waves, attention_mask=mask).last_hidden_state
    assert torch.allclose(found[1:, : alone.shape[1]], alone, atol=0.01)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_no_frame_hears_beyond_its_chunk_or_longer_ago_than_layers_remember(name):
    student = streaming(random(name), chunk=60, left=20)
    config = model.describe(student)
    chunk, frame = student.flow.chunk, round(16 * lookahead.frame_ms(config))
    waves = wave(6 * chunk * frame + lookahead.overlap(config), 1)
    found = student(waves).last_hidden_state
    heard = 2 * chunk * frame + lookahead.overlap(config)  # by the first two chunks
    later = torch.cat((waves[:, :heard], torch.randn(1, waves.shape[1] - heard)), 1)
    changed = student(later).last_hidden_state
    assert torch.allclose(changed[:, : 2 * chunk], found[:, : 2 * chunk], atol=1e-5)
    assert not torch.allclose(changed[:, 2 * chunk :], found[:, 2 * chunk :], atol=1e-2)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_chunk_of_a_whole_utterance_is_the_teacher(name):
    teacher = random(name).eval()
    student, waves = streaming(teacher, chunk=None), wave(9000)
    given = waves
    if not name.startswith("log"):  # the student standardises for itself
        given = (waves - waves.mean(1, keepdim=True)) / waves.std(1, correction=0, keepdim=True)
    assert torch.allclose(
        student(waves).last_hidden_state, teacher(given).last_hidden_state, atol=1e-4
    )
    standardised = student(3 * waves).last_hidden_state
    assert name.startswith("log") or torch.allclose(
        standardised, student(waves).last_hidden_state, atol=1e-3
    )


@torch.no_grad()
def test_norms_know_the_past_and_the_chunk():
    """Each place of a chunk has mean and variance of all up to the chunk's end, in float64."""
    student = streaming(random("hubert with a stem as Base"), chunk=60)
    seen = {}
    first = student.feature_extractor.conv_layers[0]
    first.layer_norm.register_forward_hook(lambda m, args, out: seen.update(x=args[0], y=out))
    student.feature_extractor.register_forward_hook(lambda m, args, out: seen.update(wave=args[0]))
    waves = wave(5000, 1)
    student(waves)
    for given, found, size, lead, eps in (
        (waves[:, None], seen["wave"][:, None], 320 * 3, 80, EPSILON),
        (seen["x"], seen["y"], 64 * 3, 15, first.layer_norm.eps),
    ):
        given, found = given[0].double().numpy(), found[0].double().numpy()
        if len(given) > 1:  # the norm's own weights
            weight, bias = (x.detach().double().numpy() for x in first.layer_norm.parameters())
            found = (found - bias[:, None]) / weight[:, None]
        for place in range(0, given.shape[1], 37):
            chunk = max(0, (place - lead) // size)
            heard = given[:, : lead + size * (chunk + 1)]
            expected = (given[:, place] - heard.mean(1)) / np.sqrt(heard.var(1) + eps)
            assert found[:, place] == pytest.approx(expected, abs=1e-4)


def test_it_learns_what_the_whole_utterance_says():
    teacher = backbone("hubert")
    drawn, waves = [], wave(4000)

    def train(student, loss, steps, **settings):
        batch = {"input_values": waves, "attention_mask": torch.ones_like(waves).long()}
        for step in range(12):
            torch.manual_seed(step)
            assert loss(batch).isfinite()
            drawn.append(student.flow.chunk)

    student, _ = compress(
        [{"streaming": {"chunk": 40, "chunks": [20, 60], "steps": 1}}], teacher, 0.0, loop=train
    )
    assert set(drawn) == {4, 12, 0}  # frames of 5 ms, and the whole
    assert student.flow.chunk == 8
    again = model.build(model.describe(student))
    assert (again.flow.chunk, again.flow.left) == (8, 512)


def test_a_student_of_another_width_learns_from_itself():
    thin = [{"masking_distillation": {"steps": 0, "ratio": 0.7, "reuse": "none"}}, "streaming"]
    assert "it can learn from itself" in recipes.solve(thin, {"model_type": "hubert"}, 0.7).reason
    thin[1] = {"streaming": {"teacher": "itself"}}
    assert recipes.solve(thin, {"model_type": "hubert"}, 0.7).reason is None
    torch.manual_seed(5)
    teacher = model.new(model.tiny_config(**SHAPE))
    thin[1] = {"streaming": {"teacher": "itself", "steps": 1, "chunk": 40, "chunks": [20]}}
    student, solution = compress(thin, teacher, 0.7)
    assert solution.reason is None
    assert copy.deepcopy(student)(wave(4000)).last_hidden_state.isfinite().all()


def test_the_latency_is_a_chunk_and_what_the_stem_reads_behind_it():
    config = {"model_type": "hubert", "compression": {"streaming": {"chunk": 16, "left": 128}}}
    assert lookahead.latency(config) == pytest.approx(0.325)  # 320 ms, and 80 samples
    assert lookahead.latency({"model_type": "hubert"}) is None
    config["compression"]["streaming"]["chunk"] = None
    assert lookahead.latency(config) is None
    log_mel = model.tiny_config(compression={"stem": "log_mel", "streaming": {"chunk": 4}})
    assert lookahead.latency(log_mel.to_dict()) == pytest.approx(0.095)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([{"streaming": {"chunk": 50}}], "chunk is 50 ms, no multiple of a frame's 20 ms"),
        ([{"streaming": {"left": 30}}], "left is 30 ms, no multiple"),
        ([{"streaming": {"chunks": [80, 70]}}], "chunks: 70 ms is no multiple"),
        (["streaming", "streaming"], "the model hears chunks already"),
        (["streaming", "low_rank"], "hears chunks already; only roundings follow"),
        (["streaming", "early_exit"], "hears chunks already: that step comes behind"),
        (["streaming", "frame_pooling"], "frames that are joined would cross them"),
        (["frame_pooling", "streaming"], "fewer frames than the model has"),
        ([{"early_exit": {"threshold": 0.5}}, "streaming"], "utterances leave the model early"),
        ([{"layer_tying": {"ratio": 0.5}}, "streaming"], "share their weights"),
    ],
)
def test_what_cannot_stream_is_said(steps, said):
    ratio = next(
        (one.get("ratio", 0.0) for s in steps if isinstance(s, dict) for one in s.values()), 0
    )
    assert said in recipes.solve(steps, {"model_type": "hubert"}, ratio).reason


def test_nothing_to_train_with_is_refused():
    with pytest.raises(ValueError, match="chunks: there is none to train with"):
        recipes.make_all([{"streaming": {"chunks": []}}])


def test_a_model_that_hears_the_whole_has_no_stream():
    with pytest.raises(ValueError, match="it has no chunks"):
        Stream(streaming(backbone("hubert"), chunk=None))
