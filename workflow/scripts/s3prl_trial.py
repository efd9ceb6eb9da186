"""Train and score one of SUPERB's tasks on a frozen student; runs in the Python that has s3prl.

`superb.py` starts it there and sends it the arguments of `main` as JSON.
"""

import json
import logging
import shutil
import sys
from functools import partial
from importlib import metadata
from pathlib import Path

from speech_pareto.runtime import result
from speech_pareto.tasks.hypotheses import write_table
from speech_pareto.tasks.kinds.superb import METRICS, PROBLEMS

log = logging.getLogger(__name__)
SPLITS = ("train", "valid", "test")
RESULT = "trial.json"  # what a learning rate gave, in its folder
ERRORS = ("per", "wer", "cer", "accuracy")  # metrics that count errors of utterances


def main(
    task: dict,
    model: str | Path,
    data: str | Path | None,
    run: dict,
    output: str | Path,
    hypotheses: str | Path,
    state: str | Path,
    threads: int = 1,
    digests: dict | None = None,
) -> None:
    """Write metrics (JSON) and one row per utterance (TSV) of the student in the folder `model`.

    Each learning rate is tried; the one that is best on the validation split is scored, and all are
    in the result. `data` is a folder of `prepare_superb`, or None where s3prl reads the task's own
    corpus. `state` keeps checkpoints and finished trials, hidden states if the task has
    `cache_features`, and is deleted once the output is there.
    """
    from speech_pareto.models.weights import weights_digest
    from speech_pareto.runtime.provenance import meta

    status, rows, value, metrics = result.read_status(model), [], {}, {}
    provenance = meta(run["seed"], threads, digests)
    if not status:
        folder = (
            Path(state) / weights_digest(model)[:16]
        )  # those of another student are not its own
        trials = [
            _trial(task, rate, model, data, run["seed"], folder / f"{rate:g}", threads)
            for rate in task["learning_rates"]
        ]
        best = best_of(trials, METRICS[task["metric"]])
        rows = best.pop("rows")
        sweep = [{key: trial[key] for key in ("learning_rate", "valid")} for trial in trials]
        value = {"layer_weights": best["layer_weights"]} if best["layer_weights"] else {}
        chosen = {key: best[key] for key in ("trainer", "learning_rate", "settings")}
        value["downstream"] = chosen | {"sweep": sweep}
        if data:
            value["left_out"] = result.read_json(Path(data) / "left_out.json")
        metrics = {"metrics": best["metrics"]}
        chosen_by = best["settings"].get("train", {}).get("valid_metric")
        if best["valid"] is not None and chosen_by == task["metric"]:
            metrics["valid_metrics"] = {task["metric"]: best["valid"]}
        metrics["metric"] = {"name": task["metric"], "better": METRICS[task["metric"]]}
    value = result.compose(run, provenance, status=status, **metrics) | value
    write_table(hypotheses, rows)
    result.write(output, value)
    shutil.rmtree(state, ignore_errors=True)


def best_of(trials: list[dict], better: str) -> dict:
    """Return the trial with the best score on the validation split, the first of equals.

    A trial without a score (None) is never better.
    """
    sign = 1 if better == "lower" else -1
    scores = [float("inf") if x["valid"] is None else sign * x["valid"] for x in trials]
    return trials[scores.index(min(scores))]


def _trial(
    task: dict,
    rate: float,
    model: str | Path,
    data: str | Path | None,
    seed: int,
    folder: Path,
    threads: int,
) -> dict:
    """Return what training with one learning rate gave, from `folder` if it was done before.

    trainer, learning_rate, settings (all of s3prl's), valid (the score that chooses), metrics (of
    the test split), rows (of its utterances) and layer_weights.
    """
    if (folder / RESULT).is_file():
        return result.read_json(folder / RESULT)
    import torch
    import yaml

    from speech_pareto.runtime.hardware import device
    from speech_pareto.tasks.s3prl_upstream import register

    register(folder.parent / "features" if task.get("cache_features") else None)
    problem, kept = _problem(task, data), {}
    settings = settings_of(problem, task, rate, model, data, seed)
    log.info("%s with learning rate %g", task["problem"], rate)
    problem.keep = partial(kept.__setitem__, "test")
    places = {"target_dir": str(folder), "cache_dir": str(folder / "cache")}
    problem.run(**settings, **places, device=str(device()), num_workers=threads - 1)
    found, name = {}, task["metric"]
    for file in sorted(folder.glob("evaluate/**/*.yaml")):
        found |= {key.lower(): number for key, number in yaml.safe_load(file.read_text()).items()}
    metrics, valid, weights = {}, None, None
    for key in set(METRICS) & set(found):
        scale = 1 if key == "der" else 100  # dscore's rate is in percent as it is
        metrics[key] = round(scale * float(found[key]), 4)
    chosen = folder / "train" / "valid_best"
    if chosen.is_dir():
        stats = yaml.safe_load((chosen / "training_stats.yaml").read_text())
        valid = round(100 * stats["valid_best_metrics"][settings["train"]["valid_metric"]], 4)
        saved = torch.load(
            chosen / "model" / "state_dict.pt", map_location="cpu", weights_only=True
        )
        shares = saved["featurizer.weights"].float().softmax(0)
        weights = [round(share, 5) for share in shares.tolist()]
    rows = utterances(task, kept.get("test", {})) if name in ERRORS else []
    trial = {
        "trainer": f"s3prl {metadata.version('s3prl')}",
        "learning_rate": rate,
        "settings": settings,
        "valid": valid,
        "metrics": metrics | {"utterances": len(rows)} if rows else metrics,
        "rows": rows,
        "layer_weights": weights,
    }
    result.write_json(folder / RESULT, trial)
    return trial


