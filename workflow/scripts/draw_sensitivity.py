"""Draw what the parts of a teacher are worth, and keep it as a table."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from speech_pareto.reporting.figures import canvas, sensitivity_map
from speech_pareto.runtime import result

TYPES = {
    "layer": "Int64",
    "part": "string",
    "level": "float64",
    "parameters": "Int64",
    "bytes": "Int64",
    "damage": "float64",
}


def main(measured: str | Path, table: str | Path, outputs: Sequence) -> None:
    """Write the damages in a JSON file as a table (Parquet) and as figures, by suffix."""
    found = result.read_json(measured)
    rows = pd.DataFrame(found["rows"], columns=list(TYPES)).astype(TYPES)
    Path(table).parent.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(table, index=False)
    canvas.save(sensitivity_map.draw(rows, found), outputs)


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        table, *figures = snakemake.output
        main(snakemake.input[0], table, figures)
