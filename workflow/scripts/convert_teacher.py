"""Convert a checkpoint of fairseq, s3prl, WavLM or MelHuBERT to a folder of safetensors."""

from pathlib import Path

import numpy as np
import torch

from speech_pareto.models import fairseq
from speech_pareto.models.backbone import build, save
from speech_pareto.runtime.hashing import sha256
from speech_pareto.runtime.provenance import meta
from speech_pareto.runtime.result import to_text


def main(checkpoint: str | Path, statistics: str | Path | None, output: str | Path) -> None:
    """Write the backbone in the file `checkpoint` to the folder `output`.

    `statistics` is the .npy file of a MelHuBERT's features. Raises ValueError, which names the
    file, for whatever in it is not known.
    """
    given = None
    if statistics:
        given = torch.from_numpy(np.load(statistics, allow_pickle=False)).reshape(2, -1)
    try:
        config, tensors, normalizes = fairseq.convert(fairseq.read(checkpoint), given)
        model = build(config)
        fairseq.check(model.state_dict(), tensors)
    except ValueError as error:
        said = str(error)
        raise ValueError(said if str(checkpoint) in said else f"{checkpoint}: {said}") from None
    model.load_state_dict(tensors, assign=True)
    model.preprocessor = {**model.preprocessor, "do_normalize": normalizes}
    sources = [Path(file) for file in (checkpoint, statistics) if file]
    facts = {"files": {file.name: sha256(file) for file in sources}, "meta": meta()}
    save(model, output, texts={"provenance.json": to_text(facts)})


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        statistics = snakemake.input.get("statistics") or None
        main(snakemake.input.checkpoint, statistics, snakemake.output[0])
