"""Write recordings and labels of prepared corpora as files that s3prl reads."""

import csv
import shutil
from pathlib import Path

import soundfile

from speech_pareto.audio import SAMPLE_RATE
from speech_pareto.corpus import SPLITS, Utterance, read
from speech_pareto.tasks.ctc import Task as Ctc
from speech_pareto.tasks.superb import PROBLEMS

UNITS = ("phones", "characters")  # what CTC recognises; other problems have one label


def main(task: dict, corpora: list, output: str | Path) -> None:
    """Write `output`/{train,valid,test}.csv: id, wav_path (from `output`), transcription or label.

    Raises ValueError if a split is empty, or a test label is in no training recording.
    """
    output, own = Path(output), PROBLEMS[task["problem"]]["own"]
    part = Path(f"{output}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "audio").mkdir(parents=True)
    spoken = [u for folder in corpora for u in read(folder)]
    languages = task.get("languages")
    spoken = [u for u in spoken if not languages or u.language in languages]
    targets, number = {}, 0
    for split in SPLITS:
        chosen = _labelled([u for u in spoken if u.split == split], own, task.get("label", "label"))
        if not chosen:
            raise ValueError(f"no recording of the {split} split has what {task['problem']} needs")
        rows = []
        for utterance, target in chosen:
            name, number = f"audio/{number}.wav", number + 1
            first = utterance.offset
            wave = utterance.audio[first : first + utterance.samples]
            soundfile.write(part / name, wave, SAMPLE_RATE)
            rows.append([f"{utterance.corpus}/{utterance.id}", name, target])
        targets[split] = {target for _, target in chosen}
        with (part / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerows(
                [["id", "wav_path", "transcription" if own in UNITS else "label"], *rows]
            )
    if own not in UNITS and (unknown := sorted(targets["test"] - targets["train"])):
        raise ValueError(f"the training split has no recording of {', '.join(unknown[:5])}")
    shutil.rmtree(output, ignore_errors=True)
    part.rename(output)


def _labelled(spoken: list[Utterance], own: str, label: str) -> list[tuple[Utterance, str]]:
    """Return the recordings that can be used, each with its transcription or label."""
    if own not in UNITS:
        return [(u, getattr(u, label)) for u in spoken if getattr(u, label)]
    task = Ctc({"unit": own})
    return [(u, task.reference(u)) for u in task.usable(spoken)]


if "snakemake" in globals():
    from speech_pareto.log import logged

    with logged(snakemake.log[0]):
        main(
            task=snakemake.params.job["task"],
            corpora=list(snakemake.input.corpora),
            output=snakemake.output[0],
        )
