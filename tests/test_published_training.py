"""Published recipes train as their papers do: 20 steps against update rules written in float64.

The rules are those of the papers and of their released code, with their numbers. Models and losses
are ours, in float64 on both sides, so that masks and dropout are the same.
"""

import copy
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from helpers.backbones import backbone
from helpers.compressing import RECIPES
from helpers.corpora import write_noise
from speech_pareto.compression import method, recipes, runner
from speech_pareto.compression.methods.masking_distillation import MaskingDistillation
from speech_pareto.compression.parts.thin_student import add_projections
from speech_pareto.data import corpus as prepared
from speech_pareto.models import backbone as model
from speech_pareto.models.hidden_states import real_frames, states
from speech_pareto.training import finetuning, hubert_units, loop
from speech_pareto.training.masking import span_mask

STEPS = 20


def constant(step, steps):
    """Return a rate that never changes."""
    return 1.0


def linear(warmup):
    """Return the schedule of s3prl, torchaudio and DPHuBERT: update n, from 1, of N."""

    def rate(step, steps):
        n, w = step + 1, round(warmup * steps)  # whole at the published sizes
        return n / w if n <= w else (steps - n) / (steps - w)

    return rate


def trainers(step, steps):
    """Return the rate of transformers' Trainer, a tenth of warm-up: n updates are done."""
    w = 0.1 * steps
    return step / w if step < w else (steps - step) / (steps - w)


def huberts(step, steps):
    """Return HuBERT's rate: up from 0 for the first 8 % of the steps, then down to 0."""
    w = round(0.08 * steps)
    return step / w if step < w else (steps - step) / (steps - w)


def tri_stage(step, steps):
    """Return fairseq's rate: 0.1, 0.4 and 0.5 of the steps, from 0.01 and to 0.05 of the peak."""
    if step < 0.1 * steps:
        return 0.01 + 0.99 * step / (0.1 * steps)
    return math.exp(math.log(0.05) * max(0, step - 0.5 * steps) / (0.5 * steps))


@dataclass
class Adam:
    """Adam (Kingma and Ba, 2015), with decoupled decay (Loshchilov and Hutter, 2019) if any."""

    rate: object  # of a step: its share of the peak
    peak: float
    betas: tuple = (0.9, 0.999)
    epsilon: float = 1e-8
    decay: float = 0.0
    decays: object = staticmethod(lambda name: True)  # which parameters
    clip: float = math.inf
    peaks: object = staticmethod(lambda name: None)  # other peaks of some parameters, by name
    kept: bool = False  # moments are kept from one training to the next; what is zero is masked

    def __post_init__(self):
        self.forget()

    def forget(self):
        """Begin with no moments."""
        self.number, self.first, self.second = 0, {}, {}

    def step(self, parameters, step, steps):
        """Move parameters, a mapping of name to tensor, by their gradients."""
        self.number += 1
        gradients = {n: p.grad for n, p in parameters.items() if p.grad is not None}
        norm = math.sqrt(sum((g**2).sum().item() for g in gradients.values()))
        one, two = self.betas
        for name, g in gradients.items():
            g, p = g * min(1.0, self.clip / norm), parameters[name].data
            m = self.first[name] = one * self.first.get(name, 0) + (1 - one) * g
            v = self.second[name] = two * self.second.get(name, 0) + (1 - two) * g**2
            m, v = m / (1 - one**self.number), v / (1 - two**self.number)
            lr = self.rate(step, steps) * (self.peaks(name) or self.peak)
            if self.decays(name):
                p -= lr * self.decay * p
            p -= lr * m / (v.sqrt() + self.epsilon)


def weights(name):
    return not name.endswith("bias")


def s3prl(peak, warmup, clip=math.inf):
    """Return the optimiser of DistilHuBERT, FitHuBERT and ARMHuBERT."""
    rest = {"epsilon": 1e-6, "decay": 0.01, "decays": weights, "clip": clip}
    return Adam(linear(warmup), peak, (0.9, 0.98), **rest)


