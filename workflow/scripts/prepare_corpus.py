"""Decode a corpus to 16 kHz, spell its phones and split it into train, valid and test.

Recordings that cannot be used (see `usable.py`) are left out, with their reasons.
"""

import itertools
import logging
from collections import defaultdict
from pathlib import Path

from tqdm import tqdm

from speech_pareto.data import corpus, sources, usable
from speech_pareto.data.corpus import LEFT_OUT, LeftOut, Utterance
from speech_pareto.data.decoding import JOURNAL, Decoded, decode_all
from speech_pareto.data.recording import SPLITS, Recording
from speech_pareto.data.splits import assign_splits, repeated
from speech_pareto.data.text import phones, voice
from speech_pareto.runtime.files import whole_folder
from speech_pareto.runtime.problems import Problems

SAID = ("text", "label", "speaker", "language")  # what utterances have of their recording
log = logging.getLogger(__name__)


def main(
    name: str, settings: dict, downloads: str | Path, output: str | Path, threads: int = 1
) -> None:
    """Write `output`/{manifest.tsv, left_out.tsv, audio.npy, README.md}.

    They are made of downloads or of the user's TSV. Raises ValueError for a language without a
    voice, if more recordings than `settings["unusable"]` (a share) cannot be used, or if a built-in
    corpus is not, word for word and sample for sample, the one that the pinned digests describe.
    """
    source = sources.load(settings["source"])
    for language in settings["languages"]:
        voice(language)
    recordings = source.recordings(settings, Path(downloads))
    if not recordings:
        raise ValueError(f"corpus {name}: no recordings in {downloads}")
    with whole_folder(output, resume=True) as part:
        _write(name, settings, source, recordings, part, threads)


def _write(name: str, settings: dict, source, recordings: list, part: Path, threads: int) -> None:
    """Write the corpus to the folder `part`."""
    longest = settings.get("longest", usable.LONGEST)
    decoded, spoken = [], []
    becoming = decode_all(recordings, source.LOSSY, longest, part, threads)
    bar = tqdm(becoming, f"decode {name}", len(recordings), unit="file", mininterval=1)
    for recording, one in zip(recordings, bar, strict=True):
        decoded.append(one)
        text = recording.text
        spoken.append("".join(phones(text, recording.language)) if text else "")
    seconds = [one.seconds for one in decoded]
    if source.PUBLISHED_SPLITS:
        splits = [recording.split for recording in recordings]
    else:
        shares = settings.get("valid", 0.05), settings.get("test", 0.12)
        splits = assign_splits(recordings, seconds, *shares)
    lost = [
        LeftOut(_name(recording, number), split, recording.language, reason, " ".join(said.split()))
        for recording, one, split in zip(recordings, decoded, splits, strict=True)
        for number, reason, said in one.obstacles
    ]
    utterances = _utterances(recordings, decoded, splits, spoken)
    corpus.write(part, utterances, lost)
    try:
        share = sum(not one.pieces for one in decoded) / len(recordings)
        _refuse_losses(name, lost, share, settings.get("unusable", usable.TOLERATED), part)
        found = _digests(recordings, decoded)
        _refuse_other_release(name, source, settings["languages"], found)
    except ValueError:
        (part / corpus.AUDIO).unlink()  # the list of what was left out stays, to be looked at
        raise
    finally:
        (part / JOURNAL).unlink()
    copies = _copies(recordings, decoded, splits)
    (part / "README.md").write_text(
        _readme(name, source, utterances, copies, lost, found), encoding="utf-8"
    )
    _tell(name, utterances, lost, copies)


def _tell(name: str, utterances: list, lost: list[LeftOut], copies: list[str]) -> None:
    """Log what is in the corpus, what is not, and what its splits share."""
    hours = sum(utterance.seconds for utterance in utterances) / 3600
    log.info("%s: %d utterances, %.2f h", name, len(utterances), hours)
    for reason, number in corpus.count(one.reason for one in lost).items():
        names = ", ".join([one.id for one in lost if one.reason == reason][:10])
        log.warning("%s: left out, %s: %d (%s)", name, reason, number, names)
    splits = {utterance.split for utterance in utterances}
    if missing := [split for split in SPLITS if split not in splits]:
        log.warning("%s: no utterance for %s", name, " and ".join(missing))
    if copies:
        said = "%s: recordings of valid and test that train holds too, sample for sample: %d (%s)"
        log.warning(said, name, len(copies), ", ".join(copies[:10]))
    if silent := sum(bool(u.text) and not u.phones for u in utterances):
        log.warning("%s: espeak-ng gives no phones for %d texts", name, silent)


