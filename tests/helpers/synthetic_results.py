"""A made-up but plausible grid of results, for tests of what comes after `evaluate`.

None of these numbers was measured.
"""

import csv
import hashlib
from pathlib import Path

import numpy as np

from speech_pareto.runtime import result
from speech_pareto.study import paths
from speech_pareto.tasks.hypotheses import ERRORS, write_table

KINDS = ("md", "csv", "html")  # of the leaderboard
METRIC = {"phones": "per", "characters": "cer"}
RATIOS = (0.25, 0.5, 0.75)
TEACHER_SCORE = {"phones": 29.8, "characters": 41.5}
SPAN = {"phones": 66.0, "characters": 52.0}  # points from the teacher's score to a lost model's
PARAMETERS, MACS, SECONDS = 3_912_576, 268_000_000, 0.0871

# recipe: (score lost at each ratio as a share of SPAN, MACs kept, efficiency of its speed-up)
RECIPES = {
    "random-pruning": ((0.52, 0.79, 0.97), (0.81, 0.62, 0.43), 0.85),
    "layer-drop": ((0.16, 0.38, 0.72), (0.79, 0.58, 0.37), 0.98),
    "weight-pruning": ((0.012, 0.045, 0.24), (1.0, 1.0, 1.0), 1.0),
    "head-pruning": ((0.14, None, None), (0.74, None, None), 0.9),
    "ffn-pruning": ((0.05, 0.21, 0.66), (0.82, 0.65, 0.47), 0.93),
    "low-rank": ((0.035, 0.12, 0.36), (0.84, 0.66, 0.46), 0.8),
    "distillation": ((0.07, 0.14, 0.28), (0.78, 0.57, 0.35), 0.97),
}
EXPORTED = (("low-rank", 0.5), ("distillation", 0.75))  # students whose files are measured
ROLES = dict.fromkeys(RECIPES, "student")
ROLES |= {"identity": "teacher", "random-pruning": "control", "layer-drop": "control"}


def noise(*names, scale: float = 1.0) -> float:
    """Return a number in (-scale, scale) that depends on the names alone."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return scale * (int.from_bytes(digest[:4], "big") / 2**31 - 1)


def cells(tasks=("phones", "characters")):
    """Yield (teacher, recipe, ratio, seed, task, loss, MACs kept, efficiency) of the grid."""
    for task in tasks:
        yield "tiny", "identity", 0.0, 1, task, 0.0, 1.0, 1.0
        yield "tiny-random", "identity", 0.0, 1, task, 0.62, 1.0, 1.0
        for recipe, (losses, kept, efficiency) in RECIPES.items():
            for ratio, loss, macs in zip(RATIOS, losses, kept, strict=True):
                for seed in (1, 2, 3) if ratio == 0.75 else (1,):
                    yield "tiny", recipe, ratio, seed, task, loss, macs, efficiency


def write(folder, tasks=("phones", "characters"), scope=None):
    """Write the grid's JSON files below `folder`; return the metrics' and the profiles' paths."""
    metrics, profiles = [], []
    for teacher, recipe, ratio, seed, task, loss, macs, efficiency in cells(tasks):
        path = f"{teacher}/{recipe}/{ratio:g}/{seed}"
        run = {"study": "default", "teacher": teacher, "recipe": recipe, "ratio": ratio}
        config = {"teacher": {}, "recipe": [recipe.replace("-", "_")], "task": {}}
        run |= {"seed": seed, "config": config}
        run |= {"role": ROLES[recipe], "pretrained": teacher != "tiny-random"}
        meta = {"commit": "0" * 40, "dirty": False, "seed": seed}
        meta |= {"versions": {"torch": "0"}, "hardware": {"cpu": "made up", "threads": 1}}
        status = None
        if loss is None:
            reason = f"heads hold too little: {ratio:g} asked, 0.26 reachable"
            status = {"status": "infeasible", "reason": reason, "reachable": 0.26}
        files = [(f"metrics/{path}/{task}.json", {"task": task}), (None, None)]
        scope_of_task = scope or task
        files[1] = (f"profile/{path}/{scope_of_task}.json", {"scope": scope_of_task})
        values = [
            {"metric": {"name": METRIC[task], "better": "lower"}, "status": status},
            {"status": status},
        ]
        if status is None:
            values[0]["metrics"] = quality(task, loss, recipe, ratio, seed)
            values[0]["valid_metrics"] = quality(task, loss, recipe, ratio, seed, "valid")
            values[1]["cost"] = cost(path, recipe, ratio, macs, efficiency)
        for (file, name), value, kept in zip(files, values, (metrics, profiles), strict=True):
            result.write(folder / file, result.compose(run | name, meta, **value))
            if folder / file not in kept:
                kept.append(folder / file)
    return metrics, profiles


