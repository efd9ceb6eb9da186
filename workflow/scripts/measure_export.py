"""Measure an exported student: in fp32 and 8 bits its time beside torch, memory, bytes, scores."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from evaluate import SPLITS, score
from export import LONGEST
from speech_pareto.data.corpus import Utterance
from speech_pareto.data.selection import needed
from speech_pareto.models.onnx_int8 import FP32, quantise
from speech_pareto.profiling import runtimes
from speech_pareto.runtime import result
from speech_pareto.runtime.files import whole_folder
from speech_pareto.runtime.hashing import sha256
from speech_pareto.runtime.provenance import meta
from speech_pareto.tasks.hypotheses import write_table
from speech_pareto.tasks.recogniser import load_recogniser
from speech_pareto.tasks.task import Task, embeds
from speech_pareto.tasks.trials import cosines

log = logging.getLogger(__name__)


class NotMeasured(ValueError):
    """A file that cannot be made or run; `status` as in the result, and why."""

    def __init__(self, status: str, reason: object) -> None:
        super().__init__(str(reason))
        self.status = status


def main(
    task: dict,
    settings: Mapping,
    student: str | Path,
    exported: Mapping[str, str | Path],
    corpora: Sequence,
    run: Mapping,
    output: str | Path,
    digests: Mapping | None = None,
) -> None:
    """Write the folder `output`: report.json, and by name NAME.onnx (8 bits) and NAME.tsv.

    `student` is a fine-tuned folder, `exported` its `file` and `report` of `export`. `settings`:
    numbers, threads, calibration_seconds; audio_seconds, batch, repeats of `profile`; cores, the
    most threads. What one of the files cannot do is its status, with the reason.
    """
    status = result.read_status(student)
    about = meta(run["seed"], settings["cores"], digests)
    about["versions"]["onnxruntime"] = metadata.version("onnxruntime")
    with whole_folder(output) as part:
        found = {}
        if not status:
            model = {"folder": str(Path(student).resolve()), "task": task}
            found["peak_memory_bytes"] = runtimes.peak(model, conditions(settings, 1))
            files, kept = {}, {}
            for numbers in settings["numbers"]:
                kept[numbers], files[numbers] = one(
                    task, settings, numbers, exported, corpora, part
                )
            whole = {name: file for name, file in files.items() if kept[name]["status"] == "ok"}
            for threads in settings["threads"]:
                for name, entry in race(model, whole, settings, threads).items():
                    kept[name].setdefault("times", []).append(entry)
            found["files"] = list(kept.values())
        value = result.compose(dict(run), about, status=status)
        if found:
            value["runtimes"] = found
        result.write(part / "report.json", value)


def conditions(settings: Mapping, threads: int) -> dict:
    """Return what is timed: profile's recording, on so many threads."""
    names = "audio_seconds", "batch", "repeats"
    return {name: settings[name] for name in names} | {"threads": threads}


def race(model: dict, files: Mapping, settings: Mapping, threads: int) -> dict[str, dict]:
    """Return the times of each file beside torch, or the `reason` why there are none."""
    if threads > settings["cores"]:
        reason = f"{threads} threads were asked, the job has {settings['cores']}"
        return {name: {"threads": threads, "reason": reason} for name in files}
    return runtimes.timed(model, files, conditions(settings, threads)) if files else {}


def one(
    task: dict,
    settings: Mapping,
    numbers: str,
    exported: Mapping[str, str | Path],
    corpora: Sequence,
    folder: Path,
) -> tuple[dict, Path]:
    """Return what a file is and scores, and the file; write it and its utterances to `folder`."""
    file, entry = folder / f"{numbers}.onnx", {"numbers": numbers}
    rows: list[dict] = []
    try:
        made = make(task, settings, numbers, exported, corpora, file)
        found, rows = scores(task, made, corpora)
    except NotMeasured as error:
        log.warning("%s: %s: %s", file, error.status, error)
        made, found = file, {"status": error.status, "reason": str(error)}
    else:
        memory = conditions(settings, 1)
        found |= {"status": "ok", "bytes": made.stat().st_size, "sha256": sha256(made)}
        found["peak_memory_bytes"] = runtimes.peak(made, memory)
        found["peak_memory_bytes_without_arena"] = runtimes.peak(made, memory, arena=False)
    write_table(folder / f"{numbers}.tsv", rows)
    return entry | found, made


