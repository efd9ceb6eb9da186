"""Gather the scores in all conditions, and test what compression costs there."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from speech_pareto.reporting.tables import degradation, results_table
from speech_pareto.runtime import result


def main(
    cells, hypotheses: list, scores: list, profiles: list, parquet, csv, markdown, inside: Sequence
) -> None:
    """Write what conditions cost (Parquet, CSV, Markdown), and the tables `inside` them.

    `cells` is the table of `aggregate` (Parquet), `hypotheses` the utterances (TSV) of its cells,
    `scores` what `evaluate_condition` wrote, whose utterances lie beside it, `profiles` the costs.
    `inside` are tables of all conditions, as others are of recordings as they are: cells,
    comparisons (Parquet), fronts, pairs (CSV).
    """
    table, files = results_table.read(cells), {}
    for file in hypotheses:
        files[str(Path(file).with_suffix(".json"))] = str(file)
    found = [{str(x): result.read_cell(x) for x in given} for given in (scores, profiles)]
    heard = degradation.cells_in(table, *found)
    lost = degradation.build(table, files, heard)
    Path(parquet).parent.mkdir(parents=True, exist_ok=True)
    lost.to_parquet(parquet, index=False)
    result.write_text(csv, lost.to_csv(index=False, lineterminator="\n"))
    result.write_text(markdown, degradation.markdown(lost))
    parts: list[list[pd.DataFrame]] = [[], [], []]
    for name, _, made in degradation.compared(heard):
        for part, frame in zip(parts, made, strict=True):
            part.append(frame.assign(condition=name))
    for file, frame in zip(inside, (heard, *map(pd.concat, parts)), strict=True):
        if Path(file).suffix == ".parquet":
            frame.to_parquet(file, index=False)
        else:
            result.write_text(file, frame.to_csv(index=False, lineterminator="\n"))


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        main(
            cells=snakemake.input.cells,
            hypotheses=snakemake.input.hypotheses,
            scores=snakemake.input.scores,
            profiles=snakemake.input.profiles,
            parquet=snakemake.output.parquet,
            csv=snakemake.output.csv,
            markdown=snakemake.output.markdown,
            inside=list(snakemake.output)[3:],
        )
