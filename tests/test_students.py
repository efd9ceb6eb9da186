"""Thin students: published sizes to the last parameter, losses from the formula, their traps."""

import copy
import math

import pytest
import torch

import compress as job
from speech_pareto import architecture, method, model, training
from speech_pareto.student import add_heads, fold
from speech_pareto.task import TaskModel as Task
from speech_pareto.task import load_task_model, make_task, save_head
from test_compress import RUN, corpus  # noqa: F401 (a fixture)
from test_methods import KINDS, backbone, compress

BASE = {"model_type": "hubert"}
LEARN = ("masking_distillation", "starhubert", "distilhubert")
FRAMES = 50, 32  # of the audio below


@pytest.fixture(scope="module", params=KINDS)
def teacher(request):
    return backbone(request.param)


@pytest.fixture
def batch():
    """Return two utterances of unlike length, padded, and their attention mask."""
    waves = torch.randn(2, 4000, generator=torch.Generator().manual_seed(7))
    mask = torch.ones(2, 4000).long()
    waves[1, 2600:], mask[1, 2600:] = 0, 0
    return {"input_values": waves, "attention_mask": mask}


def learner(name, teacher, **settings):
    """Return a method and its untrained student, heads on, in train mode."""
    step = method.make({name: settings})
    student, _ = compress([{name: {**settings, "steps": 0}}], teacher, 0.5)
    number = step.heads if name == "distilhubert" else step.heads(model.describe(student))
    add_heads(student, teacher, number, 1)
    return step, student.train()


def layers(made, batch, mask=None):
    """Return layer outputs in float64, the input of the first layer before them."""
    inputs = batch | {"mask_time_indices": mask}
    with torch.no_grad():
        return [x.double() for x in made(**inputs, output_hidden_states=True).hidden_states]


def linear(head, x):
    """Return what a linear layer makes of `x`, in float64."""
    return x @ head.weight.detach().double().T + head.bias.detach().double()


# name, settings, parameters without heads, of the heads
PUBLISHED = {
    "armhubert": ("masking_distillation", {"width": 480, "ffn": 864}, 22_015_552, 4_432_896),
    "armhubert-s": ("masking_distillation", {"width": 432, "ffn": 816}, 18_403_552, 3_990_528),
    "maskhubert": (
        "masking_distillation",
        {"width": 480, "ffn": 640, "reuse": "none"},
        22_202_944,
        4_432_896,
    ),
    "starhubert": ("starhubert", {"width": 432, "ffn": 976}, 22_309_024, 0),
    "starhubert-l": ("starhubert", {"width": 480, "ffn": 1024}, 26_631_232, 0),
}
WITH_HEADS = {"armhubert": 26_448_448, "armhubert-s": 22_394_080, "maskhubert": 26_635_840}


@pytest.mark.parametrize("recipe", PUBLISHED)
@pytest.mark.parametrize("kind", KINDS)
def test_published_sizes_to_the_last_parameter(recipe, kind):
    name, settings, size, heads = PUBLISHED[recipe]
    teacher = {"model_type": kind}
    step = method.make({name: settings})
    student = step.solve(teacher, 0.5).config
    assert architecture.count(student)["total"] == size
    assert sum(p.numel() for p in model.build(student).parameters()) == size
    assert step.head_parameters(teacher, student) == heads
    assert size + heads == WITH_HEADS.get(recipe, size)
    ratio = 1 - size / architecture.count(teacher)["total"]
    assert method.solve([{name: settings}], teacher, round(ratio, 2)).reason is None


def test_distilhubert_has_its_size():
    teacher = BASE | {"mask_time_prob": 0.0}  # the published student has no mask vector
    step = method.make({"distilhubert": {"layers": 2}})
    student = step.solve(teacher, 0.75).config
    assert architecture.count(student)["total"] == 23_492_224
    assert sum(p.numel() for p in model.build(student).parameters()) == 23_492_224
    assert step.head_parameters(teacher, student) == 3 * 590_592
    assert architecture.count(step.solve(BASE, 0.75).config)["total"] == 23_492_224 + 768


def test_the_ratio_alone_leads_near_the_published_shapes():
    mask = method.make({"masking_distillation": {"reuse": "none"}})
    ratio = 1 - 22_202_944 / 94_371_712
    assert mask.solve(BASE, ratio).knobs == {"width": 480, "ffn": 640}
    reused = method.make("masking_distillation").solve(BASE, ratio).knobs
    assert reused == {"width": 480, "ffn": 880}  # published: 864, of somewhat fewer parameters
    smaller = method.make("masking_distillation").solve(BASE, 1 - 18_403_552 / 94_371_712).knobs
    assert smaller == {"width": 432, "ffn": 816}


