"""Results are written whole, checked, and explain themselves when wrong."""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speech_pareto.models.backbone import new, save, tiny_config
from speech_pareto.runtime import result

RUN = {
    "study": "default",
    "role": "student",
    "pretrained": True,
    "teacher": "tiny",
    "recipe": "low-rank",
    "ratio": 0.5,
    "seed": 1,
    "task": "phones",
    "config": {"steps": [{"low_rank": {}}]},
}
METRIC = {"name": "per", "better": "lower"}
SCRIPTS = Path(result.__file__).parents[2]


def test_same_value_gives_same_bytes(tmp_path):
    result.write_json(tmp_path / "a.json", {"b": 1, "a": "é"})
    result.write_json(tmp_path / "b.json", {"a": "é", "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.json").read_bytes().endswith(b"}\n")
    assert result.read_json(tmp_path / "a.json") == {"a": "é", "b": 1}


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    result.write_json(path, {"a": 1})

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        result.write_json(path, {"a": 2})
    assert result.read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_file_mode_follows_umask(tmp_path):
    old = os.umask(0o027)
    try:
        result.write_json(tmp_path / "a.json", 1)
    finally:
        os.umask(old)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640


def test_nan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="status other than ok"):
        result.write_json(tmp_path / "a.json", {"per": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_broken_json_names_the_file(tmp_path):
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"a\.json: not readable as JSON"):
        result.read_json(tmp_path / "a.json")


def test_result_round_trip(tmp_path):
    value = result.compose(RUN, {"commit": None}, metrics={"per": 31.2}, metric=METRIC)
    result.write(tmp_path / "deep" / "a.json", value)
    assert result.read(tmp_path / "deep" / "a.json") == value


def test_status_round_trip_and_pass_on(tmp_path):
    assert result.read_status(tmp_path / "nowhere") is None
    result.write_status(tmp_path / "cell", "infeasible", "heads hold 26 %", reachable=0.26)
    status = result.read_status(tmp_path / "cell")
    assert status == {"status": "infeasible", "reason": "heads hold 26 %", "reachable": 0.26}
    value = result.compose(RUN, {}, metric=METRIC, status=status)
    result.write(tmp_path / "a.json", value)
    assert (value["status"], value["reachable"]) == ("infeasible", 0.26)


@pytest.mark.parametrize("status", ["ok", "failed"])
def test_only_known_statuses(tmp_path, status):
    with pytest.raises(ValueError, match="infeasible, diverged, out_of_memory"):
        result.write_status(tmp_path, status, "why")


def test_all_problems_are_listed_in_plain_words():
    run = {**RUN, "ratio": "half", "colour": "red"}
    with pytest.raises(ValueError, match="not a valid result") as error:
        result.check({"run": run, "status": "fine", "meta": {}}, "a.json")
    text = str(error.value)
    assert text.startswith("a.json is not a valid result:")
    for part in ("run.ratio: 'half'", "colour", "status: 'fine' is not one of"):
        assert part in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": None}, "'metrics' is a required property"),
        ({"metric": None}, "'metric' is a required property"),
        ({"metrics": {"cer": 1.0}}, "has no 'per'"),
        ({"status": {"status": "diverged"}}, "reason: None is not of type 'string'"),
        ({"run": {**RUN, "scope": "any"}}, "run:"),
    ],
)
def test_incomplete_results_are_refused(change, message):
    value = {"run": RUN, "meta": {}, "metrics": {"per": 1.0}, "metric": METRIC, **change}
    with pytest.raises(ValueError, match=message):
        result.check(result.compose(**value))


def test_what_is_known_of_a_student_is_its_cost_or_an_analysis():
    run = {key: value for key, value in RUN.items() if key != "task"} | {"scope": "any"}
    with pytest.raises(ValueError, match="is not valid under any of the given schemas"):
        result.check(result.compose(run, {}))


def test_needs_neither_torch_nor_pandas():
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r});"
        "from speech_pareto.runtime import result;"
        "result._validator(); assert not {'torch', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_files_follow_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        torch.manual_seed(0)
        save(new(tiny_config(hidden=16, layers=1, heads=2, ffn=16, pos_conv=4)), tmp_path / "m")
        result.write_json(tmp_path / "m" / "x.json", {})
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "m").iterdir()}
    assert modes.keys() >= {"model.safetensors", "config.json", "x.json"}
    assert set(modes.values()) == {0o600}


NUMBERS = st.one_of(
    st.floats(), st.integers(), st.none(), st.booleans(), st.text(), st.lists(st.integers())
)


@given(NUMBERS)
def test_whatever_stands_for_a_score_is_a_finite_number_or_refused(value):
    run = {"study": "s", "teacher": "t", "recipe": "r", "ratio": 0.5, "seed": 1, "task": "phones"}
    run |= {"role": "student", "pretrained": True}
    metric = {"name": "per", "better": "lower"}
    made = result.compose(run, {}, metrics={"per": value}, metric=metric)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "metrics" / "t" / "r" / "0.5" / "1" / "phones.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(made))  # with NaN and Infinity, as a foreign program may
        read = result.read_cell(file)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    sound = number and math.isfinite(value) and 0 <= value <= result.WORST
    assert (read["status"] == "ok") == sound
    if sound:
        assert read["metrics"]["per"] == value
