"""Units of the teacher: how they are fitted, what is learnt on them, what masks hide."""

import copy
import math

import numpy as np
import pytest
import torch

import compress as job
from helpers import KINDS
from helpers.backbones import backbone
from helpers.compressing import batches, train
from helpers.folders import files
from helpers.results import RUN
from speech_pareto.compression import catalogue, method, recipes
from speech_pareto.compression.methods.distillation import dropout
from speech_pareto.compression.runner import batcher
from speech_pareto.data.corpus import read
from speech_pareto.models import architecture, hidden_states
from speech_pareto.models import backbone as model
from speech_pareto.training import hubert_units, loop, masking
from speech_pareto.training.settings import Unlabelled

UNITS = {"units": 4, "unit_seconds": 1.0}


@pytest.fixture(scope="module")
def teacher():
    return backbone("hubert", hidden_dropout=0.5, attention_dropout=0.5)


def context(teacher, train=train):
    return method.Context(1, teacher, train, batches)


def numbers(module):
    """Return weights and biases of a linear map in float64."""
    return (x.detach().double().numpy() for x in (module.weight, module.bias))


def test_masked_prediction_is_the_formula(teacher, batch):
    step = recipes.make({"iterative_pruning": UNITS})
    labeller, head = step.fit_units(context(teacher))
    predictor = hubert_units.UnitPredictor(copy.deepcopy(teacher), head).eval()
    torch.manual_seed(3)
    loss = step.loss(predictor, labeller, batch).item()
    torch.manual_seed(3)
    frames = [(n - 10) // 10 + 1 for n in (4000, 2600)]
    frames = [(n - 8) // 8 + 1 for n in frames]
    mask = masking.span_mask(torch.tensor(frames), 0.52, 8, frames[0])
    inner = teacher(**batch, output_hidden_states=True).hidden_states[2].detach()
    hidden = predictor.backbone(**batch, mask_time_indices=mask).last_hidden_state.detach()
    weights, biases = numbers(head)
    terms = []
    for b, t in mask.nonzero().tolist():
        assert t < frames[b]
        distances = [
            ((inner[b, t].double().numpy() - c) ** 2).sum()
            for c in labeller.centres.double().numpy()
        ]
        logits = weights @ hidden[b, t].double().numpy() + biases
        terms.append(math.log(np.exp(logits).sum()) - logits[int(np.argmin(distances))])
    assert terms and loss == pytest.approx(np.mean(terms), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_an_utterance_is_named_once_and_whatever_it_is_heard_with(kind, corpus, monkeypatch):
    teacher, passes, names = backbone(kind), [], {}
    monkeypatch.setattr(hubert_units, "BLOCK", 150)  # a few utterances
    labeller, _ = hubert_units.fit(teacher, batches(20, 0.3), 2, 5, 1)
    teacher.feature_extractor.register_forward_hook(lambda *_: passes.append(1))
    settings = {"steps": 1, "learning_rate": 1e-3, "batch_seconds": 2.0}
    whole, cropped = (
        batcher([corpus], teacher, Unlabelled(**settings, **more), seed=1)
        for more in ({}, {"crop_seconds": 0.2})
    )
    _, stride = architecture.reach(model.describe(teacher))

    def heard(batch):
        found, real = labeller(batch), hidden_states.real_frames(teacher, batch)
        assert found.shape == real.shape
        return zip(batch["heard"], found, real.sum(1).tolist(), strict=True)

    for step in range(8):
        for (utterance, begin), found, frames in heard(whole(step)):
            assert begin == 0
            assert torch.equal(names.setdefault(utterance.id, found[:frames]), found[:frames])
    once = sum(len(own) > 0 for own in names.values())  # one is too short for some stems
    assert len(names) == 13 and len(passes) == once and 1 < len(labeller.blocks) < 13
    begins = set()
    for step in range(8):
        for (utterance, begin), found, frames in heard(cropped(step)):
            begins.add(begin)
            expected = names[utterance.id][begin // stride :][:frames]
            assert torch.equal(expected, found[:frames])
    assert len(begins) > 5 and len(passes) == once

    utterance = next(u for u in read(corpus) if u.samples > 6000)
    wave = torch.from_numpy(utterance.wave())[None]
    wave = (wave - wave.mean()) / wave.std() if teacher.preprocessor["do_normalize"] else wave
    states = teacher(wave, output_hidden_states=True).hidden_states[2][0].detach().double()
    apart = (states[:, None] - labeller.centres.double()).square().sum(-1)
    own = names[utterance.id]
    assert (apart.argmin(1)[: len(own)] == own).double().mean() > 0.9  # it was padded a little
    monkeypatch.setattr(hubert_units, "WINDOW", 2000)
    assert len(labeller._of(utterance.wave())) == len(own) and len(passes) > once + 2


def test_names_are_the_same_for_those_who_compute_in_bf16_and_forgotten_with_dropout(
    teacher, corpus
):
    labeller, _ = hubert_units.fit(teacher, batches(20, 0.3), 2, 5, 1)
    settings = Unlabelled(steps=1, learning_rate=1e-3, batch_seconds=2.0)
    batch = batcher([corpus], teacher, settings, seed=1)(0)
    with dropout(teacher, True):
        noisy = [labeller(batch) for _ in range(2)]
    assert not torch.equal(*noisy) and not labeller.places
    with torch.autocast("cpu", torch.bfloat16):
        found = labeller(batch)
    other, _ = hubert_units.fit(teacher, batches(20, 0.3), 2, 5, 1)
    assert torch.equal(found, other(batch)) and labeller.places == other.places


def test_the_head_knows_the_units_before_any_training(teacher):
    labeller, head = hubert_units.fit(teacher, batches(100, 0.3), 2, 4, 1)
    batch = batches(1, 0.3)[0]
    real = hidden_states.real_frames(teacher, batch)
    predicted = hubert_units.UnitPredictor(teacher, head)(*batch.values()).argmax(-1)[real]
    labels = labeller(batch)[real]
    most = labels.bincount().max() / len(labels)
    assert (predicted == labels).float().mean() > most + 0.4


def test_the_head_is_a_regularised_logistic_regression(teacher):
    audio = batches(20, 0.3)
    labeller, head = hubert_units.fit(teacher, audio, 2, 4, 1)
    states, labels = [], []
    for batch in audio:
        real = hidden_states.real_frames(teacher, batch)
        states.append(teacher(**batch).last_hidden_state[real].detach().double().numpy())
        labels.append(labeller(batch)[real].numpy())
    states, labels = np.concatenate(states), np.concatenate(labels)
    weights, biases = numbers(head)

    def loss(weights, biases):
        logits = states @ weights.T + biases
        each = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
        return hubert_units.LOOSENESS * each.sum() + (weights**2).sum() / 2

    best, generator = loss(weights, biases), np.random.default_rng(0)
    for _ in range(20):
        step = 1e-2 * generator.normal(size=weights.shape)
        assert loss(weights + step, biases) > best


def test_a_mask_hides_frames_whatever_a_config_says_of_spec_augment(teacher, batch):
    """transformers ignores masks where a config switches SpecAugment off: a silent trap."""
    student = copy.deepcopy(teacher)
    student.config.apply_spec_augment = False
    predictor = hubert_units.UnitPredictor(student, torch.nn.Linear(48, 4)).eval()
    mask = hidden_states.real_frames(teacher, batch)
    heard, hidden = (predictor(*batch.values(), given) for given in (None, mask))
    assert not torch.allclose(heard, hidden)
    student.config.apply_spec_augment, student.config.mask_time_prob = True, 0.9
    assert torch.equal(predictor(*batch.values()), heard)


@pytest.mark.parametrize(
    "step",
    ["iterative_pruning", "data_driven_head_pruning", {"unit_distillation": {"masked": True}}],
)
def test_a_model_without_a_mask_vector_is_refused(step):
    config = model.tiny_config(mask_time_prob=0.0).to_dict()
    assert "mask vector" in recipes.solve([step], config, 0.2).reason
    for other in ({"iterative_pruning": {"objective": "layer_distillation"}}, "unit_distillation"):
        assert recipes.solve([other], config, 0.2).reason is None


@pytest.mark.parametrize("masked", [False, True])
def test_unit_distillation_is_the_divergence(masked, teacher, batch):
    step = recipes.make({"unit_distillation": {"masked": masked, "temperature": 2.0, **UNITS}})
    _, head = step.fit_units(context(teacher))
    other = copy.deepcopy(head)
    other.weight.data.mul_(-5.0)
    student = hubert_units.UnitPredictor(copy.deepcopy(teacher), other).eval()
    torch.manual_seed(3)
    loss = step.loss(student, hubert_units.UnitPredictor(teacher, head), batch).item()
    torch.manual_seed(3)
    mask = step.mask(teacher, batch) if masked else None
    counted = mask if masked else hidden_states.real_frames(teacher, batch)
    states = teacher(**batch, mask_time_indices=mask).last_hidden_state[counted]
    logits = (states.detach().double().numpy() @ w.T + b for w, b in map(numbers, (head, other)))
    p, q = (np.exp(z / 2) / np.exp(z / 2).sum(1, keepdims=True) for z in logits)
    assert loss == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-4)
    assert loss > 0.01


def test_a_student_can_take_its_teachers_place_in_the_prediction_of_units(teacher, batch):
    """DiceHuBERT's objective: the units of masked frames, which a student's own head names."""
    step = recipes.make({"unit_distillation": {"learn": "units", "layers": 2, **UNITS}})
    labeller, head = step.fit_units(context(teacher))
    found = {}

    def stop(student, loss, **settings):
        student.eval()
        torch.manual_seed(3)
        found["loss"] = loss(batch).item()
        torch.manual_seed(3)
        mask = step.mask(student.backbone, batch)
        hidden = hidden_states.states(student.backbone, batch, mask)[-1][mask]
        inner = hidden_states.states(teacher, batch)[labeller.layer][mask]
        apart = (inner[:, None].detach().double() - labeller.centres.double()).square().sum(-1)
        weights, biases = numbers(head)
        logits = hidden.detach().double().numpy() @ weights.T + biases
        each = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), apart.argmin(1)]
        found["expected"] = each.mean()

    step.compress(
        copy.deepcopy(teacher), step.solve(model.describe(teacher), 0.3), context(teacher, stop)
    )
    assert found["loss"] == pytest.approx(found["expected"], rel=1e-4) and found["loss"] > 0.01
    unmasked = model.tiny_config(mask_time_prob=0.0).to_dict()
    assert "mask vector" in step.obstacle(unmasked)


@pytest.mark.parametrize("kind", KINDS)
def test_a_random_student_has_nothing_of_its_teacher(kind):
    teacher, students = backbone(kind), []
    step = recipes.make({"unit_distillation": {"start": "random", "layers": 2, **UNITS}})
    sizing = step.solve(model.describe(teacher), 0.4)
    for seed in (1, 1, 2):
        own = method.Context(seed, teacher, lambda *arguments, **settings: None, batches)
        students.append(dict(step.compress(copy.deepcopy(teacher), sizing, own).named_parameters()))
    for name, ours in students[0].items():
        theirs = dict(teacher.named_parameters())[name]
        assert torch.equal(ours, students[1][name])
        if "layer_norm" not in name and not name.endswith(("bias", "gru_rel_pos_const")):
            assert ours.shape != theirs.shape or not torch.equal(ours, theirs), name
            assert not torch.equal(ours, students[2][name]), name
    cut = recipes.solve(["head_pruning"], model.describe(teacher), 0.1).config
    assert "whole layers" in step.obstacle(cut)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("distillation", {}),
        ("unit_distillation", {}),
        ("dphubert", {}),
        ("iterative_pruning", {}),
        ("distillation", {"teacher_dropout": True}),
        ("unit_distillation", {"teacher_dropout": True}),
    ],
)
def test_the_teacher_is_in_eval_mode_unless_asked(name, settings, teacher, batch):
    seen = []

    def watch(student, loss, **settings):
        twice = [teacher(**batch).last_hidden_state for _ in range(2)]
        seen.append(torch.equal(*twice))
        loss(batch)
        assert not teacher.training  # it never skips layers or masks by itself

    step = recipes.make({name: {**catalogue.load(name).example, **settings}})
    sizing = step.solve(model.describe(teacher), 0.3)
    step.compress(copy.deepcopy(teacher), sizing, context(teacher, watch))
    assert set(seen) == {not settings}
    assert not any(module.training for module in teacher.modules())


