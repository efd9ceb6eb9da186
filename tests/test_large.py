"""Large teachers: pre-norm layers behind a normalised convolutional stem, through every method."""

import pytest
import torch

from helpers.backbones import backbone
from helpers.compressing import compress, example, ratio_of
from speech_pareto.compression import catalogue, method, recipes
from speech_pareto.models import architecture
from speech_pareto.models import backbone as model
from speech_pareto.models.teachers import TEACHERS

FLAGS = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}


@pytest.fixture(scope="module", params=["hubert", "wavlm"])
def narrow(request):
    """Return a backbone with Large's flags, few layers and thin ones."""
    return backbone(request.param, **FLAGS)


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.names())
def test_narrow_ones_with_the_flags_of_large_are_served(name, narrow, tmp_path):
    ratio = ratio_of(name, 0.2, model.describe(narrow))
    student, solution = compress([example(name)], narrow, ratio)
    assert solution.reason is None
    model.save(student.eval(), tmp_path / "student")
    again, audio = model.load(tmp_path / "student"), torch.randn(2, 3000)
    hidden = again(audio).last_hidden_state
    assert hidden.isfinite().all() and torch.equal(hidden, student(audio).last_hidden_state)


@pytest.mark.slow
def test_a_large_one_is_cut_saved_and_loaded(tmp_path):
    config = TEACHERS["wavlm-large"].config
    torch.manual_seed(0)
    student = model.new(config)
    assert sum(p.numel() for p in student.parameters()) == architecture.count(config)["total"]
    steps = [{"head_pruning": {"ratio": 0.2}}, "ffn_pruning"]

    def apply(step, sizing):
        step.compress(student, sizing, method.Context(1))
        return model.describe(student)

    solution = recipes.walk(recipes.make_all(steps), config, 0.6, apply)
    assert solution.reason is None
    model.save(student, tmp_path / "student", torch.float16)
    again = model.load(tmp_path / "student")
    held = sum(p.numel() for p in again.parameters())
    assert held == architecture.remaining(solution.config) < 0.41 * 315_000_000
    assert again(0.1 * torch.randn(1, 8000)).last_hidden_state.shape == (1, 24, 1024)
