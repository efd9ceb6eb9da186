"""Decode a corpus to 16 kHz, spell its phones and split it into train, valid and test."""

import hashlib
import importlib
import logging
import shutil
from collections import defaultdict
from pathlib import Path

from tqdm import tqdm

from speech_pareto.audio import SAMPLE_RATE, decode
from speech_pareto.corpus import Utterance, assign_splits, digest, samples_file, write
from speech_pareto.text import phones

log = logging.getLogger(__name__)


def main(name: str, settings: dict, downloads: str | Path, output: str | Path) -> None:
    """Write `output`/{manifest.tsv, audio.npy, README.md} from downloads or the user's TSV.

    Raises ValueError if a built-in corpus is not, word for word and sample for sample, the one
    that the pinned digests describe.
    """
    source = importlib.import_module(f"speech_pareto.corpora.{settings['source']}")
    recordings = source.recordings(settings, Path(downloads))
    part = Path(f"{output}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    lengths, contents = [], []
    with samples_file(part / "audio.npy") as append:
        for recording in tqdm(recordings, desc=f"decode {name}", unit="file", mininterval=1):
            wave = decode(recording.path)
            append(wave)
            lengths.append(len(wave))
            content = recording.path.read_bytes() if source.LOSSY else wave.tobytes()
            contents.append(hashlib.sha256(content).digest())
    seconds = [length / SAMPLE_RATE for length in lengths]
    found = _digests(recordings, contents)
    for language in settings["languages"]:
        expected = source.DIGESTS.get(language)
        if expected and found[language] != expected:
            shutil.rmtree(part)
            raise ValueError(
                f"corpus {name}, language {language}: the decoded corpus has the digest "
                f"{found[language]}, not {expected}: another release or a damaged download"
            )
    if source.PUBLISHED_SPLITS:
        splits = [recording.split for recording in recordings]
    else:
        shares = settings.get("valid", 0.05), settings.get("test", 0.12)
        splits = assign_splits(recordings, seconds, *shares)
    utterances, offset = [], 0
    for recording, samples, split in zip(recordings, lengths, splits, strict=True):
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
                samples=samples,
            )
        )
        offset += samples
    write(part, utterances)
    (part / "README.md").write_text(_readme(name, source, utterances, found), encoding="utf-8")
    shutil.rmtree(output, ignore_errors=True)
    part.rename(output)
    log.info("%s: %d utterances, %.2f h", name, len(utterances), sum(seconds) / 3600)


def _digests(recordings: list, contents: list[bytes]) -> dict[str, str]:
    """Return one digest per language."""
    by_language = defaultdict(list)
    for recording, content in zip(recordings, contents, strict=True):
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
    from speech_pareto.store import stored

    with logged(snakemake.log[0]):
        stored(
            snakemake,
            main,
            snakemake.wildcards.corpus,
            snakemake.params.job["settings"],
            snakemake.input[0],
            snakemake.output[0],
        )
