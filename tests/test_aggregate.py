"""`aggregate` writes the same table twice, readable from Parquet and CSV alike."""

from pathlib import Path

import pandas as pd
import pytest

import aggregate
from helpers import synthetic_results
from helpers.checkout import ROOT
from speech_pareto.reporting import leaderboard
from speech_pareto.reporting.tables import results_table
from speech_pareto.runtime import result

NAMES = {"parquet": "r.parquet", "csv": "r.csv"}


def run(files, folder: Path) -> dict[str, Path]:
    """Aggregate into `folder`."""
    outputs = {key: folder / name for key, name in NAMES.items()}
    aggregate.main(*files, **outputs)
    return outputs


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the synthetic grid's metrics and profiles."""
    return synthetic_results.write(tmp_path_factory.mktemp("grid"))


def test_the_same_bytes_in_any_order(files, tmp_path):
    first = run(files, tmp_path / "a")
    second = run([files[0][::-1], files[1][::-1]], tmp_path / "b")
    for key in NAMES:
        assert first[key].read_bytes() == second[key].read_bytes(), key


def test_parquet_and_csv_agree(files, tmp_path):
    outputs = run(files, tmp_path)
    cells = results_table.read(outputs["parquet"])
    text = pd.read_csv(outputs["csv"])
    assert list(cells) == list(text)
    assert cells["score"].dropna().to_list() == pytest.approx(text["score"].dropna().to_list())
    assert (cells["parameters"].dropna().to_numpy() == text["parameters"].dropna().to_numpy()).all()
    assert cells["seed"].dtype == "Int64"


def test_a_wrong_file_is_named(files, tmp_path):
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"status": "ok"}')
    with pytest.raises(ValueError, match=r"wrong\.json is not a valid result"):
        run([[*files[0], wrong], files[1]], tmp_path)


@pytest.mark.parametrize("named", [True, False])
def test_a_grid_of_holes_alone(tmp_path, named):
    metrics, profiles = synthetic_results.write(tmp_path)
    holes = [file for file in metrics if "head-pruning/0.5" in str(file)]
    costs = [file for file in profiles if "head-pruning/0.5" in str(file)]
    if not named:  # as `evaluate` does without a model
        for file in holes:
            value = result.read(file)
            del value["metric"]
            result.write(file, value)
    cells = results_table.read(run([holes, costs], tmp_path / "out")["parquet"])
    assert "0 of 1 cells done, 1 infeasible" in leaderboard.front_text(cells)


def test_columns_are_documented():
    text = (ROOT / "docs" / "results.md").read_text()
    columns = [
        *results_table.FROM_METRICS,
        *results_table.FROM_PROFILE,
        "score",
        "valid_score",
        *results_table.LANGUAGES,
        "paired_seconds",
        "commit",
    ]
    columns += ["dirty", "versions", "hardware", "config", "metrics_file", "profile_file"]
    assert [column for column in columns if f"`{column}`" not in text] == []
