"""Methods that prune while they train without labels: objectives, events, gates, resuming."""

import copy
import math

import numpy as np
import pytest
import torch

import compress as job
import test_compress
import test_methods
from speech_pareto import architecture, calibration, hard_concrete, method, model, units
from speech_pareto import training as training_loop
from speech_pareto.methods import dphubert, iterative_pruning
from speech_pareto.methods.distillation import Distillation, dropout
from speech_pareto.methods.ffn_pruning import row_scores
from speech_pareto.methods.head_pruning import head_scores
from test_compress import RUN, files
from test_methods import KINDS, backbone, batches, check_contract, train

UNITS = {"units": 4, "unit_seconds": 1.0}
audio, corpus, folder = test_methods.audio, test_compress.corpus, test_compress.teacher  # fixtures
WALK = {"steps": 1, "schedule": [0.05, 0.1, 0.15], **UNITS}


@pytest.fixture(scope="module")
def teacher():
    return backbone("hubert", hidden_dropout=0.5, attention_dropout=0.5)


def batch_of(audio):
    return {"input_values": audio[0], "attention_mask": audio[1]}


def context(teacher, train=train):
    return method.Context(1, teacher, train, batches)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings",
    [{"method": "head_pruning"}, {"method": "ffn_pruning", "objective": "layer_distillation"}],
    ids=lambda settings: settings["method"],
)
def test_the_contract_holds_for_heads_and_rows(kind, settings, audio, tmp_path):
    step = {"iterative_pruning": {**WALK, **settings}}
    check_contract(step, 0.2, backbone(kind), audio, tmp_path)


# Units