def settings_of(problem, task: dict, rate: float, model, data, seed: int) -> dict:
    """Return all settings of s3prl's `run`: its own, the task's `settings` over them, the rate.

    ValueError for settings that the problem does not have.
    """
    from omegaconf import OmegaConf

    own = problem.default_config()
    given = task.get("settings", {})
    if unknown := sorted(set(given) - set(own)):
        raise ValueError(f"{task['problem']} has no settings {', '.join(unknown)}")
    own["build_upstream"] = {"name": "speech_pareto", "path_or_url": str(model)}
    own["prepare_data"] |= {"folder": str(Path(data).resolve())} if data else task["data"]
    if data:
        own["prepare_data"] = {"folder": own["prepare_data"]["folder"]}
    own.pop("target_dir")
    own.pop("cache_dir")
    rates = {"build_optimizer": {"conf": {"lr": rate}}, "train": {"seed": seed}}
    merged = OmegaConf.merge(OmegaConf.create(own), given, rates)
    return OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)


def _problem(task: dict, data: str | Path | None):
    """Return s3prl's recipe of a task; with `data`, it takes these files for its corpus."""
    import pandas as pd
    import s3prl.problem

    recipe = getattr(s3prl.problem, PROBLEMS[task["problem"]].recipe)

    class Kept(recipe):
        """Hands the guesses of the test split to `keep`."""

        def build_task(self, *args, **kwargs):
            made = super().build_task(*args, **kwargs)
            made.reduction = partial(self._reduce, made, made.reduction)
            return made

        def _reduce(self, made, reduce, mode: str, results: list, **kwargs):
            if mode == "test":
                self.keep(made.parse_cached_results(results))
            return reduce(mode, results, **kwargs)

    class Prepared(Kept):
        """Reads the tables of `prepare_superb`."""

        def prepare_data(self, prepare_data, target_dir, cache_dir, get_path_only=False):
            files = [Path(target_dir) / f"{split}.csv" for split in SPLITS]
            if not get_path_only:
                folder = Path(prepare_data["folder"])
                for file in files:
                    table = pd.read_csv(folder / file.name, dtype=str, keep_default_na=False)
                    table["wav_path"] = [str(folder / name) for name in table["wav_path"]]
                    table.to_csv(file, index=False)
            return files[0], files[1], files[2:]

    return (Prepared if data else Kept)()


def utterances(task: dict, kept: dict) -> list[dict]:
    """Return a row per utterance of the test split with its errors, as `evaluate` writes them."""
    from speech_pareto.tasks import labelled
    from speech_pareto.tasks.kinds.ctc import Task as Ctc

    def texts(key: str) -> list[str]:
        return [each if isinstance(each, str) else " ".join(each) for each in kept[key]]

    references, guesses, own = texts("label"), texts("prediction"), PROBLEMS[task["problem"]].own
    if task["metric"] == "accuracy":
        counts = labelled.counts(references, guesses)
    else:
        counts = Ctc({"unit": own}).score(references, guesses)[1]
    names = [  # some of s3prl's tasks keep those of a batch in an array
        str(name)
        for each in kept["unique_name"]
        for name in ([each] if isinstance(each, str) else each)
    ]
    rows = []
    for name, reference, guess, count in zip(names, references, guesses, counts, strict=True):
        corpus, _, id = name.partition("/")
        if not id:
            corpus, id = "", name
        rows.append(
            {"id": id, "corpus": corpus, "split": "test", "reference": reference}
            | {"hypothesis": guess, **count}
        )
    return rows


if __name__ == "__main__":
    import torch

    from speech_pareto.runtime.log import logged

    given = json.load(sys.stdin)
    with logged(given["log"]):
        torch.set_num_threads(given["job"].get("threads", 1))
        main(**given["job"])
