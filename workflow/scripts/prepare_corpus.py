"""Decode a corpus to 16 kHz, spell its phones and split it into train, valid and test."""

import importlib
import logging
import shutil
from collections import defaultdict
from pathlib import Path

from tqdm import tqdm

from speech_pareto.audio import SAMPLE_RATE, decode
from speech_pareto.corpus import Utterance, assign_splits, digest, write
from speech_pareto.text import phones

log = logging.getLogger(__name__)


def main(name: str, settings: dict, downloads: str | Path, output: str | Path) -> None:
    """Write `output`/{manifest.tsv, audio.npy, README.md} from downloads or the user's TSV.

    Raises ValueError if a built-in corpus is not, word for word and sample for sample, the one
    that the pinned digests describe.
    """
    source = importlib.import_module(f"speech_pareto.corpora.{settings['source']}")
    languages = settings["languages"]
    recordings = source.recordings(languages, Path(downloads))
    waves = [decode(r.path) for r in tqdm(recordings, desc=f"decode {name}", unit="file")]
    seconds = [len(wave) / SAMPLE_RATE for wave in waves]
    found = _digests(source, recordings, waves)
    for language in languages:
        expected = source.DIGESTS.get(language)
        if expected and found[language] != expected:
            raise ValueError(
                f"corpus {name}, language {language}: the decoded corpus has the digest "
                f"{found[language]}, not {expected}: another release or a damaged download"
            )
    splits = assign_splits(
        recordings, seconds, settings.get("valid", 0.05), settings.get("test", 0.12)
    )
    utterances, offset = [], 0
    for recording, wave, split in zip(recordings, waves, splits, strict=True):
        spoken = "".join(phones(recording.text, recording.language)) if recording.text else ""
        utterances.append(
            Utterance(
                id=recording.id,
                text=recording.text,
                phones=spoken,
                label=recording.label,
                speaker=recording.speaker,
                language=recording.language,
                split=split,
                offset=offset,
                samples=len(wave),
            )
        )
        offset += len(wave)
    part = Path(f"{output}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write(part, utterances, waves)
    (part / "README.md").write_text(_readme(name, source, utterances, found), encoding="utf-8")
    shutil.rmtree(output, ignore_errors=True)
    part.rename(output)
    log.info("%s: %d utterances, %.2f h", name, len(utterances), sum(seconds) / 3600)


def _digests(source, recordings: list, waves: list) -> dict[str, str]:
    """Return one digest per language: over samples, or over the files of a lossy codec."""
    by_language = defaultdict(list)
    for recording, wave in zip(recordings, waves, strict=True):
        content = recording.path.read_bytes() if source.LOSSY else wave.tobytes()
        by_language[recording.language].append((recording, content))
    return {language: digest(*zip(*pairs, strict=True)) for language, pairs in by_language.items()}


def _readme(name: str, source, utterances: list, digests: dict) -> str:
    """Return what is inside, under which licence, with which digests."""
    lines = [
        f"# Corpus `{name}`",
        "",
        (source.__doc__ or "").strip(),
        "",
        f"Licence: {source.LICENCE}",
        "",
    ]
    lines += [f"- {credit}" for credit in source.ATTRIBUTION]
    lines += ["", "| language | split | utterances | with text | hours |", "|---|---|---|---|---|"]
    rows = defaultdict(list)
    for utterance in utterances:
        rows[utterance.language, utterance.split].append(utterance)
    for (language, split), members in sorted(rows.items()):
        texts = sum(bool(u.text) for u in members)
        hours = sum(u.seconds for u in members) / 3600
        lines.append(f"| {language} | {split} | {len(members)} | {texts} | {hours:.3f} |")
    lines += [
        "",
        *(f"Digest {language}: `{digest}`" for language, digest in sorted(digests.items())),
        "",
    ]
    return "\n".join(lines)


if "snakemake" in globals():
    from speech_pareto.log import logged

    with logged(snakemake.log[0]):
        main(
            snakemake.wildcards.corpus,
            snakemake.params.settings,
            snakemake.input[0],
            snakemake.output[0],
        )
