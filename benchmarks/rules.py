"""Wall clock, CPU time and peak memory of each rule in the last run, ratios to the cheapest rule.

    python benchmarks/rules.py [results/benchmarks]

Reads what Snakemake's `benchmark:` wrote for every job.
"""

import argparse
import csv
import statistics
import sys
from collections import defaultdict
from pathlib import Path


def main() -> None:
    """Print a table: jobs, median and total seconds, CPU seconds, peak memory of each rule."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("results/benchmarks"))
    root = parser.parse_args().folder
    seconds, memory, processor = defaultdict(list), defaultdict(list), defaultdict(float)
    for path in sorted(root.rglob("*.tsv")):
        rule = path.relative_to(root).parts[0].removesuffix(".tsv")
        with path.open(newline="") as file:
            rows = csv.DictReader(file, delimiter="\t")
            if "max_rss" not in (rows.fieldnames or ()):
                sys.exit(f"{path} is none of Snakemake's benchmarks")
            for row in rows:
                seconds[rule].append(float(row["s"]))
                processor[rule] += 0.0 if row["cpu_time"] in ("-", "NA") else float(row["cpu_time"])
                memory[rule].append(0.0 if row["max_rss"] in ("-", "NA") else float(row["max_rss"]))
    if not seconds:
        sys.exit(f"no benchmarks below {root}; run the workflow first")
    medians = {rule: statistics.median(values) for rule, values in seconds.items()}
    base = min(medians, key=medians.get)
    print(
        f"Baseline: {base}, {medians[base]:.1f} s. CPU: {sum(processor.values()):.0f} s in all.\n"
    )
    print("| rule | jobs | median s | ratio | total s | CPU s | peak MiB |")
    print("|---|---|---|---|---|---|---|")
    for rule, median in sorted(medians.items(), key=lambda item: -sum(seconds[item[0]])):
        total, peak = sum(seconds[rule]), max(memory[rule])
        ratio, jobs = median / medians[base], len(seconds[rule])
        sums = f"{total:.0f} | {processor[rule]:.0f} | {peak:.0f}"
        print(f"| {rule} | {jobs} | {median:.1f} | {ratio:.1f} | {sums} |")


if __name__ == "__main__":
    main()