def test_dropout_of_the_teacher_ends_with_an_error(teacher):
    with pytest.raises(KeyError), dropout(teacher, True):
        assert teacher.encoder.layers[0].training
        raise KeyError
    assert not teacher.encoder.layers[0].training


JOBS = {
    "iterative": {
        "iterative_pruning": {"schedule": [0.05, 0.1, 0.15], "patience": 1, "improvement": -9.0}
    },
    "units": {"unit_distillation": {"learn": "units"}},
    "dphubert": {"dphubert": {"steps": 4, "final_steps": 2}},
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "at"), [("iterative", 5), ("units", 2), ("dphubert", 5)])
def test_a_killed_job_ends_with_the_same_bytes(
    name, at, teacher_folder, corpus, tmp_path, monkeypatch
):
    ((method_, settings),) = JOBS[name].items()
    short = {"batch_seconds": 2.0, "steps": 3, **({} if name == "dphubert" else UNITS)}
    steps, keep = [{method_: short | settings}], loop.keep
    arguments = steps, 0.2, 1, teacher_folder, [corpus], RUN
    job.main(*arguments, tmp_path / "whole")
    saved = []

    def stop(*given):
        keep(*given)
        saved.append(given)
        if len(saved) == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "keep", stop)
        defaults = Unlabelled.__init__.__kwdefaults__
        patch.setitem(defaults, "checkpoint_seconds", 0.0)  # a checkpoint each step
        with pytest.raises(KeyboardInterrupt):
            job.main(*arguments, tmp_path / "a", tmp_path / "state")
    assert not (tmp_path / "a").exists()
    job.main(*arguments, tmp_path / "a", tmp_path / "state")
    assert files(tmp_path / "a") == files(tmp_path / "whole")
    assert not (tmp_path / "state").exists()
