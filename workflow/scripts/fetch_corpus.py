"""Download the recordings and transcripts of a built-in corpus."""

import shutil
from pathlib import Path

from speech_pareto.data import sources


def main(source: str, settings: dict, output: str | Path) -> None:
    """Leave what `corpora/<source>.py` fetches in the folder `output`.

    Parts of an interrupted download wait in `<output>.part` and are continued.
    """
    part, output = Path(f"{output}.part"), Path(output)
    part.mkdir(parents=True, exist_ok=True)
    corpus = sources.load(source)
    corpus.fetch(settings, part)
    shutil.rmtree(output, ignore_errors=True)
    part.rename(output)


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged
    from speech_pareto.runtime.store import stored

    with logged(snakemake.log[0]):
        stored(
            snakemake,
            main,
            snakemake.params.job["source"],
            snakemake.params.settings,
            snakemake.output[0],
        )
