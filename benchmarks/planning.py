"""Planning time of a large grid, as a ratio to bare Snakemake on a graph of the same shape.

    python benchmarks/planning.py [--jobs 20000] [--rounds 5]

Both plan the same jobs and files with nothing made yet, in turn. The bare workflow has the same
directives, all of them plain strings: no config, functions or digests. `files only` is barer
still: inputs, outputs and a shell command, neither log, benchmark, environment, script nor params.
CPU seconds are those of the process, so that what else the machine does matters little.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
RATIOS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
STRINGS = """    log:
        "logs/{rule}{of}.log",
    benchmark:
        "results/benchmarks/{rule}{of}.tsv"
    conda:
        "{root}/envs/torch.yaml"
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        job="{rule}",
        state="checkpoints{of}",
        run="{rule}",
    script:
        "{root}/workflow/scripts/compress.py"
"""


def study(jobs: int) -> dict:
    """Return the default study with a grid of about as many jobs, five to a cell."""
    found = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    tasks = {name: t for name, t in found["tasks"].items() if t.get("start") == "finetuned"}
    recipes = [name for name in found["recipes"] if name != "identity"]
    seeds = max(1, round(jobs / 5 / len(recipes) / len(RATIOS) / len(tasks)))
    grid = {"teachers": ["tiny"], "recipes": recipes, "ratios": RATIOS}
    return found | {"tasks": tasks, "grid": [grid | {"seeds": list(range(1, seeds + 1))}]}


def plan(folder: Path, snakefile: Path, *arguments: str) -> tuple[dict[str, float], str]:
    """Return what a dry run took (`wall` and `CPU` in s, `MB` at its peak) and what it printed."""
    command = [sys.executable, "-m", "snakemake", "-n", "--scheduler", "greedy"]
    command += ["--snakefile", str(snakefile), "--directory", str(folder), *arguments]
    begin = time.perf_counter()
    with (folder / "printed").open("w+") as printed:
        run = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        text = printed.read()
    if run.returncode:
        sys.exit(text[-3000:])
    cpu = used.ru_utime + used.ru_stime
    taken = {"wall": time.perf_counter() - begin, "CPU": cpu, "MB": used.ru_maxrss / 1024}
    return taken, text


def bare(text: str, folder: Path, directives: str) -> str:
    """Return a Snakefile of rules with wildcards that plans the jobs of a dry run."""
    variants = defaultdict(list)
    for job in re.split(r"\n(?= *\[|Job stats)", text):  # those of a group are further in
        if rule := re.search(r"^ *(?:local)?rule (\w+):", job, re.M):
            facts = dict(re.findall(r"^ +(input|output|wildcards): (.*)$", job, re.M))
            values = dict(re.findall(r"(\w+)=([^,]*)", facts.get("wildcards", "")))
            files = [
                tuple(pattern(file, values) for file in facts.get(key, "").split(", ") if file)
                for key in ("input", "output")
            ]
            variants[rule[1], *files].append(values)
    rules = []
    for number, ((rule, inputs, outputs), jobs) in enumerate(variants.items()):
        name = "default" if rule == "all" else f"{rule}_{number}"
        (folder / name).write_text("\n".join(inputs))
        lines = [f"rule {name}:", "    input:"]
        lines += [f'        open("{folder / name}").read().split("\\n"),'] if inputs else []
        if not inputs:
            lines.pop()
        if outputs:
            lines += ["    output:"]
            for file in outputs:
                is_folder = "." not in Path(file).name
                lines += [f'        directory("{file}"),' if is_folder else f'        "{file}",']
            for key in jobs[0]:
                seen = "|".join(sorted({re.escape(job[key]) for job in jobs}))
                lines += ["    wildcard_constraints:"] * (key == next(iter(jobs[0])))
                lines += [f"        {key}={seen!r},"]
            of = "".join(f"/{{{key}}}" for key in jobs[0])
            lines += [directives.replace("{rule}", name).replace("{of}", of)]
        rules.insert(0 if rule == "all" else len(rules), "\n".join(lines) + "\n")
    return "\n".join(rules)


def pattern(file: str, values: dict[str, str]) -> str:
    """Return a path with wildcards in place of their values."""
    names = {value: f"{{{key}}}" for key, value in values.items()}
    *parents, last = file.split("/")
    stem, dot, suffix = last.rpartition(".") if last not in names else (last, "", "")
    last = names.get(stem, stem) + dot + suffix
    return "/".join([*(names.get(part, part) for part in parents), last])


def main() -> None:
    """Print seconds and memory of each, and their ratios to bare Snakemake."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folders = {
            name: Path(scratch, name.replace(" ", "-"))
            for name in ("this workflow", "bare Snakemake", "files only")
        }
        for folder in folders.values():
            (folder / "rules").mkdir(parents=True)
            (folder / "resources").symlink_to(ROOT / "resources")
        ours, strings, files = folders.values()
        (ours / "study.yaml").write_text(yaml.safe_dump(study(options.jobs)))
        calls = {
            "this workflow": (
                ours,
                ROOT / "workflow" / "Snakefile",
                "--configfile",
                ours / "study.yaml",
            )
        }
        text = plan(*map_strings(calls["this workflow"]))[1]
        for folder, directives in (
            (strings, STRINGS.replace("{root}", str(ROOT))),
            (files, "    shell:\n        'true'\n"),
        ):
            snakefile = bare(text, folder / "rules", directives)
            (folder / "Snakefile").write_text(snakefile)
        calls["bare Snakemake"] = (strings, strings / "Snakefile")
        calls["files only"] = (files, files / "Snakefile")
        totals, taken = {}, defaultdict(list)
        for _ in range(options.rounds):
            for name, call in calls.items():
                used, printed = plan(*map_strings(call))
                taken[name].append(used)
                totals[name] = int(re.findall(r"^total +(\d+)$", printed, re.M)[-1])
    assert len(set(totals.values())) == 1, totals  # the same shape
    print(f"{totals['this workflow']} jobs, medians of {options.rounds} rounds\n")
    print(
        "| workflow | CPU s | ratio | wall s | ratio | MB | ratio |\n|---|---|---|---|---|---|---|"
    )
    for name, rounds in taken.items():
        cells = [name]
        for key, digits in (("CPU", 1), ("wall", 1), ("MB", 0)):
            bares = [used[key] for used in taken["bare Snakemake"]]
            own = [used[key] for used in rounds]
            ratio = statistics.median(a / b for a, b in zip(own, bares, strict=True))
            cells += [f"{statistics.median(own):.{digits}f}", f"{ratio:.2f}"]
        print(f"| {' | '.join(cells)} |")


def map_strings(call: tuple) -> tuple:
    """Return a call of `plan` with folders as paths and options as text."""
    folder, snakefile, *options = call
    return (folder, snakefile, *map(str, options))


if __name__ == "__main__":
    main()
