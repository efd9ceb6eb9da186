"""Stem distillation: the new stems' shapes, what they learn, and that nothing else changes."""

import copy
import json

import pytest
import torch
import transformers

import compress as compress_job
import export
from helpers.backbones import backbone, convolutional
from helpers.compressing import RECIPES, compress
from helpers.contract import check_contract
from helpers.results import RUN, SCORED
from speech_pareto.compression import recipes
from speech_pareto.compression.methods import stem_distillation
from speech_pareto.compression.targets import removed
from speech_pareto.models import architecture, hidden_states, operations, sparsity
from speech_pareto.models import backbone as model
from speech_pareto.models.stem import Stem
from speech_pareto.profiling import cost
from speech_pareto.runtime.result import read_status
from speech_pareto.study.shares import ratio_of
from speech_pareto.tasks.task import TaskModel, make_task, save_head

BASE = {"model_type": "hubert"}
FORMS = ("two_layer", "slim", "log_mel")
WIDTHS = {"hidden_size": 48, "num_attention_heads": 6, "intermediate_size": 96}
WIDTHS |= {"conv_dim": [32] * 7, "num_conv_pos_embedding_groups": 4}
TASK = {"kind": "ctc", "unit": "characters", "languages": ["en"], "protocol": "finetune"}


def default(kind, **settings):
    """Return a backbone of few layers with transformers' defaults but for its widths."""
    position = {} if kind == architecture.DATA2VEC else {"num_conv_pos_embeddings": 16}
    torch.manual_seed(5)
    small = {"num_hidden_layers": 2, "model_type": kind}
    made = model.new({**WIDTHS, **small, **position, **settings})
    for parameter in sparsity.prunable(made).values():  # transformers begins with zero biases
        torch.nn.init.normal_(parameter, std=0.1)
    return made


def utterances():
    """Return audio (2, samples) of unlike length and its attention mask."""
    lengths = torch.tensor([[8000], [5300]])
    mask = (torch.arange(8000) < lengths).long()
    return 0.1 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(7)) * mask, mask


def step_of(form, steps=2):
    return {"stem_distillation": {"form": form, "steps": steps}}


@pytest.mark.parametrize("kind", architecture.MODEL_TYPES)
def test_base_gets_a_stem_of_three_percent(kind):
    """Its operations, from the config alone; what is counted is what is built."""
    config = {"model_type": kind}
    whole = operations.macs(config, 10)
    solution = recipes.solve([step_of("two_layer")], config, 0.0335)
    assert solution.reason is None and abs(solution.ratio - 0.0335) < 1e-4
    stem = {key: solution.config[key] for key in ("conv_kernel", "conv_stride")}
    assert stem == {"conv_kernel": [40, 19], "conv_stride": [20, 16]}
    found = operations.macs(solution.config, 10)
    assert 0.028 < found["stem"] / whole["stem"] < 0.03
    assert found["layers"] == whole["layers"] and found["frames"] == whole["frames"]
    built = model.build(solution.config)
    assert sum(p.numel() for p in built.parameters()) == architecture.remaining(solution.config)
    for form, least in (("two_layer", 0.0025), ("slim", 0.017), ("log_mel", 0.0011)):
        smallest = recipes.solve([step_of(form)], config, 0.047)
        assert smallest.reason is None and 0.0465 < smallest.ratio < 0.049
        bound = recipes.solve([step_of(form)], config, 0.5)
        assert operations.macs(bound.config, 10)["stem"] < least * whole["stem"]


@pytest.mark.parametrize("form", FORMS)
def test_new_stems_make_the_frames_of_the_old_one(form):
    """However long the audio is, and each frame of the same samples."""
    config = architecture.complete(BASE)
    made = recipes.make(step_of(form)).solve(config, 0.03).config
    old, new = (transformers.HubertConfig(**c | {"compression": None}) for c in (config, made))
    for samples in range(400, 2000):
        assert hidden_states.frames_of(new, samples) == hidden_states.frames_of(old, samples)
    field, stride = architecture.reach(made)
    assert (field, stride) == (400, 320)