def gates(name):
    """Return the learning rates of DPHuBERT's log α and, ascending, λ."""
    return 0.02 if "log_alpha" in name else -0.02 if "multipliers" in name else None


def thresholds(name):
    """Return the learning rates of SASPG's thresholds and, ascending, λ."""
    return 1e-4 if name.endswith("raw") else -0.02 if "multipliers" in name else None


LIN = {"peak": 1e-5, "clip": 10.0}
RULES = {
    "armhubert": [s3prl(5e-3, 0.05)],
    "armhubert-s-100h": [s3prl(5e-3, 0.05)],
    "maskhubert": [s3prl(5e-4, 0.05)],
    "distilhubert": [s3prl(2e-4, 0.07, 5.0)],
    "fithubert": [s3prl(5e-4, 0.05)],
    "dphubert": [
        Adam(linear(0.3), 2e-4, clip=10.0, peaks=gates),
        Adam(linear(0.2), 1e-4, clip=10.0),
    ],
    "saspg": [
        Adam(linear(0.3), 2e-4, clip=10.0, peaks=thresholds),
        Adam(linear(0.2), 1e-4, clip=10.0),
    ],
    "starhubert": [s3prl(5e-4, 0.05)],
    "dicehubert": [Adam(huberts, 5e-4, (0.9, 0.98), epsilon=1e-6, decay=0.01, clip=10.0)],
    "lin-weights": [Adam(constant, **LIN, kept=True)] * 3,
    "lin-heads": [Adam(constant, **LIN)] * 3,
    "lin-rows": [Adam(constant, **LIN)] * 3,
    "lin-distilled": [Adam(constant, 1e-4, clip=10.0)],
    "self-pinching": [Adam(trainers, 2e-4)],
    "structured-self-pinching": [Adam(trainers, 2e-4)],
    "parp": [Adam(tri_stage, 2e-4, (0.9, 0.98))],
}
UNITS = {"units": 4, "unit_seconds": 1.0}
SPAN = {"min_seconds": 0.12, "max_seconds": 0.25}
# What these tiny runs need in the place of Base's sizes, hours and steps.
SHORT = {
    **dict.fromkeys(("armhubert", "armhubert-s-100h", "maskhubert"), {"width": None, "ffn": None}),
    **dict.fromkeys(("fithubert", "starhubert"), {"width": None, "ffn": None}),
    "dicehubert": {**UNITS, "layers": 2, "batch_seconds": 0.7, "unit_layer": 2},
    "distilhubert": {"predicted_layers": 1},
    **dict.fromkeys(("dphubert", "saspg"), {"final_steps": STEPS, "batch_seconds": 0.7, **SPAN}),
    "lin-weights": {"schedule": [0.2], "first_steps": STEPS, "patience": 0, "lookback": 0.5},
    "lin-heads": {"schedule": [0.05], "first_steps": STEPS},
    "lin-rows": {"schedule": [0.05], "first_steps": STEPS},
    "lin-distilled": {"layers": 2},
    "parp": {"every": 6},
}
LIN_TINY = {**UNITS, "min_seconds": 0.12, "crop_seconds": 0.2}
RATIOS = {"lin-distilled": 0.28, "lin-heads": 0.1, "lin-rows": 0.1, "distilhubert": 0.3}


def watched(rules, checked):
    """Return the training loop, and after each run the same run by the next of `rules`."""
    train, left = loop.train, iter(rules)

    def run(trained, batch, loss, settings, seed, state=None, *more, **others):
        names = ("name", "size", "follow", "moments")
        follow = (dict(zip(names, more, strict=False)) | others).get("follow")
        trained.double()
        start = copy.deepcopy(trained.state_dict())
        seen = []

        def double(inputs):
            seen.append(inputs)
            if isinstance(inputs, dict):
                return loss(inputs | {"input_values": inputs["input_values"].double()})
            step, waves, *rest = inputs
            return loss((step, waves.double(), *rest))

        curve = train(trained, batch, double, settings, seed, state, *more, **others)
        ours = copy.deepcopy(trained.state_dict())
        trained.load_state_dict(start)
        expected = reference(trained, batch, double, next(left), settings.steps, seed, follow)
        for name, value in expected.items():
            moved = (value - start[name]).abs().max().item()
            assert (ours[name] - value).abs().max().item() <= 1e-6 * moved + 1e-11, name
            checked[name] = max(checked.get(name, 0.0), moved)
        trained.load_state_dict(ours)
        trained.eval()
        checked.setdefault("batches", []).extend(seen[: settings.steps])
        return curve

    return run