def test_a_slim_stem_gives_the_teachers_frames():
    student = model.build(method.make("starhubert").solve(BASE, 0.75).config)
    plain = model.build(BASE)
    for samples in (400, 16_000, 16_321, 99_999):
        lengths = [m._get_feat_extract_output_lengths(samples) for m in (student, plain)]
        assert lengths[0] == lengths[1]
    assert isinstance(student.feature_projection.projection, torch.nn.Identity)


def test_a_width_that_cannot_be_is_said():
    solution = method.solve([{"starhubert": {"width": 500}}], BASE, 0.75)
    assert "width 500 is not a multiple of 48" in solution.reason
    config = BASE | {"mask_time_prob": 0.0}
    assert "no mask vector" in method.solve(["masking_distillation"], config, 0.7).reason


def test_masking_distillation_is_the_formula(teacher, batch):
    step, student = learner("masking_distillation", teacher, hint=0.3, mask_span=4)
    torch.manual_seed(11)
    loss = step.loss(student, teacher, batch).item()
    torch.manual_seed(11)
    mask = training.span_mask(torch.tensor(FRAMES), 0.8, 4, FRAMES[0])
    assert 0.2 < mask.float().mean() < 0.8 and not mask[1, FRAMES[1] :].any()
    clean, masked = layers(teacher, batch), layers(teacher, batch, mask)
    ours, expected = layers(student.eval(), batch, mask), 0.0
    for layer in (1, 2, 3):
        predicted = linear(student.heads[layer - 1], ours[layer])
        weight = 1.0 if layer == 3 else 0.3
        for b in range(2):
            for t in range(FRAMES[b]):
                target = (clean if mask[b, t] else masked)[layer][b, t]
                error = ((predicted[b, t] - target) ** 2).mean().item()
                expected += weight * error / sum(FRAMES)
    assert loss == pytest.approx(expected, rel=1e-4)


def test_starhuberts_loss_is_the_formula(teacher, batch):
    step, student = learner("starhubert", teacher)
    loss = step.loss(student, teacher, batch).item()
    ours, theirs, expected = layers(student.eval(), batch), layers(teacher, batch), 0.0
    width = student.config.hidden_size
    assert width != 48
    for layer in (1, 2, 3):
        for other in (layer, layer - 1):
            for b, time in enumerate(FRAMES):
                a = ours[other][b, :time] @ ours[layer][b, :time].T / width
                c = theirs[other][b, :time] @ theirs[layer][b, :time].T / 48
                expected += ((a - c) ** 2).mean().item() / 2
    assert loss == pytest.approx(expected, rel=1e-4)


def test_distilhuberts_loss_is_the_formula(teacher, batch):
    step, student = learner("distilhubert", teacher, cosine=0.7)
    loss = step.loss(student, teacher, batch).item()
    ours, theirs, expected = layers(student.eval(), batch), layers(teacher, batch), 0.0
    for layer, head in zip((1, 2, 3), student.heads, strict=True):
        for b in range(2):
            for t in range(FRAMES[b]):
                x, y = linear(head, ours[-1][b, t]), theirs[layer][b, t]
                cosine = (x @ y / (x.norm() * y.norm())).item()
                value = (x - y).abs().mean().item() + 0.7 * math.log1p(math.exp(-cosine))
                expected += value / sum(FRAMES) / 3
    assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", LEARN)
def test_padding_teaches_nothing(name, teacher, batch):
    step, student = learner(name, teacher)
    values = []
    for filler in (0.0, 5.0):
        batch["input_values"][1, 2600:] = filler
        torch.manual_seed(2)
        values.append(step.loss(student, teacher, batch).item())
    assert values[0] == pytest.approx(values[1], rel=1e-5)


@pytest.mark.parametrize("name", LEARN)
def test_the_teacher_stays_in_eval_mode_and_draws_no_dropout(name, batch):
    teacher = backbone("hubert", hidden_dropout=0.5, mask_time_prob=0.5)
    step, student = learner(name, teacher)
    seen = []
    teacher.register_forward_pre_hook(lambda module, args: seen.append(module.training))
    settings = training.Training(steps=2, learning_rate=1e-3, precision="fp32")
    training.train(
        student,
        lambda step, generator: batch,
        lambda batch: (step.loss(student, teacher, batch), {}),
        settings,
        seed=1,
    )
    assert seen and not any(seen)
    assert not any(module.training for module in teacher.modules())