@pytest.mark.parametrize("kernels", [(10, 8), (10, 3, 3, 3, 3, 2, 2), (5, 2), (3, 3, 3), (1, 1)])
@pytest.mark.parametrize("strides", [(5, 2), (10, 8), (7, 1), (1, 1)])
def test_two_layers_keep_field_and_stride_of_any_stem(kernels, strides):
    strides = (*strides, *[2] * 9)[: len(kernels)]
    config = {"conv_kernel": kernels, "conv_stride": strides, "conv_dim": [8] * len(kernels)}
    config |= BASE
    made = stem_distillation.with_convolutions(config, 4)
    assert architecture.reach(made) == architecture.reach(config)
    assert min(made["conv_kernel"]) >= 1 and len(made["conv_dim"]) == 2


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", architecture.MODEL_TYPES)
def test_the_contract_holds_in_every_form(form, kind, tmp_path):
    """On transformers' default values: seven convolutions, group norm or a norm behind each."""
    teacher = default(kind)
    most = recipes.solve([step_of(form)], model.describe(teacher), 0.9).ratio
    ratio = most if form == "log_mel" else most / 2
    check_contract(step_of(form), ratio, teacher, utterances(), tmp_path)
    student, _ = compress([step_of(form)], teacher, ratio)
    config = model.describe(student)
    planned = operations.macs(config, 1)
    with torch.no_grad():
        assert planned["total"] == cost.macs(student, torch.randn(1, 16_000))
    if form != "log_mel":
        plain = transformers.AutoModel.from_pretrained(
            tmp_path / "student", attn_implementation="eager"
        )
        wave = utterances()[0][:1]
        with torch.no_grad():
            assert torch.allclose(
                plain(wave).last_hidden_state, student.eval()(wave).last_hidden_state, atol=1e-5
            )


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("form", ["two_layer", "slim"])
def test_only_the_stem_learns_and_it_learns(form, norm, audio):
    torch.manual_seed(3)
    shape = {"conv_dim": [24, 24, 24], "conv_kernel": [10, 4, 4], "conv_stride": [5, 4, 4]}
    teacher = model.new(convolutional("hubert", **shape, feat_extract_norm=norm))
    chosen = recipes.make(step_of(form, 150))
    losses = []

    def train(student, loss, steps, **settings):
        optimiser = torch.optim.Adam(student.parameters(), lr=5e-3)
        student.train()
        for _ in range(steps):
            optimiser.zero_grad()
            value = loss({"input_values": audio[0], "attention_mask": audio[1]})
            value.backward()
            optimiser.step()
            losses.append(value.item())

    ratio = recipes.solve([step_of(form)], model.describe(teacher), 0.08).ratio
    student, solution = compress([step_of(form, 150)], teacher, ratio, loop=train)
    assert solution.reason is None and chosen.steps == 150
    assert losses[-1] < -0.7 < losses[0]  # -1 if both were alike
    after, before = student.state_dict(), teacher.state_dict()
    kept = [name for name in before if not name.startswith(("feature_extractor", "feature_proj"))]
    assert len(kept) > 20 and all(torch.equal(after[name], before[name]) for name in kept)
    ours = Stem(student.eval())(*audio)
    theirs = Stem(teacher)(*audio)
    real = hidden_states.real_frames(
        teacher, {"input_values": audio[0], "attention_mask": audio[1]}
    )
    cosines = torch.nn.functional.cosine_similarity(ours, theirs, dim=-1)[real]
    assert cosines.mean() > 0.8


@pytest.mark.parametrize("norm", ["group", "layer"])
@torch.no_grad()
def test_the_loss_is_the_formula(norm):
    """In float64, utterance by utterance and without padding; dropout blurs neither side."""
    teacher = default("wav2vec2", feat_extract_norm=norm, feat_proj_dropout=0.5)
    waves, mask = utterances()
    student, _ = compress([step_of("two_layer", 0)], teacher, 0.02)
    expected, frames = 0.0, 0
    for wave, length in zip(waves, mask.sum(1).tolist(), strict=True):
        features = []
        for made in (student, teacher):
            exact = copy.deepcopy(made).double()
            hidden = wave[None, None, :length].double()
            for layer in exact.feature_extractor.conv_layers:
                hidden = torch.nn.functional.conv1d(
                    hidden, layer.conv.weight, layer.conv.bias, layer.conv.stride
                )
                if isinstance(own := getattr(layer, "layer_norm", None), torch.nn.GroupNorm):
                    mean, var = hidden.mean(-1, True), hidden.var(-1, correction=0, keepdim=True)
                    hidden = (hidden - mean) / (var + own.eps).sqrt()
                    hidden = hidden * own.weight[:, None] + own.bias[:, None]
                elif own is not None:
                    hidden = own(hidden.mT).mT
                hidden = torch.nn.functional.gelu(hidden)
            projection = exact.feature_projection
            hidden = projection.layer_norm(hidden[0].T)
            features.append(hidden @ projection.projection.weight.T + projection.projection.bias)
        ours, theirs = features
        products = (ours * theirs).sum(1) / (ours.square().sum(1) * theirs.square().sum(1)).sqrt()
        expected += ((ours - theirs).abs().mean(1) - 0.7 * products).sum().item()
        frames += len(ours)
    chosen = recipes.make({"stem_distillation": {"cosine": 0.7}})
    stems = Stem(student).train(), Stem(teacher).train()
    batch = {"input_values": waves, "attention_mask": mask}
    assert chosen.loss(*stems, batch).item() == pytest.approx(expected / frames, rel=1e-4)


