"""What a study will make, before anything is computed: sizes, feasibility, jobs and hours."""

import csv
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from speech_pareto.compression import recipes
from speech_pareto.data.condition import of_task
from speech_pareto.models import architecture, operations, storage
from speech_pareto.models.model_folder import read_config
from speech_pareto.models.teachers import known
from speech_pareto.runtime.locate import locate
from speech_pareto.study import cells as grid
from speech_pareto.study.cells import Cell
from speech_pareto.study.exported import measured
from speech_pareto.study.figures import figures_of, looks_inside
from speech_pareto.study.in_conditions import scored
from speech_pareto.tasks.kind import TRAINING, kind_of
from speech_pareto.training.settings import batch_audio

# What is assumed of jobs that no benchmark file tells of.
START = 5.0  # seconds that any job takes to start
CORPUS = 60.0  # ... to download or to prepare a corpus, or to download a teacher
RATE = 50e9  # MACs per second of profiles, on the CPU; others run as `throughput` of a study says
SCORED_SECONDS = 1800.0  # audio of a validation and a test split
ANALYSED = 30.0  # seconds of audio that `analyse` runs through both models

EXPECTED = ("expected_ratio", "parameters", "counted_parameters", "bytes", "macs_per_second")
COLUMNS = (
    *("task", "teacher", "recipe", "ratio", "seed", "scope"),
    *("feasible", "reason", "reachable", *EXPECTED),
)
ORIGINS = ("measured", "rehearsed", "alike", "assumed", "unknown")


@dataclass(frozen=True)
class Job:
    """A job of a study, and the MACs it will take; None where the teacher is not known yet."""

    rule: str
    benchmark: str  # its benchmark file below results/benchmarks, without suffix
    macs: float | None = 0.0
    start: float = START  # seconds beside the MACs
    computes: bool = True  # False: only passes on that its cell is not feasible


def teacher_config(study: Mapping, name: str, scope: str, results: Path) -> dict | None:
    """Return the config of the teacher that is compressed for `scope`; None before it is fetched.

    A teacher of the hub is found in `results` once it is fetched, others without having been made;
    of published ones the shape is known before.
    """
    teacher = study["teachers"][name]
    if path := teacher["finetuned"].get(grid.teacher_scope(study, scope)) or teacher.get("path"):
        return read_config(locate(path))
    if "pretrain" in teacher:
        return architecture.tiny(**teacher["pretrain"].get("model", {}))
    folder = results / "teachers" / name / "backbone"
    if (folder / "config.json").is_file():
        return read_config(folder)
    published = known(teacher.get("hub", ""))
    return dict(published[1].config) if published else None


def expect(study: Mapping, results: Path) -> dict[Cell, dict]:
    """Return what is expected of each cell: its feasibility and, if it is feasible, its student.

    `feasible` is yes, no or unknown. A `reason` and, where a recipe misses its ratio, the
    `reachable` one stand with no and unknown. `counted_parameters` leave pruned zeros out.
    """
    found, known = {}, {}
    for cell in grid.cells(study):
        key = (cell.teacher, cell.recipe, cell.ratio, cell.scope)
        if key not in known:
            known[key] = _expected(study, cell, results)
        found[cell] = known[key]
    return found


def _expected(study: Mapping, cell: Cell, results: Path) -> dict:
    """Return what is expected of one cell."""
    config = teacher_config(study, cell.teacher, cell.scope, results)
    if config is None:
        teacher = study["teachers"][cell.teacher]
        origin = teacher.get("hub") or teacher["checkpoint"]
        return {"feasible": "unknown", "reason": f"the teacher {origin} is not fetched yet"}
    try:
        recipe, target = study["recipes"][cell.recipe], cell.target
        solution = recipes.solve(recipe, config, float(cell.ratio), target)
    except ValueError as error:  # of settings or models that a method refuses
        return {"feasible": "no", "reason": str(error)}
    if solution.reason:
        reachable = {} if target else {"reachable": round(solution.ratio, 4)}
        return {"feasible": "no", "reason": solution.reason, **reachable}
    return {
        "feasible": "yes",
        "expected_ratio": round(solution.ratio, 6),
        "parameters": architecture.count(solution.config)["total"],
        "counted_parameters": architecture.remaining(solution.config),
        "bytes": storage.stored_bytes(solution.config),
        "macs_per_second": macs_per_second(study, solution.config),
    }


def macs_per_second(study: Mapping, config: Any) -> float:
    """Return MACs per second of audio at the length that the study profiles."""
    seconds = study["profile"]["audio_seconds"]
    return operations.macs(config, seconds)["total"] / seconds


def jobs(study: Mapping, expected: Mapping[Cell, dict], results: Path) -> list[Job]:
    """Return all jobs that Snakemake plans for the targets `tables` and `figures`, each once."""
    found = _corpus_jobs(study) + _teacher_jobs(study, results)
    found += _supernet_jobs(study, expected, results)
    for cell, facts in expected.items():
        found += _cell_jobs(study, cell, facts, results)
    found += [Job("compare", "compare"), Job("aggregate", "aggregate"), Job("report", "report")]
    found += [Job("runtimes", "runtimes")] * bool(measured(study))
    found += [Job("conditions", "conditions")] * bool(scored(study))
    found += [Job("plot", f"plot/{name}") for name in figures_of(study)]
    return list({job.benchmark: job for job in found}.values())


