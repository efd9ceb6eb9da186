"""LightHuBERT: its slices, its loss from the formula, what a step touches, the same bytes."""

import copy
import math
import os
import signal

import numpy as np
import pytest
import torch

import compress as job
from helpers import KINDS
from helpers.backbones import backbone, with_task_head
from helpers.compressing import batches, compress, train
from helpers.formulas import FRAMES, linear
from helpers.results import RUN
from speech_pareto.compression import method, recipes
from speech_pareto.compression.methods.lighthubert import SLICING, LightHuBERT
from speech_pareto.compression.parts.nested import Subnet
from speech_pareto.compression.parts.thin_student import add_projections
from speech_pareto.models import architecture, slices
from speech_pareto.models import backbone as model
from speech_pareto.training import loop, masking

UNEVEN = Subnet(16, [0, 1, 2], [2, 4, 3], [53, 40, 47])  # of `small`, of the teachers below


def learner(teacher, **settings):
    """Return the method and a supernet with its head, in train mode; there is no dropout."""
    step = recipes.make({"lighthubert": {"mask_span": 4, **settings}})
    student = step.begin(teacher)
    add_projections(student, teacher, 1, 1)
    return step, student.train()


def space_of(name, config):
    """Return one of the two search spaces."""
    return LightHuBERT(space=name).spaces(config)[name]


def test_the_supernet_begins_as_the_teacher(teacher, batch):
    student = learner(teacher)[1].eval()
    ours, theirs = (made(**batch).last_hidden_state for made in (student, teacher))
    same = torch.allclose(ours, theirs, atol=1e-5)
    assert same == (teacher.config.model_type != "wavlm")  # without WavLM's position bias
    with torch.no_grad():
        student.encoder.layer_norm.weight.add_(1.0)
    assert not torch.equal(student.encoder.layer_norm.weight, teacher.encoder.layer_norm.weight)


@pytest.mark.parametrize("stable", [False, True])
def test_slices_are_the_model_that_is_cut_out(stable, batch):
    for kind in KINDS:
        student = learner(backbone(kind, do_stable_layer_norm=stable))[1].eval()
        config = UNEVEN.shape(model.describe(student))
        mask = masking.span_mask(torch.tensor(FRAMES), 0.6, 4, FRAMES[0])
        sliced = slices.run(student, config, UNEVEN.layers, SLICING, batch, mask)[-1]
        alone = slices.cut(student, config, UNEVEN.layers, SLICING)
        alone.config.apply_spec_augment = True
        whole = alone(**batch, mask_time_indices=mask).last_hidden_state
        assert sliced.shape == (2, FRAMES[0], 16)
        assert torch.allclose(sliced, whole, atol=1e-5)
        weights = alone.encoder.layers[1].attention.q_proj.weight
        theirs = student.encoder.layers[1].attention.q_proj.weight
        assert torch.equal(weights, theirs[: 4 * 8, :16])  # four heads of 8, more than the width
        rows = torch.cat([torch.arange(40 * k, 40 * k + n) for k, n in enumerate((14, 13, 13, 13))])
        inner, outer = (
            [getattr(made.encoder.layers[0].feed_forward, name).weight for made in (alone, student)]
            for name in ("intermediate_dense", "output_dense")
        )
        assert torch.equal(inner[0], inner[1][rows, :16])  # 53 of 160 rows, by quarters
        assert torch.equal(outer[0], outer[1][:16, rows])
        position = [made.encoder.pos_conv_embed.conv.weight for made in (alone, student)]
        assert torch.allclose(position[0], position[1][:16, :8], atol=1e-6)  # normalised, then cut
        with torch.no_grad():
            theirs.zero_()
        assert weights.any()  # a copy


