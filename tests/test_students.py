"""Thin students: published sizes to the last parameter, losses from the formula, their traps."""

import copy
import math
from functools import partial

import pytest
import torch

import compress as job
from helpers import KINDS
from helpers.backbones import backbone, with_task_head
from helpers.compressing import RECIPES, compress, train
from helpers.formulas import BASE, FRAMES, linear
from helpers.results import RUN
from speech_pareto.compression import method, recipes
from speech_pareto.compression.methods.distilhubert import projections
from speech_pareto.compression.parts.thin_student import add_projections, fold
from speech_pareto.models import architecture, operations
from speech_pareto.models import backbone as model
from speech_pareto.profiling import cost
from speech_pareto.tasks.task import load_task_model
from speech_pareto.training import loop, masking

LEARN = ("masking_distillation", "starhubert", "distilhubert", "fithubert")


def learner(name, teacher, **settings):
    """Return a method and its untrained student, heads on, in train mode."""
    step = recipes.make({name: settings})
    student, _ = compress([{name: {**settings, "steps": 0}}], teacher, 0.5)
    if name == "distilhubert":
        student.projections = projections(step.predicted_layers, 48, 48)
    else:
        add_projections(student, teacher, step.projections(model.describe(student)), 1)
    return step, student.train()


def layers(made, batch, mask=None):
    """Return layer outputs in float64, the input of the first layer before them."""
    inputs = batch | {"mask_time_indices": mask}
    with torch.no_grad():
        return [x.double() for x in made(**inputs, output_hidden_states=True).hidden_states]


# recipe: parameters without heads, of the heads, ratio of HuBERT Base
PUBLISHED = {
    "armhubert": (22_015_552, 4_432_896, 0.77),
    "armhubert-s": (18_403_552, 3_990_528, 0.80),
    "maskhubert": (22_202_944, 4_432_896, 0.76),
    "starhubert": (22_309_024, 0, 0.76),
    "starhubert-l": (26_631_232, 0, 0.72),
}
WITH_HEADS = {"armhubert": 26_448_448, "armhubert-s": 22_394_080, "maskhubert": 26_635_840}


def only(recipe, teacher, ratio):
    """Return the method of a recipe of one step, and the student's config."""
    solution = recipes.solve(RECIPES[recipe], teacher, ratio)
    assert solution.reason is None
    return recipes.make_all(RECIPES[recipe])[0], solution.config


@pytest.mark.parametrize("recipe", PUBLISHED)
@pytest.mark.parametrize("kind", KINDS)
def test_published_sizes_to_the_last_parameter(recipe, kind):
    size, heads, ratio = PUBLISHED[recipe]
    step, student = only(recipe, {"model_type": kind}, ratio)
    assert architecture.count(student)["total"] == size
    assert sum(p.numel() for p in model.build(student).parameters()) == size
    assert step.projection_parameters({"model_type": kind}, student) == heads
    assert size + heads == WITH_HEADS.get(recipe, size)


def test_a_config_that_counts_its_convolutions_is_slimmed():
    published = BASE | {"num_feat_extract_layers": 7}  # as in facebook/hubert-base-ls960
    _, student = only("armhubert", published, 0.77)
    assert len(model.build(student).feature_extractor.conv_layers) == 9


def test_projections_of_a_recipe_are_counted_from_its_sizing():
    count = recipes.projection_parameters(RECIPES["armhubert"], BASE, 0.77)
    assert count == PUBLISHED["armhubert"][1]


def test_distilhubert_has_its_size():
    teacher = BASE | {"mask_time_prob": 0.0}  # the published student has no mask vector
    step, student = only("distilhubert", teacher, 0.75)
    assert architecture.count(student)["total"] == 23_491_200
    assert sum(p.numel() for p in model.build(student).parameters()) == 23_491_200
    assert step.projection_parameters(teacher, student) == 3_543_552
    made = projections(3, 768, 768)
    assert sum(p.numel() for p in made.parameters()) == 3_543_552
    assert architecture.count(step.solve(BASE, 0.75).config)["total"] == 23_491_200 + 768
    wavlm = architecture.count(only("distilhubert", {"model_type": "wavlm"}, 0.75)[1])
    assert wavlm["projection"] == 2 * 512 + 512 * 768 + 768  # WavLM's config cannot leave it out