def _cell_jobs(study: Mapping, cell: Cell, facts: Mapping, results: Path) -> list[Job]:
    """Return the jobs of a cell; without a student they only pass its status on."""
    point = f"{cell.teacher}/{cell.recipe}/{cell.ratio}/{cell.seed}"
    task = study["tasks"][cell.task]
    kind = kind_of(task["kind"])
    conditions = [f"evaluate_condition/{name}" for name in of_task(task)]
    all_rules = ("compress", *kind.rules, "profile", "analyse", "export", "measure_export")
    all_rules += tuple(conditions)
    macs: dict[str, float | None] = dict.fromkeys(all_rules, 0.0)
    if facts["feasible"] == "unknown":
        macs = dict.fromkeys(all_rules)
    elif facts["feasible"] == "yes":
        settings = study["profile"]
        student = facts["macs_per_second"]
        teacher = macs_per_second(study, teacher_config(study, cell.teacher, cell.scope, results))
        timed = sum(
            one["audio_seconds"] * one["batch"] * (one["repeats"] + 1)
            for one in (settings, *settings["conditions"])
            if one.get("device", "cpu") == "cpu"
        )
        taught = _seconds_of_audio(task["student"]) if kind.finetunes else 0.0
        audio = kind.audio_seconds(task, taught, SCORED_SECONDS)
        macs = {
            "compress": _compression(study["recipes"][cell.recipe], student, teacher),
            **{rule: seconds * student for rule, seconds in audio.items()},
            "profile": timed * (student + teacher),
            "analyse": ANALYSED * (student + teacher),
        }
        heard = SCORED_SECONDS * len(study.get("onnx", {}).get("numbers", ()))
        macs |= {"export": 0.0, "measure_export": heard * student}
        macs |= dict.fromkeys(conditions, audio.get("evaluate", 0.0) * student)
    last = dict.fromkeys(("compress", "profile", "analyse"), cell.scope)
    computes = facts["feasible"] != "no"
    if not looks_inside(study):
        del macs["analyse"]
    if "onnx" not in study or not kind.finetunes:
        del macs["export"], macs["measure_export"]
    found = []
    for rule, number in macs.items():
        rule, _, condition = rule.partition("/")
        name = f"{rule}/{point}/{last.get(rule, cell.task)}" + f"/{condition}" * bool(condition)
        found.append(Job(rule, name, number, computes=computes))
    return found


def jobs_of_rung(study: Mapping, cell: Cell, facts: Mapping, results: Path) -> list[Job]:
    """Return the jobs that a rung of a search adds to the rung below; `facts` are its student's."""
    rung, steps = study["search"]["rungs"].index(cell.task), study["search"]["steps"]
    share = (steps[rung] - (steps[rung - 1] if rung else 0)) / steps[-1]
    found = []
    for job in _cell_jobs(study, cell, {**facts, "feasible": "yes"}, results):
        if job.rule == "finetune":
            found.append(replace(job, macs=(job.macs or 0.0) * share))
        elif job.rule == "evaluate" or job.rule == "compress" and not rung:
            found.append(job)
    return found


def _compression(recipe: list, student: float, teacher: float) -> float:
    """Return the MACs of a recipe's training; on a task, the student learns without the teacher."""
    macs = 0.0
    for step in map(recipes.make, grid.after_supernet(recipe)):
        if step.needs != "nothing":
            passes = TRAINING * student + (0 if step.needs == "task" else teacher)
            macs += step.training_steps() * batch_audio(vars(step)) * passes
    return macs


def _supernet_jobs(study: Mapping, expected: Mapping[Cell, dict], results: Path) -> list[Job]:
    """Return the trainings of supernets, each once for all the ratios that are cut from it."""
    found: dict[str, Job] = {}
    for cell, facts in expected.items():
        name, feasible = grid.supernet_of(study, cell), facts["feasible"]
        if name is None or name in found and feasible == "no":
            continue
        macs: Any = None if feasible == "unknown" else 0.0
        if feasible == "yes":
            step: Any = recipes.make(study["recipes"][cell.recipe][0])
            config = teacher_config(study, cell.teacher, cell.scope, results)
            runs = [(TRAINING * times, shape) for times, shape in step.work(config)]
            runs.append((step.training_steps(), config))  # the teacher's own passes
            audio = batch_audio(vars(step))
            macs = audio * sum(times * macs_per_second(study, shape) for times, shape in runs)
        benchmark = f"train_supernet/{name}"
        found[name] = Job("train_supernet", benchmark, macs, computes=feasible != "no")
    return list(found.values())


