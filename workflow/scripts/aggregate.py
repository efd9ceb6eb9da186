"""Gather the results of all cells into one table, a leaderboard and the front as text."""

from pathlib import Path

from speech_pareto.reporting.leaderboard import as_csv, front_text, markdown
from speech_pareto.reporting.tables import analysis, results_table
from speech_pareto.runtime import result


def main(
    metrics: list, profiles: list, parquet, csv, front, leaderboard, numbers, comparisons=None
) -> None:
    """Write the table (Parquet, CSV) and its readable forms from the cells' JSON files.

    `comparisons` is the file (Parquet) that `compare` wrote; `leaderboard` becomes Markdown, and
    `numbers` the same as CSV.
    """
    cells = results_table.build(
        results_table.read_results(metrics), results_table.read_results(profiles)
    )
    write(cells, parquet, csv)
    compared = results_table.read(comparisons) if comparisons else None
    result.write_text(front, front_text(cells, compared))
    result.write_text(leaderboard, markdown(cells, compared))
    result.write_text(numbers, as_csv(cells, compared))


def write(rows, parquet, csv) -> None:
    """Write a table as Parquet and CSV."""
    for file in (parquet, csv):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(parquet, index=False)
    rows.to_csv(csv, index=False, lineterminator="\n")


def gather(analyses: list, metrics: list, parquet, csv) -> None:
    """Write what `analyse` and `evaluate` saw inside all students as one table (Parquet, CSV)."""
    write(
        analysis.build(results_table.read_results(analyses), results_table.read_results(metrics)),
        parquet,
        csv,
    )


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        main(
            metrics=snakemake.input.metrics,
            profiles=snakemake.input.profiles,
            comparisons=snakemake.input.comparisons,
            parquet=snakemake.output.parquet,
            csv=snakemake.output.csv,
            front=snakemake.output.front,
            leaderboard=snakemake.output.leaderboard,
            numbers=snakemake.output.numbers,
        )
        gather(
            analyses=snakemake.input.analyses,
            metrics=snakemake.input.metrics,
            parquet=snakemake.output.analysis,
            csv=snakemake.output.analysis_csv,
        )