def test_masked_prediction_is_the_formula(teacher, audio):
    step = method.make({"iterative_pruning": UNITS})
    labeller, head = step.fit_units(context(teacher))
    predictor, batch = units.UnitPredictor(copy.deepcopy(teacher), head).eval(), batch_of(audio)
    torch.manual_seed(3)
    loss = step.loss(predictor, labeller, batch).item()
    torch.manual_seed(3)
    frames = [(n - 10) // 10 + 1 for n in (4000, 2600)]
    frames = [(n - 8) // 8 + 1 for n in frames]
    mask = training_loop.span_mask(torch.tensor(frames), 0.52, 8, frames[0])
    inner = teacher(*batch.values(), output_hidden_states=True).hidden_states[2].detach()
    hidden = predictor.backbone(**batch, mask_time_indices=mask).last_hidden_state.detach()
    weights, biases = head.weight.detach().double().numpy(), head.bias.detach().double().numpy()
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


def test_the_head_knows_the_units_before_any_training(teacher):
    labeller, head = units.fit(teacher, batches(100), 2, 4, 1)
    batch = batches(1)[0]
    predicted = units.UnitPredictor(teacher, head)(*batch.values()).argmax(-1)
    labels = labeller(batch)
    most = labels.flatten().bincount().max() / labels.numel()
    assert (predicted == labels).float().mean() > most + 0.1


def test_hiding_frames_changes_what_a_student_hears_in_the_job(folder, corpus):
    """transformers ignores masks where a config switches SpecAugment off: a silent trap."""
    student = model.load(folder)
    student.config.apply_spec_augment = False
    before, heard = model.describe(student), []

    def loss(batch):
        waves, attention_mask = batch.values()
        frames = student(waves, attention_mask).last_hidden_state.shape[1]
        mask = torch.ones(len(waves), frames, dtype=torch.bool)
        heard.append(student(waves, attention_mask, mask_time_indices=mask).last_hidden_state)
        heard.append(student(waves, attention_mask).last_hidden_state)
        heard.append(student(waves, attention_mask).last_hidden_state)
        return heard[0].square().mean()

    run = job.trainer([corpus], 1, None, "fp32")
    run(student, loss, steps=1, learning_rate=1e-3, batch_seconds=1.0)
    assert not torch.allclose(heard[0], heard[1]) and torch.equal(heard[1], heard[2])
    assert model.describe(student) == before


def test_a_model_without_a_vector_for_masked_frames_is_refused():
    config = model.tiny_config(mask_time_prob=0.0).to_dict()
    for step in ("iterative_pruning", {"unit_distillation": {"masked": True}}):
        assert "masked frames" in method.solve([step], config, 0.3).reason
    for step in ({"iterative_pruning": {"objective": "layer_distillation"}}, "unit_distillation"):
        assert method.solve([step], config, 0.3).reason is None


@pytest.mark.parametrize("masked", [False, True])
def test_unit_distillation_is_the_divergence(masked, teacher, audio):
    step = method.make({"unit_distillation": {"masked": masked, "temperature": 2.0, **UNITS}})
    _, head = step.fit_units(context(teacher))
    other = copy.deepcopy(head)
    other.weight.data.mul_(-5.0)
    student = units.UnitPredictor(copy.deepcopy(teacher), other).eval()
    batch, theirs = batch_of(audio), units.UnitPredictor(teacher, head)
    torch.manual_seed(3)
    loss = step.loss(student, theirs, batch).item()
    torch.manual_seed(3)
    real = calibration.real_frames(teacher, batch)
    mask = step.mask(teacher, batch) if masked else None
    waves, attention_mask = audio
    pairs = [
        predictor(waves, mask, attention_mask)[real if mask is None else mask].detach().double()
        for predictor in (theirs, student)
    ]
    p, q = (torch.exp(z / 2) / torch.exp(z / 2).sum(1, keepdim=True) for z in pairs)
    assert loss == pytest.approx((p * (p / q).log()).sum(1).mean().item(), rel=1e-4)
    assert loss > 0.01


def test_the_teacher_is_in_eval_mode_unless_asked(teacher, audio):
    seen = []

    def watch(student, loss, **settings):
        batch = batch_of(audio)
        twice = [teacher(**batch).last_hidden_state for _ in range(2)]
        seen.append(torch.equal(*twice))
        loss(batch)
        assert not teacher.training  # it never skips layers or masks by itself
        return [{"step": 1, "loss": 1.0}]

    for name in ("distillation", "unit_distillation", "dphubert", "iterative_pruning"):
        for settings in ({}, {"teacher_dropout": True}):
            if settings and "distillation" not in name:
                continue
            step = method.make({name: {**method.load(name).example, **settings}})
            plan = step.solve(model.describe(teacher), 0.3)
            step.compress(copy.deepcopy(teacher), plan, context(teacher, watch))
            assert set(seen) == {not settings}, name
            assert not any(module.training for module in teacher.modules())
            seen.clear()


def test_dropout_of_the_teacher_ends_with_an_error(teacher):
    with pytest.raises(KeyError), dropout(teacher, True):
        assert teacher.encoder.layers[0].training
        raise KeyError
    assert not teacher.encoder.layers[0].training


# Events


def test_each_event_takes_the_lowest_head_of_every_layer(teacher):
    sizes, ranks = [], []
    lowest = [head_scores(layer).argmin().item() for layer in teacher.encoder.layers]

    def watch(student, loss, **settings):
        ranks.append([layer.attention.heads for layer in student.encoder.layers])
        sizes.append(sum(p.numel() for p in student.parameters()))
        return train(student, loss, **settings)

    config = model.describe(teacher)
    total = architecture.remaining(config)
    head = architecture.head_parameters(config, architecture.layers_of(config)[0])
    share = 3 * head / total
    settings = {"method": "head_pruning", "schedule": [share, 2 * share], "steps": 1}
    step = method.make({"iterative_pruning": {**settings, "objective": "layer_distillation"}})
    plan = step.solve(config, 3 * share)
    assert plan.knobs["left"] == [total - 3 * head * k for k in (1, 2, 3)]
    student = step.compress(copy.deepcopy(teacher), plan, context(teacher, watch))
    assert sizes == plan.knobs["left"]
    assert [len(heads) for event in ranks for heads in event] == [5] * 3 + [4] * 3 + [3] * 3
    assert all(low not in heads for low, heads in zip(lowest, ranks[0], strict=True))
    assert architecture.remaining(model.describe(student)) == sizes[-1]


def test_scores_are_computed_anew_at_each_event(teacher):
    def boost(student, loss, **settings):
        layer = student.encoder.layers[0]  # training makes what was lowest the highest
        low = row_scores(layer).argmin()
        layer.feed_forward.intermediate_dense.weight.data[low] = 9.0
        return [{"step": 1, "loss": 1.0}]

    settings = {"method": "ffn_pruning", "schedule": [0.1], "objective": "layer_distillation"}
    step = method.make({"iterative_pruning": settings})
    plan = step.solve(model.describe(teacher), 0.2)
    student = step.compress(copy.deepcopy(teacher), plan, context(teacher, boost))
    weights = student.encoder.layers[0].feed_forward.intermediate_dense.weight
    assert (weights == 9.0).all(1).sum() == 2  # both boosted rows are there, one shot keeps none


def test_zeros_never_come_back_from_one_event_to_the_next(teacher):
    zeros = []

    def watch(student, loss, **settings):
        curve = train(student, loss, **settings)
        zeros.append({k: p == 0 for k, p in model.prunable(student.backbone).items()})
        return curve

    step = method.make({"iterative_pruning": {**WALK, "steps": 3}})
    plan = step.solve(model.describe(teacher), 0.3)
    step.compress(copy.deepcopy(teacher), plan, context(teacher, watch))
    total = architecture.remaining(model.describe(teacher))
    shares = [sum(int(z.sum()) for z in event.values()) / total for event in zeros]
    assert shares == pytest.approx([0.05, 0.1, 0.15, 0.3], abs=1e-4)
    for before, after in zip(zeros, zeros[1:], strict=False):
        assert all((after[key] | ~before[key]).all() for key in before)


def test_a_ratio_inside_the_schedule_ends_its_walk():
    step, config = method.make("iterative_pruning"), {"model_type": "hubert"}
    total = architecture.remaining(config)
    left = step.solve(config, 0.33).knobs["left"]
    shares = [1 - size / total for size in left]
    assert shares == pytest.approx([0.1, 0.2, 0.3, 0.33], abs=1e-6)
    assert len(step.solve(config, 0.3).knobs["left"]) == 3


@pytest.mark.parametrize("schedule", [[0.2, 0.1], [0.0, 0.1], [0.5, 1.0], ["a"], 0.3])
def test_a_schedule_must_rise(schedule):
    with pytest.raises(ValueError, match="iterative_pruning: schedule"):
        method.make({"iterative_pruning": {"schedule": schedule}})


# The gate


def smoothed(losses, d):
    """Return the published average after each loss: begun at the mean of the first three."""
    level, levels = sum(losses[:3]) / 3, [None, None]
    levels.append(level)
    for loss in losses[3:]:
        level = d * level + (1 - d) * loss
        levels.append(level)
    return levels


@pytest.mark.parametrize("slope", [-0.1, -0.004, -0.001, 0.02])
def test_the_gate_is_the_published_formula(slope):
    generator = np.random.default_rng(0)
    losses = (5 + slope * np.arange(40) + 0.01 * generator.normal(size=40)).tolist()
    levels = smoothed(losses, 0.9)
    expected = not levels[15] - 0.05 > levels[39]
    points = [(1, loss) for loss in losses]
    assert iterative_pruning.converged(points, 0.9, 24, 0.05) == expected
    assert expected == (slope > -0.002)


def test_the_gate_waits_and_gives_up_after_its_patience(teacher):
    calls = []

    def falling(until):
        def run(student, loss, steps, **settings):
            calls.append(steps)
            first = -1.0 * min(len(calls) - 1, until)
            fall = 1.0 if len(calls) <= until else 0.0
            return [{"step": k + 1, "loss": first - fall * k / steps} for k in range(steps)]

        return run

    settings = {"method": "ffn_pruning", "objective": "layer_distillation", "schedule": [0.1]}
    more = {"steps": 20, "patience": 4, "smoothing": 0.5}
    step = method.make({"iterative_pruning": {**settings, **more}})
    plan = step.solve(model.describe(teacher), 0.1)
    for until, expected in ((0, 1), (2, 3), (99, 5)):
        calls.clear()
        step.compress(copy.deepcopy(teacher), plan, context(teacher, falling(until)))
        assert len(calls) == expected


def test_points_of_a_curve_stand_for_the_steps_since_the_last():
    curve = [{"step": 250, "loss": 3.0}, {"step": 500, "loss": 2.0}, {"step": 600, "loss": 1.0}]
    assert iterative_pruning.windows(curve) == [(250, 3.0), (250, 2.0), (100, 1.0)]


# DPHuBERT


def gating_of(teacher, scale=40.0):
    generator = torch.Generator().manual_seed(0)
    return hard_concrete.Gating(copy.deepcopy(teacher), (0.2, 0.5), scale, generator)


def test_the_expected_size_is_the_closed_form_and_has_a_gradient(teacher):
    gating, config = gating_of(teacher), model.describe(teacher)
    layer = architecture.layers_of(config)[0]
    head, row = (f(config, layer) for f in (architecture.head_parameters, _row_size))
    chances = [
        [1 / (1 + np.exp(-(a - 2 / 3 * math.log(0.1 / 1.1)))) for a in gates.log_alpha.tolist()]
        for gates in (*gating.heads, *gating.rows)
    ]
    gone = sum(head * sum(1 - p for p in group) for group in chances[:3])
    gone += sum(row * sum(1 - p for p in group) for group in chances[3:])
    total = sum(p.numel() for p in teacher.parameters())
    assert gating.sparsity().item() == pytest.approx(gone / total, rel=1e-5)
    gating.sparsity().backward()
    for gates in (*gating.heads, *gating.rows):
        assert (gates.raw.grad < 0).all()  # to open any gate makes the model larger


def _row_size(config, layer):
    return architecture.row_parameters(config, layer)


def test_gates_are_the_hard_concrete_distribution():
    gates = hard_concrete.Gates(20_000, 0.3, 7.0, torch.Generator().manual_seed(0))
    start = math.log(0.7 / 0.3)
    assert gates.log_alpha.mean().item() == pytest.approx(start, abs=1e-3)
    torch.manual_seed(0)
    drawn = gates()
    torch.manual_seed(0)
    u = torch.rand_like(gates.raw).double().numpy()
    s = 1 / (1 + np.exp(-(np.log(u / (1 - u)) + gates.log_alpha.detach().double().numpy()) * 1.5))
    expected = np.clip(s * 1.2 - 0.1, 0, 1)
    assert np.allclose(drawn.detach().numpy(), expected, atol=1e-4)
    assert (drawn > 0).float().mean().item() == pytest.approx(gates.open().mean().item(), abs=0.01)


def test_gates_move_faster_and_multipliers_climb(teacher):
    gating = gating_of(teacher, scale=50.0)
    optimiser = torch.optim.AdamW(gating.parameters(), lr=1e-3, weight_decay=0.0)
    before = gating.rows[0].log_alpha.detach().clone()
    excess = gating.sparsity().item() - 0.9
    with torch.no_grad():
        gating.multipliers.copy_(torch.tensor([-1.0, 1.0]) / 50)
    expected = -excess + excess**2
    penalty = gating.penalty(0.9, 0)
    assert penalty.item() == pytest.approx(expected, rel=1e-4)
    penalty.backward()
    chance, row = gating.rows[0].open().detach(), gating.row_sizes[0] / gating.total
    slope = -row * chance * (1 - chance)  # dS / d log α
    assert torch.allclose(gating.rows[0].raw.grad, (-1 + 2 * excess) * slope, rtol=1e-3)
    optimiser.step()
    moved = (gating.rows[0].log_alpha - before).detach()
    assert moved.tolist() == pytest.approx([-0.05] * 160, rel=1e-2)  # down: too large a model
    first, second = (50 * gating.multipliers - torch.tensor([-1.0, 1.0])).tolist()
    assert excess < 0 and first == pytest.approx(-0.05, rel=1e-2)  # ascent of λ1 (S − S*)
    assert second == pytest.approx(0.05, rel=1e-2)


def test_the_target_rises_with_the_steps(teacher):
    gating = gating_of(teacher)
    with torch.no_grad():
        gating.multipliers.copy_(torch.tensor([1.0, 0.0]) / gating.scale)
    now = gating.sparsity().item()
    excesses = [gating.penalty(0.6, 4).item() for _ in range(6)]
    assert excesses == pytest.approx([now - t for t in (0, 0.15, 0.3, 0.45, 0.6, 0.6)], abs=1e-6)


def test_the_lowest_go_until_the_amount_is_hit():
    generator = np.random.default_rng(0)
    values = [generator.normal(size=n).tolist() for n in (4, 4, 30, 30)]
    sizes = [50, 50, 7, 7]
    for amount in (0, 100, 333, 600, 693):
        kept = dphubert.survivors(values, sizes, amount)
        gone = sum(s * (len(v) - len(k)) for s, v, k in zip(sizes, values, kept, strict=True))
        assert abs(gone - amount) <= 3.5
        assert all(kept)
    rows = dphubert.survivors(values[2:], [7, 7], 140)  # one size: simply the twenty lowest
    threshold = sorted(values[2] + values[3])[20]
    assert rows == [[i for i, x in enumerate(row) if x >= threshold] for row in values[2:]]


@pytest.mark.parametrize("kind", KINDS)
def test_taking_gates_off_leaves_their_strength(kind, audio):
    plain = backbone(kind)
    gated = copy.deepcopy(plain)
    gating = hard_concrete.Gating(gated, (0.01, 0.3), 1.0, torch.Generator().manual_seed(0))
    batch = batch_of(audio)
    assert not torch.allclose(gated(**batch)[0], plain(**batch)[0], atol=1e-3)
    with torch.no_grad():
        for gates in (*gating.heads, *gating.rows):
            gates.raw.fill_(30.0)  # open: a draw is 1, and so is the strength
    assert torch.allclose(gated(**batch)[0], plain(**batch)[0], atol=1e-5)
    with torch.no_grad():
        gating.rows[1].raw[3] = 0.0
    gating.detach(gated)
    out = "encoder.layers.1.feed_forward.output_dense.weight"
    ours, theirs = gated.state_dict()[out], plain.state_dict()[out]
    assert torch.allclose(ours[:, 3], theirs[:, 3] / 2)
    assert torch.equal(ours[:, 4], theirs[:, 4])
    for layer, old in zip(gated.encoder.layers, plain.encoder.layers, strict=True):
        assert type(layer.attention) is type(old.attention)
        assert not layer.feed_forward.output_dense._forward_pre_hooks


def test_dphubert_loss_is_the_formula(teacher, audio):
    student = hard_concrete.MappedStudent(copy.deepcopy(teacher))
    for parameter in model.prunable(student.backbone).values():
        parameter.data.mul_(0.9)
    student.maps[0].weight.data.mul_(2.0)
    batch = batch_of(audio)
    loss = method.make("dphubert").loss(student, teacher, batch).item()
    real = calibration.real_frames(teacher, batch)
    ours = student.backbone(**batch, output_hidden_states=True).hidden_states
    theirs = teacher(**batch, output_hidden_states=True).hidden_states
    expected = 0.0
    for index, factor in zip((0, 1, 2, 3), (2, 1, 1, 1), strict=True):
        a = factor * ours[index][real].detach().double().numpy()
        b = theirs[index][real].detach().double().numpy()
        cosines = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
        expected += (np.abs(a - b).mean() - cosines.mean()) / 4
    assert loss == pytest.approx(expected, rel=1e-4)


# The job


JOBS = {
    "iterative": {"iterative_pruning": {**WALK, "steps": 3, "batch_seconds": 2.0, "patience": 1}},
    "units": {"unit_distillation": {**UNITS, "steps": 3, "batch_seconds": 2.0, "masked": True}},
    "dphubert": {"dphubert": {"steps": 4, "final_steps": 2, "batch_seconds": 2.0}},
}


@pytest.mark.parametrize(("name", "at"), [("iterative", 5), ("units", 2), ("dphubert", 5)])
def test_a_killed_job_ends_with_the_same_bytes(name, at, folder, corpus, tmp_path, monkeypatch):
    steps, save = [JOBS[name]], training_loop._save
    job.main(steps, 0.2, 1, folder, [corpus], RUN, tmp_path / "whole")
    saved = []

    def stop(*arguments):
        save(*arguments)
        saved.append(arguments)
        if len(saved) == at:
            raise KeyboardInterrupt

    often = (*training_loop.Training.__init__.__defaults__[:-1], -1.0)  # a checkpoint each step
    with monkeypatch.context() as patch:
        patch.setattr(training_loop, "_save", stop)
        patch.setattr(training_loop.Training.__init__, "__defaults__", often)
        with pytest.raises(KeyboardInterrupt):
            job.main(steps, 0.2, 1, folder, [corpus], RUN, tmp_path / "a", tmp_path / "state")
    assert not (tmp_path / "a").exists()
    job.main(steps, 0.2, 1, folder, [corpus], RUN, tmp_path / "a", tmp_path / "state")
    assert files(tmp_path / "a") == files(tmp_path / "whole")
    assert not (tmp_path / "state").exists()


def test_bf16_ends_with_the_training(folder, corpus):
    """Each event trains the same student: what one run wraps around it must come off again."""
    student = model.load(folder)
    before = student.forward
    loss = Distillation().loss
    run = job.trainer([corpus], 1, None, "bf16")
    teacher = model.load(folder)
    run(student, lambda batch: loss(student, teacher, batch), steps=1, learning_rate=1e-3)
    assert student.forward.__func__ is before.__func__
    assert student(torch.randn(1, 4000)).last_hidden_state.dtype == torch.float32
