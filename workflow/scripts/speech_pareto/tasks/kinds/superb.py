"""SUPERB's tasks, trained and scored by s3prl: a head on a learned mix of the frozen layers.

https://arxiv.org/abs/2105.01051. Hyper-parameters are those of s3prl's own recipes, s3prl.problem,
but for the learning rate: SUPERB searches it for each model and task, and so does rule `superb`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from speech_pareto.runtime.suggest import unknown

RULES = ("superb",)
REQUIRED = ("problem",)
OWN = ("problem", "data", "label", "learning_rates", "settings", "cache_features")
METRICS = dict.fromkeys(("per", "wer", "cer", "slot_value_cer", "eer", "der"), "lower")
METRICS |= dict.fromkeys(("accuracy", "slot_type_f1"), "higher")
RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)  # SUPERB's search, its section 3.2
RECORDING = 10.0  # seconds of a recording, for estimates


class Problem(NamedTuple):
    """A task of SUPERB."""

    recipe: str  # class of s3prl.problem
    metrics: list[str]  # the first one is the score
    data: list[str]  # what s3prl must be told to read the task's own corpus
    own: str | None  # what recordings of a prepared corpus need; None: it takes none
    updates: int  # how long it trains, and recordings in an update, for estimates
    batch: int = 32


PROBLEMS = {
    "PR": Problem("SuperbPR", ["per"], ["dataset_root"], "phones", 100_000),
    # s3prl halves the batch of 32 for recordings beyond 2000 samples, which is all of them.
    "ASR": Problem("SuperbASR", ["wer", "cer"], ["dataset_root"], "characters", 200_000, 16),
    "KS": Problem("SuperbKS", ["accuracy"], ["gsc1", "gsc1_test"], "label", 200_000),
    "SID": Problem("SuperbSID", ["accuracy"], ["dataset_root"], "label", 200_000),
    "ER": Problem("SuperbER", ["accuracy"], ["iemocap", "test_fold"], "label", 30_000),
    "IC": Problem("SuperbIC", ["accuracy"], ["dataset_root"], None, 200_000),  # three labels each
    "SF": Problem("SuperbSF", ["slot_type_f1", "slot_value_cer"], ["dataset_root"], None, 200_000),
    "SD": Problem("SuperbSD", ["der"], ["data_dir"], None, 30_000),
    "ASV": Problem("SuperbASV", ["eer"], ["dataset_root"], None, 200_000, 50),
}


def metrics_of(task: Mapping) -> list[str]:
    """Return the metrics of a task's problem, the score first."""
    return PROBLEMS[task["problem"]].metrics if task.get("problem") in PROBLEMS else []


def problems_of(task: Mapping) -> Iterator[tuple[str | None, str]]:
    """Yield (key, sentence) for what is wrong with a task's settings."""
    problem = task.get("problem")
    facts = PROBLEMS.get(problem) if isinstance(problem, str) else None
    if problem == "QbE":
        yield "problem", f"s3prl has no recipe for QbE, only for {', '.join(PROBLEMS)}."
    elif isinstance(problem, str) and not facts:
        yield "problem", unknown("problem", problem, list(PROBLEMS))
    for key in ("teacher", "student", "protocol", "start"):
        if key in task:
            yield key, "s3prl trains the tasks of SUPERB; this key is for others."
    if "train_hours" in task and "data" in task:
        yield "train_hours", "s3prl reads all of a task's own corpus; it is for 'corpora'."
    if ("data" in task) == ("corpora" in task):
        yield None, "either 'corpora' or 'data' must say what it learns from."
    if not facts:
        return
    if "corpora" in task and not facts.own:
        yield "corpora", f"{problem} needs its own corpus, 'data: {{{facts.data[0]}: ...}}'."
    if isinstance(task.get("data"), dict):
        for key in facts.data:
            if key not in task["data"]:
                yield "data", f"the key '{key}' is missing, which {problem} of s3prl needs."
    if "label" in task and facts.own != "label":
        yield "label", f"{problem} has no label."
    rates = task.get("learning_rates")
    if problem == "ASV" and not (isinstance(rates, list) and len(rates) == 1):
        yield "learning_rates", "ASV has no validation split to choose on, name one rate."


def filled(task: Mapping) -> dict:
    """Return a task with the settings that follow from others; s3prl needs no seed."""
    own = {key: value for key, value in task.items() if key != "seed"}
    defaults = {"corpora": [], "metric": metrics_of(task)[0], "learning_rates": list(RATES)}
    return defaults | own | {"protocol": "probe", "start": "backbone"}


def audio_seconds(task: Mapping, taught: float, tested: float) -> dict[str, float]:
    """Return by rule the audio that goes through a student: by learning rate, or once if kept."""
    facts, given = PROBLEMS[task["problem"]], task.get("settings", {}).get("train", {})
    seen = given.get("total_steps", facts.updates) * facts.batch * RECORDING
    if task.get("cache_features"):
        return {"superb": min(seen, 3600 * task.get("train_hours", math.inf)) + tested}
    return {"superb": len(task["learning_rates"]) * (seen + tested)}


def comparable(task: Mapping, sources: set[str]) -> bool:
    """Return whether scores may stand beside published ones: PR on SUPERB's own corpus."""
    return task["problem"] == "PR" and "data" in task


def writer(task: Mapping) -> str | None:
    """Return the rule that writes recordings of our corpora as s3prl reads them."""
    return "prepare_superb" if task["corpora"] else None