def test_the_ratio_alone_leads_near_the_published_shapes():
    mask = recipes.make({"masking_distillation": {"reuse": "none"}})
    ratio = 1 - 22_202_944 / 94_371_712
    assert mask.solve(BASE, ratio).knobs == {"width": 480, "ffn": 640}
    reused = recipes.make("masking_distillation").solve(BASE, ratio).knobs
    assert reused == {"width": 480, "ffn": 880}  # published: 864, of somewhat fewer parameters
    smaller = recipes.make("masking_distillation").solve(BASE, 1 - 18_403_552 / 94_371_712).knobs
    assert smaller == {"width": 432, "ffn": 816}


def test_a_slim_stem_gives_the_teachers_frames():
    student = model.build(recipes.make("starhubert").solve(BASE, 0.75).config)
    plain = model.build(BASE)
    for samples in (400, 16_000, 16_321, 99_999):
        lengths = [m._get_feat_extract_output_lengths(samples) for m in (student, plain)]
        assert lengths[0] == lengths[1]
    assert isinstance(student.feature_projection.projection, torch.nn.Identity)


def test_a_width_that_cannot_be_is_said():
    solution = recipes.solve([{"starhubert": {"width": 500}}], BASE, 0.75)
    assert "width 500 is not a multiple of 48" in solution.reason
    config = BASE | {"mask_time_prob": 0.0}
    assert "no mask vector" in recipes.solve(["masking_distillation"], config, 0.7).reason


def test_masking_distillation_is_the_formula(teacher, batch):
    step, student = learner("masking_distillation", teacher, hint=0.3, mask_span=4)
    torch.manual_seed(11)
    loss = step.loss(student, teacher, batch).item()
    torch.manual_seed(11)
    mask = masking.span_mask(torch.tensor(FRAMES), 0.8, 4, FRAMES[0])
    assert 0.2 < mask.float().mean() < 0.8 and not mask[1, FRAMES[1] :].any()
    clean, masked = layers(teacher, batch), layers(teacher, batch, mask)
    ours, expected = layers(student.eval(), batch, mask), 0.0
    for layer in (1, 2, 3):
        predicted = linear(student.projections[layer - 1], ours[layer])
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
    inner, _, *outer = student.projections
    for layer, head in zip((1, 2, 3), outer, strict=True):
        for b in range(2):
            for t in range(FRAMES[b]):
                u = linear(inner, ours[-1][b, t])[48 * (layer - 1) : 48 * layer]
                u = u * (1 + torch.erf(u / math.sqrt(2))) / 2
                x, y = linear(head, u), theirs[layer][b, t]
                cosine = (x @ y / (x.norm() * y.norm())).item()
                value = (x - y).abs().mean().item() + 0.7 * math.log1p(math.exp(-cosine))
                expected += value / sum(FRAMES) / 3
    assert loss == pytest.approx(expected, rel=1e-4)


def test_distilhubert_starts_without_the_norm_of_the_features_and_damps_the_stem(batch):
    teacher, seen = backbone("hubert"), []

    def train(student, loss, **settings):
        assert student.feature_projection.layer_norm is None
        loss(batch).backward()
        seen.append(student.feature_extractor.conv_layers[0].conv.weight.grad)

    for factor in (1.0, 0.1):
        step = recipes.make({"distilhubert": {"stem_gradient": factor}})
        context = method.Context(1, teacher, train)
        sizing = step.solve(model.describe(teacher), 0.5)
        student = step.compress(copy.deepcopy(teacher), sizing, context)
        assert model.describe(student)["feat_proj_layer_norm"] is False
        assert student.readout is False and not hasattr(student, "heads")
    assert torch.allclose(seen[1], 0.1 * seen[0], rtol=1e-4)