def reference(trained, batch, loss, rule, steps, seed, follow):
    """Return the parameters after `steps` steps by a rule."""
    parameters = {n: p for n, p in trained.named_parameters() if p.requires_grad}
    pruned = [name for name in parameters if ".attention." in name or ".feed_forward." in name]
    there = {name: parameters[name].detach() != 0 for name in pruned}
    if not rule.kept:
        rule.forget()
    trained.train()
    with loop.every_layer_runs(trained):
        for step in range(steps):
            inputs = batch(step, loop.generator_of(seed, step))
            loop.seed_all(seed, step)
            value, _ = loss(inputs)
            trained.zero_grad()
            value.backward()
            rule.step(parameters, step, steps)
            if rule.kept:  # the mask of weight pruning
                for name, mask in there.items():
                    parameters[name].data.mul_(mask)
            if follow:
                follow(value.item())
    trained.zero_grad()
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


@pytest.fixture
def float64(monkeypatch):
    """Let losses compute in float64, and make heads that predict units in it."""
    fit, narrow = hubert_units.fit, torch.Tensor.float
    wide = {torch.float64}
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x if x.dtype in wide else narrow(x))

    def doubled(*arguments):
        with monkeypatch.context() as usual:
            usual.setattr(torch.Tensor, "float", narrow)
            labeller, head = fit(*arguments)
        labeller.centres = labeller.centres.double()
        return labeller, head.double()

    monkeypatch.setattr(hubert_units, "fit", doubled)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Folder of 12 recordings of noise, of 0.1 to 0.3 s."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(1600, 4800, 12).tolist()
    return write_noise(tmp_path_factory.mktemp("short"), lengths, "ab", generator)


@pytest.fixture
def run(monkeypatch, short, tmp_path, float64):
    """Return a function that runs a recipe by its rules and returns what it checked."""

    def run(name):
        (((kind, settings),),) = (step.items() for step in RECIPES[name][:1])
        tiny = LIN_TINY if name.startswith("lin") else {}
        kept = {"self_pinching", "structured_self_pinching", "parp"}
        settings = settings | tiny | {"steps": STEPS}
        if settings.get("batch_utterances"):
            settings |= {"batch_utterances": 4}
        chosen = recipes.make({kind: settings | SHORT.get(name, {})})
        teacher = backbone("hubert").double().requires_grad_(False)
        teacher.preprocessor = teacher.preprocessor | {"do_normalize": False}
        student = copy.deepcopy(teacher).requires_grad_(True)
        checked = {}
        train = watched(RULES[name], checked)
        for module in (loop, finetuning):
            monkeypatch.setattr(module, "train", train)

        def batches(number, seconds):
            found = runner.listener([short], teacher, 1)(number, seconds)
            return [b | {"input_values": b["input_values"].double()} for b in found]

        train = runner.trainer([short], 1, None, "fp32")
        context = method.Context(1, teacher, train, batches)
        if kind in kept:
            task = {"kind": "ctc", "unit": "characters", "protocol": "finetune"}
            tune = finetuning.Tuner(task, tmp_path, [short], 1, precision="fp32")
            context = method.Context(1, tune=tune)
        sizing = chosen.solve(model.describe(student), RATIOS.get(name, 0.4))
        chosen.compress(student, sizing, context)
        return checked

    return run


