"""Print and write the results so far of a study, while it runs or after it stopped."""

import sys

from speech_pareto.reporting import interim


def main(study, results) -> None:
    """Write the tables and the page to the folder `interim` of `results`, print the fronts."""
    sys.stdout.write(interim.write(study, results))


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        main(snakemake.params.study, snakemake.params.results)
