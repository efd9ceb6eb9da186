"""Download the recordings and transcripts of a built-in corpus."""

from pathlib import Path

from speech_pareto.data import sources
from speech_pareto.runtime.files import whole_folder


def main(source: str, settings: dict, output: str | Path) -> None:
    """Leave what `corpora/<source>.py` fetches in the folder `output`.

    Parts of an interrupted download wait in `<output>.part` and are continued.
    """
    with whole_folder(output, resume=True) as part:
        sources.load(source).fetch(settings, part)


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged
    from speech_pareto.runtime.store import stored

    with logged(snakemake.log[0]):
        source, settings = snakemake.params.job["source"], snakemake.params.settings
        stored(snakemake, main, source, settings, snakemake.output[0])
