"""Test students against their teacher, and the points of each front against each other."""

from pathlib import Path

from speech_pareto.reporting.tables import comparisons, results_table
from speech_pareto.reporting.tables.examples import build as build_examples
from speech_pareto.runtime import result


def main(cells, hypotheses: list, parquet, csv, fronts, pairs, examples) -> None:
    """Write the comparisons (Parquet, CSV), the fronts and all pairs (CSV), the examples (JSON).

    `cells` is the table (Parquet) that `aggregate` wrote; `hypotheses` holds the utterances (TSV)
    that lie beside the metrics of its cells.
    """
    files = {str(Path(file).with_suffix(".json")): str(file) for file in hypotheses}
    table = results_table.read(cells)
    against_teachers, points, tests = comparisons.build(table, files)
    for file in (parquet, csv, fronts, pairs):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    against_teachers.to_parquet(parquet, index=False)
    against_teachers.to_csv(csv, index=False, lineterminator="\n")
    points.to_csv(fronts, index=False, lineterminator="\n")
    tests.to_csv(pairs, index=False, lineterminator="\n")
    result.write_json(examples, build_examples(table, files))


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        main(
            cells=snakemake.input.cells,
            hypotheses=snakemake.input.hypotheses,
            parquet=snakemake.output.parquet,
            csv=snakemake.output.csv,
            fronts=snakemake.output.fronts,
            pairs=snakemake.output.pairs,
            examples=snakemake.output.examples,
        )
