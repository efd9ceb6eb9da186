"""Download a teacher from the Hugging Face hub and store its backbone as safetensors."""

import logging
from collections.abc import Mapping
from pathlib import Path

from speech_pareto.models import hub
from speech_pareto.models.backbone import load, save
from speech_pareto.models.model_folder import preprocessing
from speech_pareto.runtime.hashing import sha256
from speech_pareto.runtime.provenance import meta
from speech_pareto.runtime.result import to_text

log = logging.getLogger(__name__)


def main(model: str, revision: str, digests: Mapping[str, str], output: str | Path) -> None:
    """Write the backbone of the hub's `model` at the commit `revision` to the folder `output`.

    `digests` are SHA-256 that files must have, by name. No code from the hub is run; pickled
    weights are read as plain tensors only.
    """
    folder = hub.fetch(model, revision, digests)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    facts = {
        "hub": model,
        "revision": revision,
        "files": {path.name: sha256(path) for path in files},
        "pinned": sorted(digests),
        "meta": meta(),
    }
    if preprocessing(folder) is None:
        log.info("%s says nothing of preprocessing: what is usual for its kind holds", model)
    save(load(folder), output, texts={"provenance.json": to_text(facts)})


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged
    from speech_pareto.runtime.store import stored

    with logged(snakemake.log[0]):
        job = snakemake.params.job
        output = snakemake.output[0]
        stored(snakemake, main, job["hub"], job["revision"], job["sha256"], output)