def results(teacher, batch):
    """Return what each feed-forward part adds, in float64 from its input and its matrices."""
    inputs, found = [], []
    for layer in teacher.encoder.layers:
        layer.layer_norm.register_forward_hook(lambda m, args, out: inputs.append(out.double()))
    with torch.no_grad():
        teacher(**batch)
    for layer, x in zip(teacher.encoder.layers, inputs, strict=True):
        inner = linear(layer.feed_forward.intermediate_dense, x)
        inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2  # GELU
        found.append(linear(layer.feed_forward.output_dense, inner))
    return found


@pytest.mark.parametrize("space", [None, "small"])
@pytest.mark.parametrize(("layers", "share"), [(3, 0.65), (10, 0.65), (3, 0)])  # 8 are targets
def test_loss_is_the_formula(space, layers, share, batch):
    made = backbone("hubert", layers=layers)
    step, student = learner(made, mask_share=share)
    config = model.describe(made)
    drawn = space_of(space, config) if space else None
    torch.manual_seed(11)
    loss = step.loss(student, made, batch, [drawn] * bool(space)).item()
    torch.manual_seed(11)
    if share:
        hidden = mask = masking.span_mask(torch.tensor(FRAMES), 0.65, 4, FRAMES[0])
        assert 0.2 < mask.float().mean() < 0.8 and not mask[1, FRAMES[1] :].any()
    else:  # nothing is hidden, and all real frames count
        hidden, mask = None, torch.arange(FRAMES[0]) < torch.tensor(FRAMES)[:, None]
    if space:
        torch.randint(1, ())  # of which space
        subnet = drawn.draw()
        part = slices.cut(student, subnet.shape(config), subnet.layers, SLICING)
        part.config.apply_spec_augment = True
    else:
        part = student
    with torch.no_grad():
        if not share:
            part.eval()  # transformers masks what trains
        last = part(**batch, mask_time_indices=hidden).last_hidden_state.double()
    head, width = student.projections[0], last.shape[-1]
    predicted = last @ head.weight.detach().double()[:, :width].T + head.bias.detach().double()
    added = results(copy.deepcopy(made), batch)[-8:]
    assert len(added) == min(8, layers)
    expected, number = 0.0, 0
    for b in range(2):
        for t in range(FRAMES[b]):
            if mask[b, t]:
                target = sum(one[b, t] for one in added) / len(added)
                expected, number = (
                    expected + (predicted[b, t] - target).abs().mean().item(),
                    number + 1,
                )
    assert loss == pytest.approx(expected / number, rel=1e-5)


def test_the_head_begins_as_the_regression_on_masked_frames():
    made = backbone("hubert")
    step, student = learner(made)
    step = LightHuBERT(batch_seconds=0.4)
    step.fit_head(student.eval(), method.Context(3, made, batches=batches))
    torch.manual_seed(3)
    inputs, outputs = [], []
    for batch in batches(4, 0.4):
        mask, target = step.asked(made, batch)
        made.config.apply_spec_augment = True
        with torch.no_grad():
            last = made(**batch, mask_time_indices=mask).last_hidden_state
        inputs += last[mask].double().tolist()
        outputs += target[mask].double().tolist()
    x, y = (np.array(values) for values in (inputs, outputs))
    means = x.mean(0), y.mean(0)
    penalty = 1e-3 * ((x - means[0]) ** 2).sum() / 48
    # A ridge regression is least squares with a row for each weight below the data.
    x = np.concatenate([x - means[0], np.sqrt(penalty) * np.eye(48)])
    y = np.concatenate([y - means[1], np.zeros((48, 48))])
    weight = np.linalg.lstsq(x, y, rcond=None)[0]
    head = [tensor.detach().numpy() for tensor in student.projections[0].parameters()]
    assert np.allclose(head[0], weight.T, atol=1e-4)
    assert np.allclose(head[1], means[1] - means[0] @ weight, atol=1e-3)


