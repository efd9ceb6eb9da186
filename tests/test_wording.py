"""Numbers and holes in words."""

import pytest

from helpers import synthetic_results
from speech_pareto.reporting.tables import results_table, wording
from speech_pareto.runtime import formatting


@pytest.mark.parametrize(
    ("value", "text"),
    [(4_012_345, "4.01 M"), (999_700, "1.00 M"), (310e6, "310 M"), (1.2e9, "1.20 G"), (12, "12"),
     (99_960, "100 k"), (float("nan"), "–")],
)  # fmt: skip
def test_short_count(value, text):
    assert formatting.short_count(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.092, "92.0 ms"), (1.2, "1.20 s"), (12.34, "12.3 s")]
)
def test_short_seconds(value, text):
    assert formatting.short_seconds(value) == text


def test_completeness_counts_every_status(tmp_path):
    files = synthetic_results.write(tmp_path)
    cells = results_table.build(*map(results_table.read_results, files))
    assert wording.completeness(cells) == "66 of 74 cells done, 8 infeasible"
