"""Recipes on tiny backbones, with stand-ins for the training loop and for real audio."""

import copy
from functools import partial

import torch
import yaml

from helpers.checkout import ROOT
from speech_pareto.compression import catalogue, method, recipes, targets
from speech_pareto.models import architecture
from speech_pareto.models import backbone as model

RECIPES = yaml.safe_load((ROOT / "config" / "recipes.yaml").read_text())["recipes"]


# Methods for stems of convolutions: a teacher on log-mel features has none.
STEM = ("channel_pruning", "stem_distillation")


def train(student, loss, steps, **settings):
    """Stand in for the training loop: a few steps on noise."""
    optimiser = torch.optim.SGD(student.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        torch.manual_seed(step)  # as the loop does: a loss may draw masks
        audio = torch.randn(2, 2400, generator=generator)
        loss({"input_values": audio, "attention_mask": torch.ones_like(audio).long()}).backward()
        optimiser.step()
        optimiser.zero_grad()


def batches(number, seconds):
    """Stand in for calibration audio: noise, two utterances of unlike length in each batch."""
    generator = torch.Generator().manual_seed(0)
    length = round(seconds * 8000)
    mask = (torch.arange(length) < torch.tensor([[length], [length * 2 // 3]])).long()
    waves = [torch.randn(2, length, generator=generator) * mask for _ in range(number)]
    return [{"input_values": wave, "attention_mask": mask} for wave in waves]


def tune(student, penalty, steps, **settings):
    """Stand in for the fine-tuning on a task: a few steps towards silence."""
    step = iter(range(steps))

    def loss(batch):
        more = penalty(next(step))
        return student(**batch).last_hidden_state.square().mean() + more

    train(student, loss, steps)


def compress(steps, teacher, ratio, seed=1, loop=None, target=None):
    """Return the student and the solution of a recipe; `loop` is what trains."""
    student = copy.deepcopy(teacher)
    cost = partial(targets.cost, target) if target else architecture.remaining
    context = method.Context(seed, teacher, loop or train, batches, tune, cost)

    def apply(step, sizing):
        nonlocal student
        student = step.compress(student, sizing, context)
        return model.describe(student)

    config = model.describe(teacher)
    solution = recipes.walk(recipes.make_all(steps), config, ratio, apply, target)
    return student, solution


def example(name):
    """Return a step with a method's smallest settings."""
    return {name: dict(catalogue.load(name).example)}


def ratio_of(name, ratio, config):
    """Return `ratio`, or what a method removes that leaves little choice."""
    if name in ("semi_structured", "attention_reuse", "lighthubert", *STEM):
        return recipes.solve([name], config, ratio).ratio
    return ratio if catalogue.load(name).removes else 0.0
