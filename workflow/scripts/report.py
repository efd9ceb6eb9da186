"""Make the page of a study and the leaderboard in HTML, out of the tables alone."""

from pathlib import Path

from speech_pareto.reporting import leaderboard
from speech_pareto.reporting.page import page
from speech_pareto.reporting.tables import points, results_table
from speech_pareto.runtime import result


def main(cells, output, ranking) -> None:
    """Write the page of the table `cells` (Parquet) and of those beside it, and the leaderboard."""
    compared = Path(cells).with_name("comparisons.parquet")
    known = results_table.read(cells)
    result.write_text(output, page.write(points.read(cells), known))
    result.write_text(ranking, leaderboard.as_html(known, results_table.read(compared)))


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        main(snakemake.input.cells, snakemake.output.page, snakemake.output.leaderboard)
