"""Test students against their teacher, and the points of each front against each other."""

from pathlib import Path

from speech_pareto.reporting.tables import comparisons, results_table


def main(metrics: list, hypotheses: list, profiles: list, parquet, csv, fronts, pairs) -> None:
    """Write the comparisons (Parquet, CSV), the fronts and all pairs (CSV).

    `hypotheses` holds the utterances (TSV) of each file of `metrics`, in the same order.
    """
    cells = results_table.build(
        results_table.read_results(metrics), results_table.read_results(profiles)
    )
    files = dict(zip(map(str, metrics), map(str, hypotheses), strict=True))
    against_teachers, points, tests = comparisons.build(cells, files)
    for file in (parquet, csv, fronts, pairs):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    against_teachers.to_parquet(parquet, index=False)
    against_teachers.to_csv(csv, index=False, lineterminator="\n")
    points.to_csv(fronts, index=False, lineterminator="\n")
    tests.to_csv(pairs, index=False, lineterminator="\n")


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        main(
            metrics=snakemake.input.metrics,
            hypotheses=snakemake.input.hypotheses,
            profiles=snakemake.input.profiles,
            parquet=snakemake.output.parquet,
            csv=snakemake.output.csv,
            fronts=snakemake.output.fronts,
            pairs=snakemake.output.pairs,
        )