def test_what_a_stem_cannot_replace_is_refused():
    thin = {"compression": {"projection": "none"}, "feat_proj_layer_norm": False}
    reasons = {
        "no convolutions": ("two_layer", architecture.tiny()),
        "no projection follows": ("slim", convolutional("hubert", conv_dim=[16, 32], **thin)),
        "each 80": ("log_mel", convolutional("hubert")),
    }
    for said, (form, config) in reasons.items():
        config = config if isinstance(config, dict) else config.to_dict()
        assert said in recipes.solve([step_of(form)], config, 0.02).reason


@pytest.mark.parametrize("form", ["two_layer", "slim"])
def test_it_follows_and_precedes_other_methods(form, audio, tmp_path):
    """A map to the teacher's head that was learnt before stays with the student."""
    teacher = backbone("wavlm")
    first = [{"fithubert": {"steps": 1, "ratio": 0.3}}, step_of(form)]
    most = recipes.solve(first, model.describe(teacher), 0.99).ratio
    student, solution = compress(first, teacher, most)
    assert solution.reason is None and len(student.readout) == 2
    again = [{"stem_distillation": {"form": form, "steps": 1, "ratio": 0.001}}, "layer_drop"]
    student, solution = compress(again, teacher, 0.4)
    assert solution.reason is None and len(student.encoder.layers) < 3
    model.save(student.eval(), tmp_path / "student")
    loaded = model.load(tmp_path / "student")
    waves, mask = audio
    assert torch.equal(
        loaded(waves, attention_mask=mask)[0], student(waves, attention_mask=mask)[0]
    )


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_job_makes_it_and_onnxruntime_computes_it(form, tmp_path, prompts_en):
    """The real loop on recordings; the same bytes again; the file gives torch's numbers."""
    model.save(default("hubert", num_hidden_layers=1), tmp_path / "teacher")
    step = {"stem_distillation": {"form": form, "steps": 3, "batch_seconds": 4.0}}
    ratio = recipes.solve([step], model.describe(model.load(tmp_path / "teacher")), 0.5).ratio
    for name in ("student", "again"):
        given = [prompts_en], RUN, tmp_path / name, None, "fp32", 1
        compress_job.main([step], ratio, 1, tmp_path / "teacher", *given)
        assert read_status(tmp_path / name) is None
    first, second = (
        (tmp_path / n / "model.safetensors").read_bytes() for n in ("student", "again")
    )
    assert first == second
    student = model.load(tmp_path / "student")
    texts = {"provenance.json": json.dumps({"task": TASK})}
    model.save(student, tmp_path / "tuned", texts=texts)
    task = make_task(TASK, list("abcdefghij"))
    save_head(TaskModel(student, task.outputs, "finetune"), task, tmp_path / "tuned")
    given = SCORED, tmp_path / "student.onnx", tmp_path / "export.json"
    export.main(TASK, tmp_path / "tuned", [prompts_en], *given)
    report = json.loads((tmp_path / "export.json").read_text())
    assert report["status"] == "ok"
    assert report["check"]["largest_difference"] <= report["check"]["tolerance"]
    assert report["check"]["alone_or_in_batch"] <= report["check"]["tolerance"]


@pytest.mark.parametrize("recipe", [["stem_distillation"], "stem-and-layer-drop"])
def test_a_share_of_macs_can_be_asked(recipe):
    """At Base: 0.323 of all are nearly all of the stem's; more needs the layers."""
    steps = RECIPES[recipe] if isinstance(recipe, str) else recipe
    share = 0.323 if isinstance(recipe, list) else 0.7
    ratio = ratio_of(steps, BASE, {"macs": share})
    found = recipes.solve(steps, BASE, ratio, {"macs": share})
    assert found.reason is None
    assert removed(BASE, found.config, "macs") == pytest.approx(share, abs=0.001)