def quality(task, loss, recipe, ratio, seed, *split):
    """Return the metrics of a cell on test, or on the split that is named."""
    score = TEACHER_SCORE[task] + SPAN[task] * loss
    score += noise(task, recipe, ratio, seed, *split, scale=0.7 if split else 1.4) if loss else 0
    name = METRIC[task]
    parts = {"deletions": score * 0.3, "insertions": score * 0.1, "substitutions": score * 0.6}
    by_corpus = {"prompts": {name: score * 0.7}, "fillets": {name: score * 1.3}}
    wer = {"wer": min(99.0, score * 1.9)} if task == "characters" else {}
    by_language = {"en": {name: score * 0.7}, "nl": {name: score * 1.4}, "cs": {name: score}}
    groups = {"by_corpus": by_corpus, "by_language": by_language}
    return {name: score, **wer, **parts, "utterances": 412, **groups}


def cost(path, recipe, ratio, macs, efficiency):
    """Return the cost of a cell, timed on a machine that is now busier, now idler."""
    kept = round(PARAMETERS * (1 - ratio - noise(path, "size", scale=0.006) * (ratio > 0)))
    busy = 1 + abs(noise(path, "busy", scale=0.3))
    speedup = (1 / macs) ** efficiency * (1 + noise(path, "pair", scale=0.015))
    sparse = recipe == "weight-pruning"
    total = PARAMETERS if sparse else kept
    timed = {
        "audio_seconds": 10.0,
        "batch": 1,
        "threads": 1,
        "device": "cpu",
        "seconds": SECONDS * busy / speedup,
        "teacher_seconds": SECONDS * busy,
        "speedup": speedup,
        "speedup_low": speedup * 0.97,
        "speedup_high": speedup * 1.03,
        "rtf": SECONDS * busy / speedup / 10,
    }
    theoretical = MACS * (kept / PARAMETERS if sparse else macs)
    return {
        "parameters": {
            "total": total,
            "nonzero": kept - 312,
            "stem": 402_000,
            "encoder": total - 402_000,
            "task_head": 5_000,
            "projections": 0,
            "with_heads": total + 5_000,
        },
        "teacher_parameters": PARAMETERS,
        "ratio": 1 - kept / PARAMETERS,
        "bytes": 2 * total + 4096,
        "bytes_fp32": 4 * total + 4096,
        "bytes_fp16": 2 * total + 4096,
        "computed_in": "fp32",
        "macs_per_second": round(MACS * macs),
        "theoretical_macs_per_second": theoretical,
        "macs": {
            str(seconds): {
                "total": seconds * MACS * macs,
                "per_second": MACS * macs,
                "theoretical_total": seconds * theoretical,
            }
            for seconds in (1, 5, 15, 30)
        },
        "wall_clock": timed,
        "peak_memory_bytes": 400_000_000,
        "conditions": [
            {
                "name": "10s_batch1_threadsall_cpu_fp32",
                **timed,
                "threads": 2,
                "precision": "fp32",
                "peak_memory_bytes": 400_000_000,
            },
            {"name": "10s_batch16_threads1_cuda_bf16", "reason": "there is no GPU"},
        ],
    }


