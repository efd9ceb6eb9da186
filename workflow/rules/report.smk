"""The fronts as text, the leaderboard, and one page to choose a student from, which needs no network.

Leaves results/tables/front.txt, results/tables/leaderboard.{md,csv,html} and results/report.html.
`snakemake interim` makes the same of an unfinished study, from the cells that are done.
"""


rule report:
    """Write what a reader opens: fronts, leaderboard, page."""
    input:
        cells="results/tables/results.parquet",
        comparisons="results/tables/comparisons.parquet",
        fronts="results/tables/fronts.csv",
        pairs="results/tables/pairs.csv",
    output:
        page=report(
            "results/report.html",
            caption="../report/report.rst",
            category="Choose a student",
            labels={"page": "fronts, tables and budgets"},
        ),
        front=report(
            "results/tables/front.txt",
            caption="../report/leaderboard.rst",
            category="Tables",
            labels={"table": "fronts"},
        ),
        markdown=report(
            "results/tables/leaderboard.md",
            caption="../report/leaderboard.rst",
            category="Tables",
            labels={"table": "leaderboard (Markdown)"},
        ),
        numbers=report(
            "results/tables/leaderboard.csv",
            caption="../report/leaderboard.rst",
            category="Tables",
            labels={"table": "leaderboard (CSV)"},
        ),
        leaderboard=report(
            "results/tables/leaderboard.html",
            caption="../report/leaderboard.rst",
            category="Tables",
            labels={"table": "leaderboard"},
        ),
    log:
        "logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    localrule: True
    conda:
        "../../envs/plot.yaml"
    params:
        **job_params(
            page=fingerprint(SCRIPTS / "speech_pareto/reporting/page/assets"),
            code=code("report.py"),
            software=pins("plot"),
        ),
    script:
        "../scripts/report.py"


rule tables:
    """Target: the tables of the study."""
    input:
        "results/tables/results.parquet",
        "results/tables/results.csv",
        "results/tables/analysis.parquet",
        "results/tables/analysis.csv",
        "results/tables/comparisons.parquet",
        "results/tables/comparisons.csv",
        "results/tables/fronts.csv",
        "results/tables/pairs.csv",
        "results/tables/front.txt",
        "results/tables/leaderboard.md",
        "results/tables/leaderboard.csv",
    localrule: True


rule leaderboard:
    """Target: the ranking of the recipes."""
    input:
        "results/tables/leaderboard.md",
        "results/tables/leaderboard.csv",
        "results/tables/leaderboard.html",
    localrule: True


rule interim:
    """Target: print and write the results so far, without making anything else."""
    log:
        "logs/interim.log",
    localrule: True
    conda:
        "../../envs/plot.yaml"
    params:
        study=lambda wildcards: study,
        results="results",
        code=code("interim.py"),
    script:
        "../scripts/interim.py"
