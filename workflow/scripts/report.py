"""Make the page of a study, to choose a student from, out of its tables alone."""

from speech_pareto import page, points, result, table


def main(cells, output, base: str = "") -> None:
    """Write the page of the table `cells` (Parquet) and of those beside it to `output`.

    `base` leads from the page's folder to that of the results.
    """
    result.write_text(output, page.write(points.read(cells), table.read(cells), base))


if "snakemake" in globals():
    from speech_pareto.log import logged

    with logged(snakemake.log[0]):
        main(snakemake.input.cells, snakemake.output[0])
