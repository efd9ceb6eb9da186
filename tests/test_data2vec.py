"""data2vec audio: several position convolutions, a norm behind each convolution of the stem."""

import pytest
import torch

from helpers.backbones import backbone
from helpers.compressing import example, ratio_of
from helpers.contract import check_contract
from speech_pareto.compression import catalogue
from speech_pareto.models import architecture, operations
from speech_pareto.models import backbone as model
from speech_pareto.models.teachers import TEACHERS
from speech_pareto.profiling import cost

KIND = "data2vec-audio"
OWN = {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5}


@pytest.fixture(scope="module")
def teacher():
    return backbone(KIND, **OWN)


def test_the_published_one_has_its_size():
    config = TEACHERS["data2vec-audio-base"].config
    held = sum(p.numel() for p in model.build(config).parameters())
    assert architecture.count(config)["total"] == held
    head = 768 * 768 + 768  # that of pretraining, which SUPERB's 93.75 M count too
    assert round((held + head) / 1e6, 2) == 93.75


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.names())
def test_every_method_keeps_its_contract(name, teacher, audio, tmp_path):
    ratio = ratio_of(name, 0.2, model.describe(teacher))
    check_contract(example(name), ratio, teacher, audio, tmp_path)


def test_macs_are_planned_as_they_are_measured(teacher):
    planned = operations.macs(model.describe(teacher), 1)
    with torch.no_grad():
        assert planned["total"] == cost.macs(teacher, torch.randn(1, 16_000))
