"""Gather what exported files take and score, and test their errors against torch's."""

from pathlib import Path

from speech_pareto.reporting.tables import exported_files, results_table
from speech_pareto.runtime import result


def main(cells, hypotheses: list, measured: list, parquet, csv, markdown) -> None:
    """Write the table of exported files (Parquet, CSV, Markdown).

    `cells` is that of `aggregate` (Parquet), `hypotheses` the utterances (TSV) of its cells,
    `measured` the folders of `measure_export`.
    """
    files = {str(Path(file).with_suffix(".json")): str(file) for file in hypotheses}
    reports = {str(folder): result.read(Path(folder, "report.json")) for folder in measured}
    table = exported_files.build(results_table.read(cells), files, reports)
    Path(parquet).parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(parquet, index=False)
    result.write_text(csv, table.to_csv(index=False, lineterminator="\n"))
    result.write_text(markdown, exported_files.markdown(table))


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        main(
            cells=snakemake.input.cells,
            hypotheses=snakemake.input.hypotheses,
            measured=snakemake.input.measured,
            parquet=snakemake.output.parquet,
            csv=snakemake.output.csv,
            markdown=snakemake.output.markdown,
        )