def test_fithuberts_loss_is_the_formula(teacher, batch):
    step, student = learner("fithubert", teacher, hint=0.3)
    loss = step.loss(student, teacher, batch).item()
    ours, theirs, expected = layers(student.eval(), batch), layers(teacher, batch), 0.0
    for layer, head in enumerate(student.projections, 1):
        for b, time in enumerate(FRAMES):  # even numbers: no frame is left over
            if layer == 3:
                predicted = linear(head, ours[layer][b])
            else:  # frame t comes from frame t // 2 of half as many, through tap t % 2
                taps = head[0].conv.weight.detach().double()  # (D, D, 2)
                rows = [ours[layer][b, t] @ taps[:, :, t % 2] for t in range(time)]
                predicted = linear(head[1], torch.stack(rows) + head[0].conv.bias.double())
            errors = (predicted[:time] - theirs[layer][b, :time]) ** 2
            weight = 1.0 if layer == 3 else 0.3
            expected += weight * errors.mean(1).sum().item() / sum(FRAMES)
    assert loss == pytest.approx(expected, rel=1e-4)


def test_fithubert_has_its_sizes():
    teacher = BASE | {"mask_time_prob": 0.0}  # the published student has no mask vector
    step, student = only("fithubert", teacher, 0.77)
    size, heads = architecture.count(student)["total"], step.projection_parameters(teacher, student)
    assert size == sum(p.numel() for p in model.build(student).parameters()) == 21_661_376
    # The last head reads the student's own upsampling; the released model holds it twice.
    matrix, upsampling = 480 * 768 + 768, architecture.resampling_parameters(student)
    assert upsampling == 480 * 480 * 2 + 480
    assert size + matrix + upsampling == 22_492_064
    assert size + heads + upsampling == 31_629_632


@pytest.mark.parametrize("samples", [2640, 2700, 3999])
def test_half_the_frames_are_no_matter_outside(samples):
    """Odd or even, alone or in a batch, an utterance gives the same, as many as the teacher's."""
    student, _ = compress([{"fithubert": {"steps": 0}}], backbone("hubert"), 0.5)
    waves, mask = torch.randn(2, 4080), torch.ones(2, 4080).long()
    waves[1, samples:], mask[1, samples:] = 0, 0
    out = student(waves, attention_mask=mask, output_hidden_states=True)
    assert {x.shape[1] for x in out.hidden_states} == {4080 // 80}
    alone = student(waves[1:, :samples]).last_hidden_state
    assert alone.shape[1] == samples // 80
    together = out.last_hidden_state[1:, : alone.shape[1]]
    assert torch.allclose(alone, together, atol=1e-5)


def test_layers_run_at_half_the_rate():
    made = backbone("hubert")
    student, _ = compress([{"fithubert": {"steps": 0}}], made, 0.5)
    seen = []
    for layer in student.encoder.layers:
        layer.attention.register_forward_hook(lambda m, args, out: seen.append(out[0].shape[1]))
    hidden = student(torch.randn(1, 4080)).last_hidden_state  # 51 frames: the last one is dropped
    assert seen == [25, 25, 25]
    assert torch.equal(hidden[:, 50], hidden[:, 49]) and not torch.equal(
        hidden[:, 49], hidden[:, 48]
    )


def test_fithubert_learns_whole_pairs_alone():
    teacher = backbone("hubert")
    step, student = learner("fithubert", teacher)
    waves, mask = torch.randn(2, 4000), torch.ones(2, 4000).long()
    mask[1, 2680:] = 0  # 33 frames
    batch, found = {"input_values": waves * mask, "attention_mask": mask}, []
    with torch.no_grad():
        for one in (slice(0, 1), slice(1, 2)):
            found.append(step.loss(student, teacher, {k: v[one] for k, v in batch.items()}).item())
        both = step.loss(student, teacher, batch).item()
    assert both == pytest.approx((50 * found[0] + 32 * found[1]) / 82, rel=1e-4)


@pytest.mark.parametrize("recipe", ["masking_distillation", "fithubert"])
def test_macs_are_planned_as_they_are_measured(recipe, teacher):
    student, _ = compress([{recipe: {"steps": 0}}], teacher, 0.5)
    for seconds in (0.5, 0.51):  # 100 and 102 frames of 5 ms
        planned = operations.macs(model.describe(student), seconds)["total"]
        assert planned == cost.macs(student, cost.noise(seconds))


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
    settings = loop.Training(steps=2, learning_rate=1e-3, precision="fp32")
    loop.train(
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


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARN)
def test_training_brings_the_student_nearer_and_leaves_no_heads(name, batch):
    teacher, errors = backbone("hubert"), []
    for steps in (1, 30):
        step = {name: {"steps": steps, "learning_rate": 1e-3}}
        student, _ = compress([step], teacher, 0.5)
        student.eval()
        assert not hasattr(student, "heads")
        ours, theirs = layers(student, batch)[-1], layers(teacher, batch)[-1]
        if name == "distilhubert":  # its heads are not linear: none can be folded
            assert student.readout is False
            step, student = learner(name, teacher)
            train(student, partial(step.loss, student, teacher), 1 + steps)
            errors.append(step.loss(student, teacher, batch).item())
        elif name == "starhubert":  # it has none to begin with
            assert not hasattr(student, "readout")
            student.projections = torch.nn.ModuleList()
            errors.append(recipes.make(name).loss(student, teacher, batch).item())
        else:
            weight, bias = student.readout
            errors.append((ours @ weight.double().T + bias - theirs).square().mean().item())
    assert errors[1] < 0.97 * errors[0]


@pytest.mark.parametrize(
    "chain",
    [
        [{"masking_distillation": {"steps": 1, "ratio": 0.3}}, "ffn_pruning"],
        [{"starhubert": {"steps": 1, "ratio": 0.3}}, "head_pruning"],
        [{"distilhubert": {"steps": 1, "ratio": 0.3}}, "low_rank"],
        [{"fithubert": {"steps": 1, "ratio": 0.3}}, "layer_drop"],
        [{"fithubert": {"steps": 1, "ratio": 0.35}}, "attention_reuse"],
        [{"ffn_pruning": {"ratio": 0.2}}, {"fithubert": {"steps": 1}}],
    ],
    ids=lambda chain: "-".join(next(iter(s)) if isinstance(s, dict) else s for s in chain),
)
def test_students_are_cut_like_any_model(chain, batch, tmp_path):
    student, solution = compress(chain, backbone("hubert"), 0.4)
    assert solution.reason is None
    before = student.eval()(**batch).last_hidden_state
    model.save(student, tmp_path / "student")
    assert torch.equal(model.load(tmp_path / "student")(**batch).last_hidden_state, before)
    twin = copy.deepcopy(student)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert torch.equal(twin(**batch).last_hidden_state, before)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARN)
