"""What is seen inside models: layers, heads, hidden states, on real recordings and real models."""

import pandas as pd
import pytest
import torch

import aggregate
import analyse
import compress
from helpers.results import RUN
from speech_pareto.models import backbone
from speech_pareto.models.similarity import linear_cka
from speech_pareto.profiling import model_analysis
from speech_pareto.profiling.diagonality import DEFINITIONS
from speech_pareto.reporting.tables import analysis
from speech_pareto.runtime import result

SMALL = {"hidden": 48, "layers": 3, "heads": 6, "ffn": 96, "pos_conv": 16}


@pytest.mark.parametrize(
    ("name", "diagonal", "uniform"),
    [("row_normalised", 1, 0.557), ("length_normalised", 0, -1 / 3)],
)
def test_definitions_of_diagonality(name, diagonal, uniform):
    define, frames = DEFINITIONS[name], 1000
    maps = torch.stack([torch.eye(frames), torch.full((frames, frames), 1 / frames)])
    assert define(maps).tolist() == pytest.approx([diagonal, uniform], abs=2e-3)
    assert define(torch.ones(1, 1, 1)).tolist() == [diagonal]  # a single frame


def test_diagonality_by_hand():
    maps = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [0.2, 0.3, 0.5]])
    rows = [1 - 0.5 / 2, 1 - 1, 1 - (0.4 + 0.3) / 2]
    assert DEFINITIONS["row_normalised"](maps).item() == pytest.approx(sum(rows) / 3)
    assert DEFINITIONS["length_normalised"](maps).item() == pytest.approx(-2.2 / 9)


def test_cka_is_blind_to_rotation_scale_and_shift_and_sees_the_rest():
    torch.manual_seed(0)
    x, noise = torch.randn(4000, 6), torch.randn(4000, 6)
    turned = 3 * x @ torch.linalg.qr(torch.randn(6, 6)).Q + 2
    found = linear_cka([x], [turned, noise, torch.cat([x, noise], 1), torch.ones(4000, 2)])[0]
    assert found[0] == pytest.approx(1, abs=1e-5)
    assert found[1] < 0.02
    assert found[2] == pytest.approx(0.5**0.5, abs=0.02)
    assert found[3] == 0
    gram = [y - y.mean(0) for y in (x, noise)]  # the definition, through Gram matrices
    k, m = (y @ y.T for y in gram)
    assert found[1] == pytest.approx(float((k * m).sum() / k.norm() / m.norm()), abs=1e-4)


@pytest.fixture(scope="module", params=["hubert", "wavlm"])
def teacher(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / request.param
    torch.manual_seed(0)
    backbone.save(backbone.new(backbone.tiny_config(**SMALL, model_type=request.param)), folder)
    return folder


def student(teacher, steps, ratio):
    """Return the folder of a student."""
    folder = teacher.parent / f"{next(iter(steps))}-{teacher.name}"
    if not folder.is_dir():
        compress.main([{k: v} for k, v in steps.items()], ratio, 1, teacher, [], {}, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "ratio"),
    [
        ({"identity": {}}, 0.0),
        ({"head_pruning": {}}, 0.1),
        ({"ffn_pruning": {}}, 0.1),
        ({"weight_pruning": {}}, 0.3),
        ({"low_rank": {}}, 0.3),
        ({"layer_drop": {}}, 0.3),
        ({"attention_reuse": {}}, 0.06),
        ({"int8": {}}, 0.0),
        ({"half_precision": {}}, 0.0),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_analysis_is_a_valid_result_of_every_kind_of_student(
    teacher, steps, ratio, prompts_en, tmp_path, monkeypatch
):
    monkeypatch.setattr(model_analysis, "SECONDS", 4.0)
    made = student(teacher, steps, ratio)
    analyse.main(teacher, made, [prompts_en], RUN, tmp_path / "a.json")
    found = result.read(tmp_path / "a.json")["analysis"]
    ours, theirs = (found["layers"][name] for name in ("student", "teacher"))
    described = backbone.load(made)
    assert [layer["heads"] for layer in ours] == [
        list(layer.attention.heads) for layer in described.encoder.layers
    ]
    for name in DEFINITIONS:
        heads = found["diagonality"]["student"][name]
        assert [len(x) for x in heads] == [len(layer["heads"]) for layer in ours]
    assert [len(found["cka"]), len(found["cka"][0])] == [len(ours) + 1, len(theirs) + 1]
    assert all(-1e-6 <= value <= 1 + 1e-5 for line in found["cka"] for value in line)
    assert found["cka"][0][0] == pytest.approx(1, abs=0.05)  # the same input of the first layer
    if "weight_pruning" in steps:
        zeros = [sum(layer["zeros"] for layer in layers) for layers in (ours, theirs)]
        assert zeros[0] > 10 * zeros[1]  # biases begin at zero
    if "identity" in steps:
        assert ours == theirs
        assert found["diagonality"]["student"] == found["diagonality"]["teacher"]
        assert [found["cka"][i][i] for i in range(len(ours))] == pytest.approx([1] * len(ours))


def test_heads_that_stay_attend_as_before_in_the_first_layer(teacher, prompts_en):
    made = student(teacher, {"head_pruning": {}}, 0.1)
    found = model_analysis.analyse(teacher, made, model_analysis.recordings([prompts_en])[:2])
    kept = found["layers"]["student"][0]["heads"]
    whole = found["diagonality"]["teacher"]["row_normalised"][0]
    expected = [whole[head] for head in kept]
    assert found["diagonality"]["student"]["row_normalised"][0] == pytest.approx(expected, abs=1e-4)


def test_the_same_recordings_of_validation_each_time(prompts_en):
    chosen = model_analysis.recordings([prompts_en])
    assert [u.id for u in chosen] == [u.id for u in model_analysis.recordings([prompts_en])]
    assert {u.split for u in chosen} == {"valid"}
    assert sum(u.seconds for u in chosen) >= min(model_analysis.SECONDS, 20)


def test_a_hole_stays_a_hole_and_the_table_has_the_rest(teacher, prompts_en, tmp_path):
    result.write_status(tmp_path / "none", "infeasible", "can remove 0.26, not 0.9", 0.26)
    analyse.main(teacher, tmp_path / "none", [prompts_en], RUN, tmp_path / "hole.json")
    assert result.read(tmp_path / "hole.json")["status"] == "infeasible"
    made = student(teacher, {"head_pruning": {}}, 0.1)
    run = RUN | {"recipe": "heads", "ratio": 0.1}
    analyse.main(teacher, made, [prompts_en], run, tmp_path / "heads.json")
    files = [tmp_path / "hole.json", tmp_path / "heads.json"]
    aggregate.gather(files, [], tmp_path / "a.parquet", tmp_path / "a.csv")
    table = pd.read_parquet(tmp_path / "a.parquet")
    assert set(table["recipe"]) == {"heads"}
    assert table.columns.to_list() == analysis.COLUMNS
    assert len(table[table["quantity"] == analysis.CKA]) == 16
    counts = table[(table["quantity"] == "heads")].groupby("model")["value"].sum()
    assert counts["student"] < counts["teacher"] == 18
    aggregate.gather(files[:1], [], tmp_path / "a.parquet", tmp_path / "a.csv")
    assert pd.read_parquet(tmp_path / "a.parquet").empty
