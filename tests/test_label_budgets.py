"""Label budgets: a task's `train_hours` of recordings, fewer being a part of more."""

from collections import defaultdict

import pytest
import torch
import yaml

import finetune
from helpers.planning import STUDY
from speech_pareto.data.corpus import read
from speech_pareto.data.selection import first_hours
from speech_pareto.models.backbone import new, save, tiny_config
from speech_pareto.runtime.result import read_json
from speech_pareto.study.config import ConfigError, resolve

TASK = {"kind": "ctc", "unit": "characters", "protocol": "finetune", "metric": "cer"}
TRAINING = {"steps": 1, "batch_seconds": 4, "learning_rate": 1e-3, "precision": "fp32"}


@pytest.fixture(scope="module")
def taught(prompts_en):
    return [u for u in read(prompts_en) if u.split == "train"]


def hours(members):
    return sum(member.seconds for member in members) / 3600


def test_fewer_hours_are_a_part_of_more_and_keep_each_speakers_share(taught):
    whole, before = hours(taught), set()
    groups = defaultdict(list)
    for i, member in enumerate(taught):  # as if three people had spoken
        member.speaker = f"s{i % 10 // 4}"
        groups[member.speaker].append(member)
    for part in (0.02, 0.1, 0.4, 0.9):
        chosen = first_hours(taught, part * whole)
        ids = {member.id for member in chosen}
        assert before < ids
        before = ids
        longest = max(member.seconds for member in taught) / 3600
        assert part * whole <= hours(chosen) < part * whole + longest
        for group in groups.values():
            own = hours(member for member in group if member.id in ids)
            assert own == pytest.approx(part * hours(group), abs=longest)
        assert chosen == [member for member in taught if member.id in ids]  # in their order


def test_the_choice_does_not_depend_on_the_order_of_a_manifest(taught):
    part = 0.3 * hours(taught)
    turned = first_hours(taught[::-1], part)
    assert {u.id for u in turned} == {u.id for u in first_hours(taught, part)}


def test_all_is_used_if_nothing_is_said_and_more_than_there_is_refused(taught):
    assert first_hours(taught, None) == taught
    with pytest.raises(ValueError, match=r"train_hours is 900, but only 0\.\d+ h suit the task"):
        first_hours(taught, 900)


@pytest.mark.slow
def test_a_model_is_trained_on_that_much(prompts_en, tmp_path, caplog):
    torch.manual_seed(0)
    save(new(tiny_config(hidden=48, layers=1, heads=2, ffn=64, pos_conv=16)), tmp_path / "m")
    caplog.set_level("INFO")
    for part in (0.02, 0.1):
        folder = tmp_path / str(part)
        task = {**TASK, "languages": ["en"], "train_hours": part}
        finetune.main(task, TRAINING, tmp_path / "m", [prompts_en], 1, folder)
        assert read_json(folder / "provenance.json")["task"]["train_hours"] == part
        assert f" {part:.2f} h" in caplog.text
    with pytest.raises(ValueError, match="train_hours is 99"):
        task = {**TASK, "languages": ["en"], "train_hours": 99}
        finetune.main(task, TRAINING, tmp_path / "m", [prompts_en], 1, tmp_path / "x")


@pytest.mark.parametrize("given", [0, -1, "ten"])
def test_a_budget_is_a_number_of_hours(given):
    config = yaml.safe_load(yaml.safe_dump(STUDY))
    next(iter(config["tasks"].values()))["train_hours"] = given
    with pytest.raises(ConfigError, match="train_hours"):
        resolve(config, [])
