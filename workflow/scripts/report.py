"""Write what a reader opens of a study: the fronts, the leaderboard and the page."""

from collections.abc import Sequence
from pathlib import Path

from speech_pareto.reporting import documents
from speech_pareto.reporting.tables import points, results_table
from speech_pareto.runtime import result


def main(
    cells,
    comparisons,
    fronts,
    pairs,
    examples,
    outputs: list,
    runtimes=None,
    conditions=None,
    figures: Sequence[str] = (),
) -> None:
    """Write each of `outputs`, which have the names of `documents.written`, from the tables.

    `cells`, `comparisons` and `runtimes` are Parquet, `fronts` and `pairs` CSV, `examples` JSON;
    `conditions` is the table of what conditions cost (Parquet), with others beside it; `figures`
    are SVGs that the page shows.
    """
    lost = (
        [results_table.read(conditions), *points.read_conditions(conditions)] if conditions else ()
    )
    texts = documents.written(
        *map(results_table.read, (cells, comparisons)),
        *map(points.read_csv, map(Path, (fronts, pairs))),
        result.read_json(examples),
        runtimes=results_table.read(runtimes) if runtimes else None,
        conditions=lost,
        figures={"/".join(Path(f).parts[1:]): Path(f).read_text("utf-8") for f in figures},
    )
    for output in outputs:
        result.write_text(output, texts[Path(output).name])


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        main(
            cells=snakemake.input.cells,
            comparisons=snakemake.input.comparisons,
            fronts=snakemake.input.fronts,
            pairs=snakemake.input.pairs,
            examples=snakemake.input.examples,
            outputs=list(snakemake.output),
            runtimes=(snakemake.input.runtimes or [None])[0],
            conditions=(snakemake.input.conditions or [None])[0],
            figures=list(snakemake.input.figures),
        )