def test_a_step_touches_exactly_the_slices_that_were_drawn(batch):
    made = backbone("hubert", layers=6)
    step, student = learner(made)
    space = space_of("small", model.describe(made))
    subnet = Subnet(24, space.layers(5), [2, 4, 3, 2, 3], [60, 80, 70, 60, 80])
    space.draw = lambda: subnet
    torch.manual_seed(3)
    step.loss(student, made, batch, [space]).backward()
    sizes = {"q_proj": 0, "k_proj": 0, "v_proj": 0, "intermediate_dense": 0}  # outputs are cut
    sizes |= {"out_proj": 1, "output_dense": 1}
    for name, parameter in student.named_parameters():
        touched, parts = torch.ones_like(parameter), name.split(".")
        if parts[:2] == ["encoder", "layers"]:
            layer, matrix = int(parts[2]), parts[-2]
            inner = 24
            if matrix in sizes:
                place = min(layer, 4)
                inner = subnet.ffn[place] if "dense" in matrix else 8 * subnet.heads[place]
            if layer == 5:
                touched.zero_()
            elif matrix == "intermediate_dense":
                touched[in_splits(160, inner) == 0] = 0
                if parameter.dim() == 2:
                    touched[:, 24:] = 0
            elif name.endswith("output_dense.weight"):
                touched[:] = in_splits(160, inner)
                touched[24:] = 0
            elif parameter.dim() == 1:
                touched[(24 if sizes.get(matrix) else inner) :] = 0
            else:
                touched[inner if sizes[matrix] == 0 else 24 :] = 0
                touched[:, inner if sizes[matrix] == 1 else 24 :] = 0
        elif name == "projections.0.weight":
            touched[:, 24:] = 0
        elif name.endswith("original1"):
            pass  # it is normalised whole, then cut: all of it decides the length
        elif parameter.shape[0] == 48 and not name.startswith("projections"):
            touched[24:] = 0
        gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        if name.endswith("k_proj.bias"):  # a softmax ignores it
            assert not gradient[touched == 0].any(), name
        else:
            assert torch.equal(gradient != 0, touched == 1), name


def in_splits(rows, kept):
    """Return 1 for each of the first `kept` / 4 rows of each quarter of `rows`, else 0."""
    quarter, number = rows // 4, [kept // 4 + (index < kept % 4) for index in range(4)]
    return torch.cat([(torch.arange(quarter) < n).float() for n in number])


def count_hooks(made):
    """Return how many hooks wait for the outputs of the modules of a model."""
    return sum(len(module._forward_hooks) for module in made.modules())


def test_the_teacher_stays_in_eval_mode_and_keeps_no_hook(batch):
    made = backbone("hubert", hidden_dropout=0.5, mask_time_prob=0.5)
    made(**batch, output_hidden_states=True)  # transformers leaves hooks of its own
    before, seen, hooks = copy.deepcopy(made.state_dict()), [], count_hooks(made)
    step, student = learner(made)
    handle = made.register_forward_pre_hook(lambda module, args: seen.append(module.training))
    settings = loop.Training(steps=2, learning_rate=1e-3, precision="fp32")
    space = space_of("small", model.describe(made))
    loop.train(
        student,
        lambda step, generator: batch,
        lambda batch: (step.loss(student, made, batch, [space]), {}),
        settings,
        seed=1,
    )
    handle.remove()
    assert seen == [False, False]
    assert not any(module.training for module in made.modules()) and count_hooks(made) == hooks
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_padding_teaches_nothing(teacher, batch):
    step, student = learner(teacher)
    space, values = space_of("base", model.describe(teacher)), []
    for filler in (0.0, 5.0):
        batch["input_values"][1, 2600:] = filler
        torch.manual_seed(2)
        values.append(step.loss(student, teacher, batch, [space]).item())
    assert values[0] == pytest.approx(values[1], rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "stages"),  # whether a stage trains the whole, and its steps
    [
        ({}, [(True, 30), (False, 30)]),
        ({"first_stage": 0.0}, [(False, 60)]),
        ({"first_stage": 1.0, "steps": 7}, [(True, 7)]),
        ({"steps": 0}, []),
    ],
)
def test_both_stages_train_the_same_supernet(settings, stages):
    made, calls = backbone("hubert"), []
    step = recipes.make({"lighthubert": {"batch_seconds": 0.4} | settings})

    def listen(student, loss, steps, **settings):
        calls.append((student, not loss.keywords["spaces"], steps))

    sizing = step.solve(model.describe(made), 0.6)
    student = step.compress(copy.deepcopy(made), sizing, method.Context(1, made, listen, batches))
    assert [stage for _, *stage in calls] == list(map(list, stages))
    assert len({id(trained) for trained, *_ in calls}) <= 1
    ratio = architecture.ratio(model.describe(made), model.describe(student))
    assert ratio == pytest.approx(0.6, abs=0.01)