def lengths_of(batches):
    """Return how many samples each recording in each batch has."""
    masks = [
        inputs["attention_mask"] if isinstance(inputs, dict) else inputs[2] for inputs in batches
    ]
    return [mask.sum(1).tolist() for mask in masks]


QUICK = ("armhubert", "dphubert", "lin-weights", "self-pinching")


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in RULES]
)
def test_a_recipe_follows_its_papers_update_rule(name, run, short):
    """Each parameter after each training, and what its batches are made of."""
    checked = run(name)
    batches = checked.pop("batches")
    assert len(batches) == STEPS * len(RULES[name])
    assert sum(moved > 0 for moved in checked.values()) > 0.8 * len(checked)
    lengths = lengths_of(batches)
    whole = [u.samples for u in prepared.read(short) if u.split == "train"]
    if name in ("dphubert", "saspg"):
        gate = "log_alpha" if name == "dphubert" else "raw"
        assert any(gate in key for key in checked) and checked["gating.multipliers"] > 0.01
        assert all(len(set(rows)) == 1 and 1920 <= rows[0] <= 4000 for rows in lengths)
    elif name.startswith("lin"):
        used = [min(n, 3200) for n in whole if n >= 1920]
        assert {n for rows in lengths for n in rows} == set(used)
        assert {len(rows) for rows in lengths} == {4, len(used) % 4 or 4}
        pieces = [u.wave().tobytes() for u in prepared.read(short)]
        for inputs, rows in zip(batches[:3], lengths, strict=False):
            for wave, length in zip(inputs["input_values"], rows, strict=True):
                assert any(wave[:length].numpy().tobytes() in piece for piece in pieces)
    elif name != "dicehubert":  # each recording once in three batches
        assert all(len(rows) == 4 for rows in lengths)
        assert sorted(sum(lengths[:3], [])) == sorted(whole)
    if RECIPES[name][0].get("self_pinching") or name == "parp":
        assert not any("feature_extractor" in key for key in checked)  # the stem is frozen


def test_gradients_are_scaled_by_layer(batch):
    """What reaches layer i, from 0 of L: its own loss and those above, each a share of the whole.

    A loss of layer l goes through 1 / (L − l + 1), and (L − j) / (L − j + 1) at layers j = l … i.
    """
    chosen = MaskingDistillation(reuse="none", scale_gradients=True)
    teacher = backbone("hubert").double().eval()
    config = chosen.solve(model.describe(teacher), 0.4).config
    student = model.new(config)
    add_projections(student, teacher, 3, 1)
    student.double().eval()
    inputs = batch | {"input_values": batch["input_values"].double()}
    real = real_frames(teacher, inputs)
    torch.manual_seed(0)
    mask = span_mask(real.sum(1), 0.8, 10, real.shape[1])
    with torch.no_grad():
        clean, masked = states(teacher, inputs), states(teacher, inputs, mask)
    ours, scaled = states(student, inputs, mask), {}
    for layer in range(3):
        target = torch.where(mask[..., None], clean[layer + 1], masked[layer + 1])
        error = (student.projections[layer](ours[layer + 1]) - target).float().square().mean(-1)
        loss = (1 if layer == 2 else 0.1) * error[real].mean()
        student.zero_grad()
        loss.backward(retain_graph=True)
        for name, parameter in student.named_parameters():
            if parameter.grad is None:
                continue
            share = 1.0
            if "projections" not in name:
                place = int(name.split(".")[2]) if ".layers." in name else 0
                share = 1 / (4 - layer)
                for j in range(place, layer + 1):
                    share *= (3 - j) / (4 - j)
            scaled[name] = scaled.get(name, 0) + share * parameter.grad
    student.zero_grad()
    torch.manual_seed(0)
    with chosen.scaled(student):
        chosen.loss(student, teacher, inputs).backward()
    found = {n: p.grad for n, p in student.named_parameters() if p.grad is not None}
    assert found.keys() == scaled.keys()
    for name, gradient in scaled.items():
        assert torch.allclose(found[name], gradient, rtol=1e-6, atol=1e-9), name
