"""Gather the results of all cells into one table, and what was seen inside their students."""

from pathlib import Path

from speech_pareto.reporting.tables import analysis, results_table


def main(metrics: list, profiles: list, parquet, csv) -> None:
    """Write the table of cells (Parquet, CSV) from their JSON files."""
    found = map(results_table.read_results, (metrics, profiles))
    write(results_table.build(*found), parquet, csv)


def gather(analyses: list, metrics: list, parquet, csv) -> None:
    """Write what `analyse` and `evaluate` saw inside all students as one table (Parquet, CSV)."""
    found = map(results_table.read_results, (analyses, metrics))
    write(analysis.build(*found), parquet, csv)


def write(rows, parquet, csv) -> None:
    """Write a table as Parquet and CSV."""
    for file in (parquet, csv):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(parquet, index=False)
    rows.to_csv(csv, index=False, lineterminator="\n")


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        main(
            metrics=snakemake.input.metrics,
            profiles=snakemake.input.profiles,
            parquet=snakemake.output.parquet,
            csv=snakemake.output.csv,
        )
        gather(
            analyses=snakemake.input.analyses,
            metrics=snakemake.input.metrics,
            parquet=snakemake.output.analysis,
            csv=snakemake.output.analysis_csv,
        )
