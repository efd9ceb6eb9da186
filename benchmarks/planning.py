"""Planning time of the default study, as a ratio to bare Snakemake on a graph of the same shape.

    python benchmarks/planning.py [--rounds 3] [--configfile study.yaml]

The bare workflow has the same jobs and files as plain strings: no config, params or digests.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def plan(folder: Path, snakefile: Path, *arguments: str) -> tuple[float, str]:
    """Return the seconds of a dry run with nothing made yet, and what it printed."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "-n",
        "--snakefile",
        snakefile,
        "--directory",
        folder,
    ]
    begin = time.perf_counter()
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    return time.perf_counter() - begin, done.stdout + done.stderr


def bare(text: str) -> str:
    """Return a Snakefile with one rule per planned job and the same inputs and outputs."""
    rules, names = [], {}
    for job in re.split(r"\n(?=(?:local)?rule )", text)[1:]:
        name = re.match(r"(?:local)?rule (\w+)", job)[1]
        names[name] = names.get(name, 0) + 1
        files = {key: re.search(rf"^    {key}: (.*)$", job, re.M) for key in ("input", "output")}
        lists = {key: found[1].split(", ") if found else [] for key, found in files.items()}
        outputs = [
            f'directory("{f}")' if "." not in Path(f).name else f'"{f}"' for f in lists["output"]
        ]
        inputs = [f'"{f}"' for f in lists["input"]]
        rule = "default" if name == "all" else f"{name}_{names[name]}"
        body = f"rule {rule}:\n    input: {', '.join(inputs)}\n"
        if outputs:
            body += f"    output: {', '.join(outputs)}\n    shell: 'true'\n"
        rules.insert(0 if name == "all" else len(rules), body)
    return "\n".join(rules)


def main() -> None:
    """Print seconds of both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--configfile", default=str(ROOT / "config/config.yaml"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        ours, plain = Path(scratch, "ours"), Path(scratch, "plain")
        ours.mkdir(), plain.mkdir()
        study = ("--configfile", arguments.configfile)
        _, text = plan(ours, ROOT / "Snakefile", *study)
        (plain / "Snakefile").write_text(bare(text))
        for shipped in set(re.findall(r'"(/[^"]+|resources/[^"]+)"', bare(text))):
            target = plain / shipped
            target.mkdir(parents=True, exist_ok=True)
        times = {"this workflow": [], "bare Snakemake": []}
        for _ in range(arguments.rounds):
            times["this workflow"].append(plan(ours, ROOT / "Snakefile", *study)[0])
            times["bare Snakemake"].append(plan(plain, plain / "Snakefile")[0])
    base = statistics.median(times["bare Snakemake"])
    jobs = len(re.findall(r"^(?:local)?rule ", text, re.M))
    print(f"{jobs} jobs\n\n| workflow | s | ratio |\n|---|---|---|")
    for name, measured in times.items():
        median = statistics.median(measured)
        print(f"| {name} | {median:.2f} | {median / base:.2f} |")


if __name__ == "__main__":
    main()