def test_a_job_leaves_the_same_bytes_twice(name, corpus, tmp_path):
    with_task_head(backbone("hubert"), tmp_path / "teacher")
    for folder in (tmp_path / "a", tmp_path / "b"):
        torch.manual_seed(len(folder.name))
        step = {name: {"steps": 2, "batch_seconds": 2.0}}
        job.main([step], 0.5, 1, tmp_path / "teacher", [corpus], RUN, folder, precision="fp32")
    names = [sorted(path.name for path in (tmp_path / x).iterdir()) for x in "ab"]
    assert names[0] == names[1] and "model.safetensors" in names[0]
    for name in names[0]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_the_last_head_is_what_stays():
    student = backbone("hubert")
    add_projections(student, student, 3, 1)
    last = student.projections[-1]
    fold(student)
    assert not hasattr(student, "heads")
    assert torch.equal(student.readout[0], last.weight) and torch.equal(
        student.readout[1], last.bias
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARN)
def test_the_task_head_of_the_teacher_reads_the_student(name, corpus, batch, tmp_path):
    made = backbone("hubert")
    settings = with_task_head(made, tmp_path / "teacher")
    step = {name: {"steps": 3, "batch_seconds": 2.0}}
    job.main([step], 0.5, 1, tmp_path / "teacher", [corpus], RUN, tmp_path / "student")
    student = model.load(tmp_path / "student")
    assert not any("heads" in key for key in student.state_dict())
    found = load_task_model(settings, student, tmp_path / "student")
    if name in ("starhubert", "distilhubert"):  # nothing linear leads to the teacher: a new head
        assert found is None
        return
    task = found[0].eval()
    logits, _ = task(batch["input_values"], batch["attention_mask"])
    own, _ = load_task_model(settings, made, tmp_path / "teacher")
    assert task.head.weight.shape == (own.head.weight.shape[0], student.config.hidden_size)
    assert logits.isfinite().all()
