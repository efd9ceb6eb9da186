"""What the parts of a teacher are worth: measured, kept, drawn, and by the rules themselves."""

import copy
import shutil

import pandas as pd
import pytest
import torch
import yaml

import draw_sensitivity
import measure_sensitivity
from helpers.backbones import backbone, convolutional, with_task_head
from helpers.checkout import ROOT, called_in, run_snakemake
from helpers.compressing import batches, compress
from helpers.corpora import write_recordings
from speech_pareto.models import backbone as model
from speech_pareto.models import storage, surgery
from speech_pareto.profiling.part_damages import measure
from speech_pareto.reporting.figures.sensitivity_map import PARTS
from speech_pareto.runtime import result

RUN = {"teacher": "small", "scope": "any"}
STRIDES = {"conv_kernel": [10, 32], "conv_stride": [10, 32]}  # 50 frames a second
ASKED = {"levels": [0.25, 0.75], "bits": [4, 2], "seconds": 4}


@torch.no_grad()
def damage(teacher, changed, audio):
    """Return the damage of all that differs, on audio without padding."""
    before, after = (
        torch.cat([made.eval()(**batch).last_hidden_state[0].double() for batch in audio])
        for made in (teacher, changed)
    )
    spread = (before - before.mean(0)).square().sum()
    return ((after - before).square().sum() / spread).item()


@pytest.mark.parametrize("kind", ["hubert", "wavlm", "data2vec-audio"])
def test_each_row_is_one_change_and_what_it_saves(kind):
    teacher = backbone(kind)
    audio = [{name: value[:1] for name, value in batch.items()} for batch in batches(2, 0.4)]
    rows = pd.DataFrame(measure(teacher, audio, [0.25, 0.75], [4, 2])).set_index("part")
    assert set(rows.index) == set(PARTS)
    assert (rows["damage"] > 0).all()
    size = sum(parameter.numel() for parameter in teacher.parameters())

    def changed(change):
        made = copy.deepcopy(teacher)
        change(made.encoder.layers[1])
        return made

    cases = {
        "feed-forward": lambda layer: surgery.keep_rows(layer, torch.arange(0)),
        "attention": lambda layer: surgery.keep_heads(layer, ()),
    }
    for part, change in cases.items():
        row = rows.loc[part].query("layer == 2").iloc[0]
        made = changed(change)
        assert row["damage"] == pytest.approx(damage(teacher, made, audio), rel=1e-3)
        assert row["parameters"] == size - sum(x.numel() for x in made.parameters())
        assert row["bytes"] == 4 * row["parameters"]
    student, _ = compress([{"intx": {"bits": 2}}], teacher, 0.0)
    bits = rows[rows.index.str.endswith("bits")].query("level == 2")
    inside = [
        n for n in storage.weights(model.describe(teacher)) if n.startswith("encoder.layers.")
    ]
    numbers = [teacher.get_submodule(name).weight.numel() for name in inside]
    assert (bits["parameters"] == 0).all()
    assert 0.85 * 4 * sum(numbers) < bits["bytes"].sum() < 4 * sum(numbers)
    assert bits["bytes"].sum() < storage.stored_bytes(model.describe(teacher)) - (
        storage.stored_bytes(model.describe(student))
    )


def test_a_part_that_cannot_lose_some_is_left_out():
    teacher = backbone("hubert")
    surgery.keep_heads(teacher.encoder.layers[0], (3,))
    surgery.keep_rows(teacher.encoder.layers[1], torch.arange(0))
    rows = pd.DataFrame(measure(teacher, batches(1, 0.4), [0.5], [4]))
    parts = {layer: set(own["part"]) for layer, own in rows.groupby("layer")}
    assert "heads" not in parts[1] and "attention ranks" in parts[1]
    assert not {part for part in parts[2] if part.startswith("feed-forward")} | {"rows"} & parts[2]


def test_posteriors_are_compared_where_there_is_a_task(tmp_path, prompts_en):
    torch.manual_seed(0)
    made = model.new(convolutional("hubert", **STRIDES))
    task = with_task_head(made, tmp_path / "teacher")
    for name, own in (("tuned", task), ("bare", None)):
        file = tmp_path / f"{name}.json"
        measure_sensitivity.main(tmp_path / "teacher", [prompts_en], RUN, file, **ASKED, task=own)
    tuned, bare = (result.read_json(tmp_path / f"{name}.json") for name in ("tuned", "bare"))
    assert (tuned["damage"], bare["damage"]) == ("posteriors", "state")
    assert 4 <= tuned["seconds"] == bare["seconds"] < 20
    damages = [[row["damage"] for row in found["rows"]] for found in (tuned, bare)]
    assert damages[0] != damages[1] and len(damages[0]) == len(damages[1])
    assert all(0 < value < 10 for value in damages[0])


def test_a_teacher_that_could_not_be_made_is_said_to_be_missing(tmp_path):
    result.write_status(tmp_path / "none", "diverged", "the loss is not finite", None)
    measure_sensitivity.main(tmp_path / "none", [], RUN, tmp_path / "found.json", **ASKED)
    files = [tmp_path / "map.svg", tmp_path / "map.png"]
    draw_sensitivity.main(tmp_path / "found.json", tmp_path / "table.parquet", files)
    assert pd.read_parquet(tmp_path / "table.parquet").empty
    assert "the loss is not finite" in files[0].read_text()


@pytest.mark.slow
def test_the_rules_measure_keep_and_draw(tmp_path, prompts_en):
    shutil.copytree(ROOT / "tests" / "smoke", tmp_path, dirs_exist_ok=True)
    write_recordings(tmp_path, prompts_en, 20)
    torch.manual_seed(0)
    model.save(model.new(convolutional("wav2vec2", **STRIDES)), tmp_path / "teacher")
    file = tmp_path / "config" / "config.yaml"
    study = yaml.safe_load(file.read_text())
    study["teachers"] = {"small": {"path": "teacher"}}
    study["tasks"]["characters"]["start"] = "backbone"
    study["sensitivity"] = {"levels": [0.5], "bits": [2], "seconds": 2}
    study["grid"] = [{"ratios": [0.2], "seeds": [1], "tasks": ["characters"]}]
    file.write_text(yaml.safe_dump(study))
    command = [*called_in(tmp_path, 2), "--show-failed-logs"]
    run_snakemake(ROOT, "sensitivity", *command)
    folder = tmp_path / "results" / "sensitivity" / "small"
    rows = pd.read_parquet(folder / "any.parquet")
    assert set(rows["part"]) == set(PARTS) and rows["damage"].gt(0).all()
    assert set(rows["layer"][rows["part"] != "channels"]) == {1, 2, 3}
    assert {path.name for path in folder.iterdir()} == {
        *(f"any.{kind}" for kind in ("json", "parquet", "svg", "pdf", "png"))
    }
    assert "conv 1" in (folder / "any.svg").read_text()
