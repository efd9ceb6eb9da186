"""Draw the Pareto figure of one task over one cost axis, from the tables alone."""

from speech_pareto import figures
from speech_pareto.table import read, summarise


def main(table, task: str, cost: str, outputs: list, comparisons=None) -> None:
    """Draw `task` over `cost` (parameters, macs_per_second, seconds) into `outputs` by suffix."""
    summary = summarise(read(table), read(comparisons) if comparisons else None)
    figures.save(figures.pareto(summary, task, cost), outputs)


if "snakemake" in globals():
    from speech_pareto.log import logged

    with logged(snakemake.log[0]):
        main(
            table=snakemake.input.table,
            task=snakemake.wildcards.task,
            cost=snakemake.wildcards.cost,
            outputs=list(snakemake.output),
            comparisons=snakemake.input.comparisons,
        )