def _teacher_jobs(study: Mapping, results: Path) -> list[Job]:
    """Return the jobs that make teachers which no folder stands for."""
    found = []
    for name, scope in _made_teachers(study):
        teacher, config = study["teachers"][name], teacher_config(study, name, "any", results)
        macs: Any = None if config is None else TRAINING * macs_per_second(study, config)
        if "hub" in teacher:
            found.append(Job("fetch_teacher", f"fetch_teacher/{name}", start=CORPUS))
        elif "checkpoint" in teacher:
            found.append(Job("convert_teacher", f"convert_teacher/{name}"))
        elif "path" not in teacher:
            window = {"crop_seconds": teacher["pretrain"]["window_seconds"]}
            iterations = teacher["pretrain"]["iterations"]
            audio = sum(_seconds_of_audio(iteration | window) for iteration in iterations)
            found.append(Job("pretrain_one_teacher", f"pretrain_teacher/{name}", audio * macs))
        if scope != "any":
            audio = _seconds_of_audio(study["tasks"][scope]["teacher"])
            work = None if macs is None else audio * macs
            found.append(Job("finetune_one_teacher", f"finetune_teacher/{name}/{scope}", work))
    return found


def _corpus_jobs(study: Mapping) -> list[Job]:
    """Return the jobs that make the corpora that are used."""
    needed = set()
    for cell in grid.cells(study):
        needed |= set(study["tasks"][cell.task]["corpora"])
        recipe = study["recipes"][cell.recipe]
        agnostic = grid.learns(recipe) and not grid.task_aware(recipe)
        if agnostic or grid.trains_once(recipe):  # others use the task's own corpora
            needed |= set(study["compress"]["corpora"])
    for name, _ in _made_teachers(study):
        if not {"hub", "path", "checkpoint"} & set(study["teachers"][name]):
            needed |= set(study["teachers"][name]["pretrain"]["corpora"])
    fetched = [name for name in needed if grid.downloads(study["corpora"][name])]
    tasks = {cell.task: study["tasks"][cell.task] for cell in grid.cells(study)}
    made = [("fetch_corpus", name) for name in fetched]
    made += [("prepare_corpus", name) for name in needed]
    writers = {name: kind_of(task["kind"]).writer(task) for name, task in tasks.items()}
    made += [(rule, name) for name, rule in writers.items() if rule]
    return [Job(rule, f"{rule}/{name}", start=CORPUS) for rule, name in made]


def _made_teachers(study: Mapping) -> list[tuple[str, str]]:
    """Return (teacher, scope) where no folder of the config holds the teacher fine-tuned."""
    pairs = ((cell.teacher, cell.scope) for cell in grid.cells(study))
    used = sorted({(name, grid.teacher_scope(study, scope)) for name, scope in pairs})
    return [pair for pair in used if pair[1] not in study["teachers"][pair[0]]["finetuned"]]


def _seconds_of_audio(settings: Mapping) -> float:
    """Return the seconds of audio that a training goes through."""
    return settings["steps"] * batch_audio(settings)


def benchmarks(results: Path) -> dict[str, float]:
    """Return the seconds of each job's last run, from what Snakemake left in results/benchmarks."""
    root, found = results / "benchmarks", {}
    for file in sorted(root.rglob("*.tsv")):
        with file.open(newline="", encoding="utf-8") as stream:
            seconds = [float(row["s"]) for row in csv.DictReader(stream, delimiter="\t")]
        if seconds:
            found[str(file.relative_to(root)).removesuffix(".tsv")] = statistics.mean(seconds)
    return found


def durations(
    todo: list[Job],
    measured: Mapping[str, float],
    throughput: float = RATE,
    rehearsed: Callable[[Job], float | None] = lambda job: None,
) -> list[tuple[str, float]]:
    """Return (origin, seconds) of each job: where the number is from is one of `ORIGINS`.

    measured: the job's own last run. rehearsed: from some steps of jobs of its kind. alike: the
    median of jobs of the same rule, teacher, recipe and task or scope. assumed: from MACs. unknown:
    0, as its teacher is not fetched.
    """
    groups, idle = defaultdict(list), {job.benchmark for job in todo if not job.computes}
    for benchmark, seconds in measured.items():
        if benchmark not in idle:
            groups[_kind(benchmark)].append(seconds)
    found = []
    for job in todo:
        if job.benchmark in measured:
            found.append(("measured", measured[job.benchmark]))
        elif (known := rehearsed(job)) is not None:
            found.append(("rehearsed", known))
        elif job.computes and (alike := groups[_kind(job.benchmark)]):
            found.append(("alike", statistics.median(alike)))
        elif job.macs is None:
            found.append(("unknown", 0.0))
        else:
            rate = RATE if job.rule == "profile" else throughput
            found.append(("assumed", job.start + job.macs / rate))
    return found


def _kind(benchmark: str) -> tuple[str, ...]:
    """Return a benchmark's path, that of a cell without ratio and seed."""
    parts = tuple(benchmark.split("/"))
    if parts[0] == "train_supernet":
        return (*parts[:3], parts[4])
    return (*parts[:3], *parts[5:]) if len(parts) >= 6 else parts


def rows(expected: Mapping[Cell, dict]) -> list[dict]:
    """Return a row per cell with the columns `COLUMNS`."""
    found = ({**vars(cell), **facts} for cell, facts in expected.items())
    return [{column: row.get(column) for column in COLUMNS} for row in found]