@pytest.mark.slow
def test_training_lowers_the_loss_of_what_is_drawn_and_of_what_is_not(batch):
    made, losses = backbone("hubert"), []
    step, student = learner(made)
    small, base = (space_of(name, model.describe(made)) for name in ("small", "base"))
    for number in (0, 60):
        train(student, lambda x: 10 * step.loss(student, made, x, [small]), number)
        values = []
        for space in (small, base):
            torch.manual_seed(4)
            with torch.no_grad():
                values.append(
                    sum(step.loss(student, made, batch, [space]).item() for _ in range(5))
                )
        losses.append(values)
    assert losses[1][0] < 0.9 * losses[0][0] and losses[1][1] < losses[0][1]


@pytest.mark.parametrize("last", ["ffn_pruning", "head_pruning", "low_rank"])
@pytest.mark.parametrize("kind", KINDS)
def test_students_are_cut_like_any_model(last, kind, batch, tmp_path):
    chain = [
        {"lighthubert": {"steps": 2, "ratio": 0.65, "batch_seconds": 0.4}},
        {last: {"ratio": 0.1}},
    ]
    made = backbone(kind)
    student, solution = compress(chain, made, 0.7)
    assert solution.ratio > 0.66 and len(solution.sizings) == 2
    assert max(solution.sizings[0].knobs["heads"]) > 24 // 8  # more than the width has
    before = student.eval()(**batch).last_hidden_state
    model.save(student, tmp_path / "student")
    assert torch.equal(model.load(tmp_path / "student")(**batch).last_hidden_state, before)


def test_a_job_leaves_the_same_bytes_twice(corpus, tmp_path):
    with_task_head(backbone("hubert"), tmp_path / "teacher")
    for folder in (tmp_path / "a", tmp_path / "b"):
        torch.manual_seed(len(folder.name))
        step = {"lighthubert": {"steps": 4, "batch_seconds": 2.0}}
        job.main([step], 0.5, 1, tmp_path / "teacher", [corpus], RUN, folder, precision="fp32")
    names = [sorted(path.name for path in (tmp_path / x).iterdir()) for x in "ab"]
    assert names[0] == names[1] and "model.safetensors" in names[0]
    assert job.HEAD not in names[0]  # of another width
    for name in names[0]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("stop", [2, 5])  # in the first stage, in the second
def test_a_stopped_job_ends_with_the_same_bytes(stop, corpus, tmp_path, monkeypatch):
    with_task_head(backbone("hubert"), tmp_path / "teacher")
    whole, calls = LightHuBERT.loss, []

    def stopping(self, *inputs, **settings):
        calls.append(not settings["spaces"])
        if len(calls) == 8 + stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, *inputs, **settings)

    def run(name):
        step = {"lighthubert": {"steps": 8, "batch_seconds": 2.0}}
        paths = tmp_path / "teacher", [corpus], RUN, tmp_path / name, tmp_path / "state"
        job.main([step], 0.5, 1, *paths, precision="fp32")
        return (tmp_path / name / "model.safetensors").read_bytes()

    monkeypatch.setattr(LightHuBERT, "loss", stopping)
    expected = run("a")
    with pytest.raises(SystemExit, match="143"):
        run("b")
    assert calls[-1] == (stop < 5)
    assert run("b") == expected