def write_hypotheses(metrics, utterances=412, valid=200):
    """Write a TSV of utterances beside each metrics file, whose score becomes theirs; return them.

    As `evaluate` does: a table without rows for a cell without a model.
    """
    splits = {"test": ("metrics", utterances, 0), "valid": ("valid_metrics", valid, 1)}
    texts = {}  # split -> lengths, and how hard each utterance is to all systems
    for split, (_, count, seed) in splits.items():
        random = np.random.default_rng(seed)
        texts[split] = random.integers(5, 40, count), random.normal(0, 8, count)
    files = []
    for file in metrics:
        value = result.read(file)
        rows = []
        if value["status"] == "ok":
            name = value["metric"]["name"]
            digest = hashlib.sha256("/".join(file.parts[-5:]).encode()).digest()
            random = np.random.default_rng(list(digest))
            for split, (section, *_) in splits.items():
                lengths, hardness = texts[split]
                rate = np.clip(value[section][name] + hardness, 1, 99) / 100
                errors = random.binomial(lengths, rate)
                value[section][name] = round(100 * errors.sum() / lengths.sum(), 4)
                pairs = zip(errors.tolist(), lengths.tolist(), strict=True)
                rows += [(f"en/{split}{i}", split, *pair) for i, pair in enumerate(pairs)]
            result.write(file, value)
        files.append(file.with_suffix(".tsv"))
        with files[-1].open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, delimiter="\t", lineterminator="\n")
            columns = ["id", "corpus", "split", "reference", "hypothesis"]
            table.writerow([*columns, "deletions", "insertions", "substitutions", "length"])
            for name, split, count, length in rows:
                halves = (count // 2, 0, count - count // 2)
                table.writerow([name, "prompts", split, f"words of {name}", "", *halves, length])
    return files


def classify(metrics, hypotheses, names=("en", "es", "fr")):
    """Turn the files of a task into those of a classification: wrong where many errors were."""
    for file, table in zip(metrics, hypotheses, strict=True):
        value = result.read(file)
        if value["status"] != "ok":
            continue
        with table.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        for number, row in enumerate(rows):
            wrong = int(row["substitutions"]) * 4 > int(row["length"])
            true = names[number % len(names)]
            row |= {"reference": true, "hypothesis": names[(number + wrong) % len(names)]}
            row |= {"deletions": 0, "insertions": 0, "substitutions": int(wrong), "length": 1}
        with table.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        for split, key in (("test", "metrics"), ("valid", "valid_metrics")):
            wrongs = [row["substitutions"] for row in rows if row["split"] == split]
            value[key] = {"accuracy": round(100 - 100 * sum(wrongs) / len(wrongs), 4)}
        value["metric"] = {"name": "accuracy", "better": "higher"}
        result.write(file, value)


def analysis(recipe, ratio, layers=4, heads=4):
    """Return what `analyse` might find of a student; last heads and last layers go first."""
    depth = max(1, round(layers * (1 - ratio))) if recipe == "layer-drop" else layers
    kept = heads - round(heads * ratio) if recipe in ("head-pruning", "random-pruning") else heads
    rows = round(256 * (1 - ratio)) if recipe in ("ffn-pruning", "random-pruning") else 256
    zeros = round(90_000 * ratio) if recipe == "weight-pruning" else 0
    near = [[0.9 - 0.1 * head + 0.01 * layer for head in range(heads)] for layer in range(layers)]
    whole = {"heads": list(range(heads)), "rows": 256, "attention": 36_000, "ffn": 64_000}
    hidden = zeros // 2  # of the zeros, those in feed-forward layers
    own = {"heads": list(range(max(1, kept))), "rows": rows, "zeros": zeros}
    own |= {"attention": 9_000 * kept - zeros + hidden, "ffn": 250 * rows - hidden}
    return {
        "seconds": 30.0,
        "frames": 1500,
        "layers": {"teacher": [whole | {"zeros": 0}] * layers, "student": [own] * depth},
        "diagonality": {
            "teacher": {"row_normalised": near},
            "student": {"row_normalised": [line[: max(1, kept)] for line in near[:depth]]},
        },
        "cka": [
            [round(1 / (1 + ratio + abs(i - j)), 4) for j in range(layers + 1)]
            for i in range(depth + 1)
        ],
    }


def write_analyses(profiles):
    """Write an analysis beside each profile; return their paths."""
    files = []
    for file in profiles:
        value = result.read(file)
        if value.pop("cost", None):
            value["analysis"] = analysis(value["run"]["recipe"], value["run"]["ratio"])
        parts = ["analysis" if part == "profile" else part for part in file.parts]
        files.append(type(file)(*parts))
        result.write(files[-1], value)
    return files


def write_runtimes(metrics):
    """Write what was measured of the exported files of two students of phones; return the folders.

    int8-dynamic adds an error to each utterance and is the fastest on one thread, fp32 on two;
    int8-static failed. Each file's utterances are those of `write_hypotheses`.
    """
    folders = []
    for file in metrics:
        value = result.read(file)
        run, name = value["run"], METRIC["phones"]
        if (run["recipe"], run["ratio"]) not in EXPORTED or run["task"] != "phones":
            continue
        folder = file.parents[5] / "runtimes" / file.relative_to(file.parents[4]).with_suffix("")
        folder.mkdir(parents=True)
        files = []
        for numbers, more, times in (("fp32", 0, (1.5, 2.0)), ("int8-dynamic", 1, (2.5, 1.25))):
            with file.with_suffix(".tsv").open(encoding="utf-8", newline="") as stream:
                rows = list(csv.DictReader(stream, delimiter="\t"))
            for row in rows:
                row["substitutions"] = int(row["substitutions"]) + more
            write_table(folder / f"{numbers}.tsv", rows)
            one = {"numbers": numbers, "status": "ok", "bytes": 4_000_000 - 2_500_000 * more}
            for split, section in (("test", "metrics"), ("valid", "valid_metrics")):
                own = [row for row in rows if row["split"] == split]
                errors = sum(int(row[kind]) for row in own for kind in ERRORS)
                length = sum(int(row["length"]) for row in own)
                one[section] = {name: 100 * errors / length}
            one["times"] = [raced(number, faster) for number, faster in enumerate(times, 1)]
            one["times"].append({"threads": 4, "reason": "4 threads were asked, the job has 2"})
            files.append(one | {"peak_memory_bytes": 40_000_000})
        files.append({"numbers": "int8-static", "status": "unsupported", "reason": "no scales"})
        write_table(folder / "int8-static.tsv", [])
        measured = {"peak_memory_bytes": 60_000_000, "files": files}
        made = result.compose(run, value["meta"]) | {"runtimes": measured}
        result.write(folder / "report.json", made)
        folders.append(folder)
    return folders


def write_conditions(metrics):
    """Write what students of phones score in two conditions; return the files.

    In `quiet` nothing changes. `noisy` adds errors to utterances: of the teacher one to each, of
    others as many more as they lack of it, but of `low-rank` 0.25 none more.
    """
    files = []
    for file in metrics:
        value = result.read(file)
        run = value["run"]
        if run["task"] != "phones":
            continue
        more = 0 if (run["recipe"], run["ratio"]) == ("low-rank", 0.25) else round(8 * run["ratio"])
        for name, added in (("quiet", 0), ("noisy", 1 + more)):
            folder = file.parents[5] / "conditions" / file.relative_to(file.parents[4])
            files.append(folder.with_suffix("") / f"{name}.json")
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            write_table(files[-1].with_suffix(".tsv"), [])
            if value["status"] == "ok":
                with file.with_suffix(".tsv").open(encoding="utf-8", newline="") as stream:
                    rows = list(csv.DictReader(stream, delimiter="\t"))
                for row in rows:
                    row["substitutions"] = int(row["substitutions"]) + added
                write_table(files[-1].with_suffix(".tsv"), rows)
                for split, section in (("test", "metrics"), ("valid", "valid_metrics")):
                    own = [row for row in rows if row["split"] == split]
                    errors = sum(int(row[kind]) for row in own for kind in ERRORS)
                    length = sum(int(row["length"]) for row in own)
                    value = value | {section: {METRIC["phones"]: round(100 * errors / length, 4)}}
            result.write(files[-1], value | {"run": run | {"condition": name}})
    return files


def raced(threads, faster):
    """Return what a file takes on so many threads that is so many times as fast as torch."""
    own = {"audio_seconds": 10, "batch": 1, "repeats": 7, "threads": threads}
    own |= {"torch_seconds": SECONDS / threads, "seconds": SECONDS / threads / faster}
    return own | {"speedup": faster, "speedup_low": 0.9 * faster, "speedup_high": 1.1 * faster}


def write_tables(root):
    """Write the grid to root/results with all tables and the page of it; return the tables."""
    import aggregate
    import compare
    import conditions
    import report
    import runtimes

    folder = root / "results"
    metrics, profiles = write(folder)
    hypotheses = write_hypotheses(metrics)
    tables = folder / "tables"
    cells, compared = tables / "results.parquet", tables / "comparisons.parquet"
    beside = [tables / name for name in ("fronts.csv", "pairs.csv", "examples.json")]
    aggregate.main(metrics, profiles, cells, tables / "results.csv")
    compare.main(cells, hypotheses, compared, tables / "comparisons.csv", *beside)
    read = [tables / name for name in ("front.txt", *map("leaderboard.{}".format, KINDS))]
    timed = [tables / f"runtimes.{kind}" for kind in ("parquet", "csv", "md")]
    runtimes.main(cells, hypotheses, write_runtimes(metrics), *timed)
    lost = [tables / f"conditions.{kind}" for kind in ("parquet", "csv", "md")]
    inside = [tables / Path(file).name for file in paths.IN_CONDITIONS]
    conditions.main(cells, hypotheses, write_conditions(metrics), profiles, *lost, inside)
    report.main(cells, compared, *beside, [*read, folder / "report.html"], timed[0], lost[0])
    return tables
