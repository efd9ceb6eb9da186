"""Published sizes and MACs: what is built has them."""

import pytest

from generate import sizes
from generate.systems import SOURCES, SUPERB_CLIPS, SYSTEMS
from speech_pareto.compression import recipes
from speech_pareto.models import architecture, operations

BY_NAME = {system.name: system for system in SYSTEMS}
every_system = pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)


@pytest.mark.parametrize(
    ("name", "backbone", "whole"),
    [
        ("HuBERT Base", 94_371_712, 94_697_600),
        ("HuBERT Large", 315_438_720, 316_612_992),
        ("wav2vec 2.0 Base", 94_371_712, 95_044_608),
        ("WavLM Base+", 94_381_936, 94_707_824),
        ("MelHuBERT, 12 layers", 89_837_696, 90_231_424),
        ("MelHuBERT, 6 layers", 47_310_464, 47_704_192),
        ("MelHuBERT, 2 layers", 18_958_976, 19_352_704),
        ("DistilHuBERT", 23_491_200, 27_034_752),
        ("FitHuBERT", 21_661_376, 22_492_064),
        ("MaskHuBERT", 22_202_944, 26_635_840),
        ("ARMHuBERT", 22_015_552, 26_448_448),
        ("ARMHuBERT-S", 18_403_552, 22_394_080),
        ("STaRHuBERT", 22_309_024, 22_309_024),
        ("STaRHuBERT-L", 26_631_232, 26_631_232),
        ("DPHuBERT", 23_592_747, 23_592_747),
        ("LightHuBERT Small", 26_873_344, 27_168_256),
    ],
)
def test_sizes_to_the_last_parameter(name, backbone, whole):
    size = sizes.built(BY_NAME[name].config)
    assert (size, size + sum(BY_NAME[name].heads.values())) == (backbone, whole)


@every_system
def test_planning_counts_what_is_built(system):
    assert architecture.count(system.config)["total"] == sizes.built(system.config)


@every_system
def test_published_numbers_are_met_or_a_note_says_why_not(system):
    backbone = architecture.count(system.config)["total"]
    whole = backbone + sum(system.heads.values())
    pairs = [(backbone, system.backbone), (whole, system.whole)]
    pairs += [(sizes.superb_macs(system.config), system.superb_macs)]
    pairs += [(sizes.superb_macs_per_second(system.config), system.macs_per_second)]
    pairs = [(value, printed) for value, printed in pairs if printed]
    gaps = [sizes.difference(value, printed) for value, printed in pairs]
    assert pairs and (set(gaps) == {"0"} or system.note)
    for value, printed in pairs:
        number, _, unit = printed.replace(",", "").partition(" ")
        assert value == pytest.approx(float(number) * sizes.UNITS[unit], rel=0.01)
    assert system.source in SOURCES


@pytest.mark.parametrize("kind", ["hubert", "wavlm"])
@pytest.mark.parametrize(
    ("step", "ratio", "removed"),
    [  # of HuBERT Base: attention 2,362,368, feed-forward 4,722,432, a row 1,537
        ("head_dim_pruning", 0.25, 53 * 12 * (18_456 + 18_444) + 4 * 18_456 + 3 * 18_444),
        ("block_drop", 0.5, 7 * 2_362_368 + 6 * 4_722_432 + 1506 * 1_537),
        ({"block_drop": {"blocks": "attention"}}, 0.25, 9 * 2_362_368 + 1517 * 1_537),
        ({"head_pruning": {"keep": 0}}, 0.3, 12 * 2_362_368),
        ("layer_tying", 0.3, 3 * 7_087_872 + 11 * 196_800 + 9 * 353 * 1_537),
    ],
)
def test_students_of_base_are_built_as_they_are_counted(step, ratio, removed, kind):
    import torch

    from speech_pareto.models.backbone import build
    from speech_pareto.profiling import cost

    student = recipes.solve([step], {"model_type": kind}, ratio)
    assert student.reason is None
    assert architecture.count(student.config)["total"] == sizes.built(student.config)
    assert kind == "wavlm" or sizes.built(student.config) == 94_371_712 - removed
    audio = torch.empty(1, 20560, device="meta")
    planned = operations.macs(student.config, 20560 / 16000)["total"]
    assert planned == cost.macs(build(student.config), audio)


def test_superb_macs_to_the_last_one():
    config = BY_NAME["HuBERT Base"].config
    assert sizes.superb_macs(config) == 1_669_156_022_848
    # The tool's README also gives the least and the greatest per second of a clip.
    per_second = [
        sizes.as_profiled(config, samples / 16000) / samples * 16000 for samples in SUPERB_CLIPS
    ]
    assert max(per_second) == pytest.approx(7922013353.619633, rel=1e-14)
    assert min(per_second) == pytest.approx(7002466614.785993, rel=1e-14)


def test_wav2vec2_heads_are_those_of_transformers():
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

    system = BY_NAME["wav2vec 2.0 Base"]
    with torch.device("meta"):
        module = Wav2Vec2ForPreTraining(Wav2Vec2Config())
    whole = sum(parameter.numel() for parameter in module.parameters())
    assert whole == sizes.built(system.config) + sum(system.heads.values())


@pytest.mark.parametrize(
    ("value", "printed", "gap"),
    [
        (94_697_600, "94.70 M", "0"),
        (94_707_824, "94.70 M", "+0.01 M"),
        (94_371_712, "94,697,600", "-325,888"),
        (4_323_560_629_376, "4324 G", "0"),
        (4_325_700_000_000, "4324 G", "+2 G"),
    ],
)
def test_difference_is_in_the_published_digits(value, printed, gap):
    assert sizes.difference(value, printed) == gap
