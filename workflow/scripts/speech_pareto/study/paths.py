"""Where a study keeps its files: each pattern below results/, once.

Rules take the patterns as they are, with Snakemake's wildcards; Python fills them in.
"""

import re

CELL = "{teacher}/{recipe}/{ratio}/{seed}"

DOWNLOAD = "results/downloads/{corpus}"
CORPUS = "results/corpora/{corpus}"
BACKBONE = "results/teachers/{teacher}/backbone"
TASK_TEACHER = "results/teachers/{teacher}/{task}"
SUPERNET = "results/supernets/{teacher}/{recipe}/{seed}/{scope}"
STUDENT = f"results/models/{CELL}/{{scope}}"
FINETUNED = f"results/finetuned/{CELL}/{{task}}"
METRICS = f"results/metrics/{CELL}/{{task}}.json"
HYPOTHESES = f"results/metrics/{CELL}/{{task}}.tsv"
IN_CONDITION = f"results/conditions/{CELL}/{{task}}/{{condition}}.json"
HEARD = f"results/conditions/{CELL}/{{task}}/{{condition}}.tsv"
PROFILE = f"results/profile/{CELL}/{{scope}}.json"
ANALYSIS = f"results/analysis/{CELL}/{{scope}}.json"
SENSITIVITY = "results/sensitivity/{teacher}/{scope}"
SUPERB_DATA = "results/superb/{task}"
ONNX = f"results/export/{CELL}/{{task}}.onnx"
REHEARSED = "results/rehearsal/{rehearsed}.json"
EXPORT_REPORT = f"results/export/{CELL}/{{task}}.json"
RUNTIMES = f"results/runtimes/{CELL}/{{task}}"
DEPLOYED = "results/deploy"
ROUND = "results/search/{study}/round-{round}.json"
FOUND = "results/search/{study}/found.json"
FIGURE = "results/figures/{figure}"
RESOLVED = "results/run_config.yaml"
TABLE = "results/tables/results.parquet"
TABLE_CSV = "results/tables/results.csv"
ANALYSES = "results/tables/analysis.parquet"
ANALYSES_CSV = "results/tables/analysis.csv"
COMPARISONS = "results/tables/comparisons.parquet"
COMPARISONS_CSV = "results/tables/comparisons.csv"
FRONTS = "results/tables/fronts.csv"
EXAMPLES = "results/tables/examples.json"
RUNTIMES_TABLE = "results/tables/runtimes.parquet"
RUNTIMES_CSV = "results/tables/runtimes.csv"
RUNTIMES_TEXT = "results/tables/runtimes.md"
CONDITIONS = "results/tables/conditions.parquet"
CONDITIONS_CSV = "results/tables/conditions.csv"
CONDITIONS_TEXT = "results/tables/conditions.md"
CONDITION_CELLS = "results/tables/conditions_cells.parquet"
CONDITION_COMPARISONS = "results/tables/conditions_comparisons.parquet"
CONDITION_FRONTS = "results/tables/conditions_fronts.csv"
CONDITION_PAIRS = "results/tables/conditions_pairs.csv"
IN_CONDITIONS = (CONDITION_CELLS, CONDITION_COMPARISONS, CONDITION_FRONTS, CONDITION_PAIRS)
PAIRS = "results/tables/pairs.csv"
FRONT_TEXT = "results/tables/front.txt"
LEADERBOARD = "results/tables/leaderboard.md"
LEADERBOARD_CSV = "results/tables/leaderboard.csv"
LEADERBOARD_PAGE = "results/tables/leaderboard.html"
PAGE = "results/report.html"

# The output by which a rule's job is known to be done.
OUTPUTS = {
    "fetch_corpus": DOWNLOAD,
    "prepare_corpus": CORPUS,
    "fetch_teacher": BACKBONE,
    "convert_teacher": BACKBONE,
    "pretrain_one_teacher": BACKBONE,
    "finetune_one_teacher": TASK_TEACHER,
    "train_supernet": SUPERNET,
    "compress": STUDENT,
    "finetune": FINETUNED,
    "evaluate": METRICS,
    "evaluate_condition": IN_CONDITION,
    "prepare_superb": SUPERB_DATA,
    "superb": METRICS,
    "profile": PROFILE,
    "analyse": ANALYSIS,
    "export": ONNX,
    "measure_export": f"{RUNTIMES}/report.json",
    "runtimes": RUNTIMES_CSV,
    "conditions": CONDITIONS_CSV,
    "compare": COMPARISONS_CSV,
    "aggregate": TABLE_CSV,
    "report": PAGE,
    "plot": f"{FIGURE}.svg",
}


def filled(pattern: str, names: str) -> str:
    """Return a pattern with its wildcards filled in, in their order: "tiny/identity/0/1/phones"."""
    parts = iter(names.split("/"))
    return re.sub(r"\{\w+\}", lambda _: next(parts), pattern)
