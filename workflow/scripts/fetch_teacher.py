"""Download a teacher from the Hugging Face hub and store it as safetensors."""

import logging
import shutil
from pathlib import Path

from transformers import AutoFeatureExtractor, AutoModel

log = logging.getLogger(__name__)


def main(hub: str, revision: str | None, output: str | Path) -> None:
    """Write the backbone `hub` (an id, or a folder) at `revision` to the folder `output`.

    No code from the hub is run; pickled weights are read as plain tensors only.
    """
    part, output = Path(f"{output}.part"), Path(output)
    shutil.rmtree(part, ignore_errors=True)
    model = AutoModel.from_pretrained(hub, revision=revision, trust_remote_code=False)
    model.save_pretrained(part)
    try:
        AutoFeatureExtractor.from_pretrained(hub, revision=revision).save_pretrained(part)
    except OSError:
        log.info("%s has no preprocessor_config.json: 16 kHz without normalisation is assumed", hub)
    shutil.rmtree(output, ignore_errors=True)
    part.rename(output)


if "snakemake" in globals():
    from speech_pareto.log import logged

    with logged(snakemake.log[0]):
        main(snakemake.params.hub, snakemake.params.revision, snakemake.output[0])
