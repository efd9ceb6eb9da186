"""Write recordings and labels of prepared corpora as files that s3prl reads."""

import csv
from pathlib import Path

import soundfile

from speech_pareto.data.audio import SAMPLE_RATE
from speech_pareto.data.recording import SPLITS
from speech_pareto.data.selection import first_hours, select, told, utterances
from speech_pareto.runtime.files import whole_folder
from speech_pareto.runtime.result import write_json
from speech_pareto.tasks.kinds.ctc import Task as Ctc
from speech_pareto.tasks.kinds.superb import PROBLEMS
from speech_pareto.tasks.labelled import DEFAULT, Labelled

UNITS = ("phones", "characters")  # what CTC recognises; other problems have one label
LEFT_OUT = "left_out.json"  # as in a result


def main(task: dict, corpora: list, output: str | Path) -> None:
    """Write `output`/{train,valid,test}.csv: id, wav_path (from `output`), transcription or label.

    `left_out.json` counts the utterances that are in none.

    Raises ValueError if a split is empty, there is less than `train_hours`, or a test label is in
    no training recording.
    """
    with whole_folder(output) as part:
        _write(task, corpora, part)


def _write(task: dict, corpora: list, folder: Path) -> None:
    """Write audio and tables to a folder."""
    own = PROBLEMS[task["problem"]].own
    (folder / "audio").mkdir()
    targets, number = {}, 0
    kind = Ctc({"unit": own}) if own in UNITS else Labelled(task.get("label", DEFAULT))
    losses = select(task, kind, corpora, *SPLITS)[1]
    for split in SPLITS:
        found = utterances(task, kind, corpora, split)
        if split == "train":
            found = first_hours(found, task.get("train_hours"))
        chosen = [(u, kind.reference(u)) for u in found]
        if not chosen:
            said = f"no recording of the {split} split has what {task['problem']} needs"
            raise ValueError(f"{said} (left out: {told(losses)})")
        rows = []
        for utterance, target in chosen:
            name, number = f"audio/{number}.wav", number + 1
            wave = utterance.audio[utterance.offset :][: utterance.samples]
            soundfile.write(folder / name, wave, SAMPLE_RATE)
            rows.append([f"{utterance.corpus}/{utterance.id}", name, target])
        targets[split] = {target for _, target in chosen}
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            header = ["id", "wav_path", "transcription" if own in UNITS else "label"]
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
    if own not in UNITS and (unknown := sorted(targets["test"] - targets["train"])):
        raise ValueError(f"the training split has no recording of {', '.join(unknown[:5])}")
    write_json(folder / LEFT_OUT, losses)


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        main(
            task=snakemake.params.job["task"],
            corpora=list(snakemake.input.corpora),
            output=snakemake.output[0],
        )