def make(
    task: dict,
    settings: Mapping,
    numbers: str,
    exported: Mapping[str, str | Path],
    corpora: Sequence,
    file: Path,
) -> Path:
    """Return the ONNX file of a student in these numbers, written to `file` unless it is there."""
    source, report = Path(exported["file"]), result.read_json(exported["report"])
    if report["status"] != "ok":
        raise NotMeasured(report["status"], report["reason"])
    if numbers == FP32:
        return source
    definition = load_recogniser(source).task
    taught = list(calibration(task, definition, corpora, settings["calibration_seconds"]))
    try:
        quantise(source, file, numbers, taught)
    except Exception as error:  # onnxruntime's own have no common class
        file.unlink(missing_ok=True)
        raise NotMeasured("unsupported", f"onnxruntime does not quantise it: {error}")
    return file


def calibration(
    task: dict, definition: Task, corpora: Sequence, seconds: float
) -> Iterator[dict[str, np.ndarray]]:
    """Yield training recordings, one at a time as inputs of a file, some `seconds` of all corpora.

    They are spread evenly over all of at most 20 s, from the shortest to the longest.
    """
    data = needed(task, definition, corpora, "train")[0]
    data = sorted(data, key=lambda u: (u.samples, u.corpus, u.id))
    data = [u for u in data if u.seconds <= LONGEST] or data[:1]
    number = round(seconds / (sum(u.seconds for u in data) / len(data)))
    places = np.linspace(0, len(data) - 1, min(max(1, number), len(data))).astype(int)
    for place in places:
        wave = data[place].wave()
        yield {"waves": wave[None], "lengths": np.array([len(wave)])}


def scores(task: dict, file: Path, corpora: Sequence) -> tuple[dict, list[dict]]:
    """Return what an ONNX file scores on both splits, and its rows, as `evaluate` has them.

    Each recording is alone: of a batch, those beside it would set the scales of 8 bits.
    """
    recogniser = load_recogniser(file)
    definition, found, rows = recogniser.task, {}, []
    data = needed(task, definition, corpora, *SPLITS)[0]
    for split, name in zip(SPLITS, ("valid_metrics", "metrics"), strict=True):
        own = [utterance for utterance in data if utterance.split == split]
        try:
            found[name], scored = answers(recogniser, definition, own)
        except ValueError as error:  # numbers that are not finite
            raise NotMeasured("diverged", error)
        except Exception as error:
            if not type(error).__module__.startswith("onnxruntime"):  # they have no common class
                raise
            raise NotMeasured("unsupported", f"onnxruntime does not run it: {error}")
        rows += scored
    return found, rows


def answers(recogniser, definition: Task, data: list[Utterance]) -> tuple[dict, list[dict]]:
    """Return metrics and rows of the utterances, or trials, of a split."""
    if not embeds(definition):
        return score(definition, data, [recogniser(u.wave()) for u in data])
    trials = definition.trials(data)
    vectors = np.stack([recogniser.embed(u.wave()) for u in data])
    first, second = (np.asarray(places) for places in trials[:2])
    return definition.score_trials(trials, cosines(vectors, first, second), data)


if "snakemake" in globals():
    from speech_pareto.runtime.log import logged

    with logged(snakemake.log[0]):
        torch.set_num_threads(snakemake.threads)
        main(
            task=snakemake.params.job["task"],
            settings={"cores": snakemake.threads, **snakemake.params.job["settings"]},
            student=snakemake.input.model,
            exported={"file": snakemake.input.file, "report": snakemake.input.report},
            corpora=list(snakemake.input.corpora),
            run=snakemake.params.run,
            output=snakemake.output[0],
            digests=snakemake.params.job["code"],
        )