def test_masks_reach_both_models_though_the_loop_turns_them_off(batch):
    """The loop sets apply_spec_augment to False, and transformers then ignores a given mask."""
    teacher = backbone("hubert")
    step, student = learner("masking_distillation", teacher)
    student.config.apply_spec_augment = teacher.config.apply_spec_augment = False
    step.loss(student, teacher, batch).backward()
    assert student.masked_spec_embed.grad.abs().sum() > 0
    assert not student.config.apply_spec_augment and not teacher.config.apply_spec_augment
    unlike = copy.deepcopy(teacher)
    with torch.no_grad():
        unlike.masked_spec_embed.add_(3.0)
    values = []
    for one in (teacher, unlike):
        torch.manual_seed(3)
        values.append(step.loss(student, one, batch).item())
    assert values[0] != pytest.approx(values[1], rel=1e-3)


@pytest.mark.parametrize("name", LEARN)
def test_training_brings_the_student_nearer_and_leaves_no_heads(name, batch):
    teacher, errors = backbone("hubert"), []
    for steps in (1, 30):
        step = {name: {"steps": steps, "learning_rate": 1e-3}}
        student, _ = compress([step], teacher, 0.5)
        student.eval()
        assert not hasattr(student, "heads")
        ours, theirs = layers(student, batch)[-1], layers(teacher, batch)[-1]
        if name == "starhubert":  # it has none to begin with
            assert not hasattr(student, "readout")
            student.heads = torch.nn.ModuleList()
            errors.append(method.make(name).loss(student, teacher, batch).item())
        else:
            weight, bias = student.readout
            errors.append((ours @ weight.double().T + bias - theirs).square().mean().item())
    assert errors[1] < 0.97 * errors[0]


def test_the_last_head_is_what_stays():
    student = backbone("hubert")
    add_heads(student, student, 3, 1)
    last = student.heads[-1]
    fold(student)
    assert not hasattr(student, "heads")
    assert torch.equal(student.readout[0], last.weight) and torch.equal(
        student.readout[1], last.bias
    )


def with_task_head(made, folder, protocol="finetune"):
    """Save a backbone with a CTC head for letters; return the task's settings."""
    settings = {"kind": "ctc", "unit": "characters", "metric": "cer", "protocol": protocol}
    task = make_task(settings, ["", "a", "b", "c"])
    model.save(made, folder)
    save_head(Task(made, task.outputs, protocol), task, folder)
    return settings


@pytest.mark.parametrize("name", LEARN)
def test_the_task_head_of_the_teacher_reads_the_student(name, corpus, batch, tmp_path):  # noqa: F811
    made = backbone("hubert")
    settings = with_task_head(made, tmp_path / "teacher")
    step = {name: {"steps": 3, "batch_seconds": 2.0}}
    job.main([step], 0.5, 1, tmp_path / "teacher", [corpus], RUN, tmp_path / "student")
    student = model.load(tmp_path / "student")
    assert not any("heads" in key for key in student.state_dict())
    found = load_task_model(settings, student, tmp_path / "student")
    if name == "starhubert":  # no heads, another width: a new head begins
        assert found is None
        return
    task = found[0].eval()
    logits, _ = task(batch["input_values"], batch["attention_mask"])
    own, _ = load_task_model(settings, made, tmp_path / "teacher")
    assert task.head.weight.shape == (own.head.weight.shape[0], student.config.hidden_size)
    assert logits.isfinite().all()


def test_hand_on_head_folds_the_readout(tmp_path):
    made = backbone("hubert")
    settings = with_task_head(made, tmp_path)
    own, _ = load_task_model(settings, made, tmp_path)
    student, _ = compress([{"starhubert": {"steps": 0}}], made, 0.5)
    width = student.config.hidden_size
    student.readout = torch.randn(48, width), torch.randn(48)
    (tmp_path / "student").mkdir()
    job.hand_on_head(tmp_path / job.HEAD, student, tmp_path / "student" / job.HEAD)
    folded, _ = load_task_model(settings, student, tmp_path / "student")
    hidden = torch.randn(5, width)
    expected = own.head(hidden @ student.readout[0].T + student.readout[1])
    assert torch.allclose(folded.head(hidden), expected, atol=1e-4)


def test_a_probe_of_all_layers_begins_anew_when_there_are_fewer(tmp_path):
    made = backbone("hubert")
    with_task_head(made, tmp_path, "probe")
    for name, there in (("ffn_pruning", True), ("distillation", False)):
        student, _ = compress([{name: dict(method.load(name).example)}], made, 0.5)
        target = tmp_path / f"{name}.safetensors"
        job.hand_on_head(tmp_path / job.HEAD, student, target)
        assert target.is_file() == there