def _utterances(
    recordings: list[Recording], decoded: list[Decoded], splits: list[str], spoken: list[str]
) -> list[Utterance]:
    """Return the rows of the corpus; pieces of a recording are numbered behind its id."""
    utterances, offset = [], 0
    for recording, one, split, symbols in zip(recordings, decoded, splits, spoken, strict=True):
        lost = [piece for piece, *_ in one.obstacles]
        cut = len(one.pieces) + len(lost) > 1
        numbers = (number for number in itertools.count(1) if number not in lost)
        known: dict = {name: getattr(recording, name) for name in SAID}
        known |= {"phones": symbols, "split": split}
        for number, samples in zip(numbers, one.pieces, strict=False):
            name = _name(recording, number if cut else 0)
            utterances.append(Utterance(id=name, offset=offset, samples=samples, **known))
            offset += samples
    return utterances


def _name(recording: Recording, piece: int) -> str:
    """Return the id of a piece of a recording, 0 for the whole."""
    return f"{recording.id}#{piece}" if piece else recording.id


def _refuse_losses(
    name: str, lost: list[LeftOut], share: float, tolerated: float, part: Path
) -> None:
    """Raise ValueError if more of the recordings than a share are lost, or all."""
    if share <= tolerated and share < 1:
        return
    problems = Problems()
    for one in lost:
        problems.add(one.reason, f"{one.id}: {one.detail}")
    raise ValueError(
        f"corpus {name}: {share:.1%} of the recordings cannot be used, the corpus's setting "
        f"`unusable` allows {tolerated:.1%}:\n{problems}\n{part / LEFT_OUT} names all of them"
    )


def _refuse_other_release(name: str, source, languages: list[str], found: dict) -> None:
    """Raise ValueError if the digest of a language is not the pinned one."""
    for language in languages:
        expected = source.DIGESTS.get(language)
        if expected and found.get(language) != expected:
            raise ValueError(
                f"corpus {name}, language {language}: the decoded corpus has the digest "
                f"{found.get(language)}, not {expected}: another release or a damaged download"
            )


def _copies(recordings: list[Recording], decoded: list[Decoded], splits: list[str]) -> list[str]:
    """Return the held-out recordings that stand in the training split too, sample for sample."""
    rows = list(zip(recordings, decoded, splits, strict=True))
    taught = {one.content for _, one, split in rows if split == "train" and one.pieces}
    return [r.id for r, one, split in rows if split != "train" and one.content in taught]


def _digests(recordings: list[Recording], decoded: list[Decoded]) -> dict[str, str]:
    """Return one digest per language."""
    by_language = defaultdict(list)
    for recording, one in zip(recordings, decoded, strict=True):
        by_language[recording.language].append((recording, one.content))
    return {name: corpus.digest(*zip(*pairs, strict=True)) for name, pairs in by_language.items()}


def _readme(
    name: str, source, utterances: list, copies: list, lost: list[LeftOut], digests: dict
) -> str:
    """Return what is inside and what is not, under which licence, with which digests."""
    lines = [f"# Corpus `{name}`", "", (source.__doc__ or "").strip(), ""]
    lines += [f"Licence: {source.LICENCE}", "", *(f"- {one}" for one in source.ATTRIBUTION)]
    lines += ["", "| language | split | utterances | with text | hours |", "|---|---|---|---|---|"]
    rows = defaultdict(list)
    for utterance in utterances:
        rows[utterance.language, utterance.split].append(utterance)
    for (language, split), members in sorted(rows.items()):
        texts = sum(bool(u.text) for u in members)
        hours = sum(u.seconds for u in members) / 3600
        lines.append(f"| {language} | {split} | {len(members)} | {texts} | {hours:.3f} |")
    texts = {split: [u.text for u in utterances if u.split == split and u.text] for split in SPLITS}
    known = repeated(texts["test"], texts["train"])
    lines += [
        "",
        f"Texts of `test` that `train` holds too: {known} of {len(texts['test'])}. Recordings of "
        f"`valid` and `test` that it holds too, sample for sample: {len(copies)}.",
        *("", "## Left out", "", *_losses(lost), ""),
        *(f"Digest {language}: `{digest}`" for language, digest in sorted(digests.items())),
    ]
    return "\n".join(lines) + "\n"


def _losses(lost: list[LeftOut]) -> list[str]:
    """Return a table of how many recordings each split loses, and why."""
    if not lost:
        return ["No recording: all can be used."]
    lines = [f"`{LEFT_OUT}` names each.", "", "| reason | train | valid | test |"]
    lines += ["|---|---|---|---|"]
    for reason in corpus.count(one.reason for one in lost):
        numbers = corpus.count(one.split for one in lost if one.reason == reason)
        lines.append(f"| {reason} | {' | '.join(str(numbers.get(s, 0)) for s in SPLITS)} |")
    return lines


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged
    from speech_pareto.runtime.store import stored

    with logged(snakemake.log[0]):
        name, settings = snakemake.wildcards.corpus, snakemake.params.job["settings"]
        made = snakemake.input[0], snakemake.output[0], snakemake.threads
        stored(snakemake, main, name, settings, *made)
