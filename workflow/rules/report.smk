"""One page to choose a student from: a static file that needs no server and no network.

Leaves results/report.html and results/tables/leaderboard.html.  `snakemake interim` makes the same of an unfinished study, from what is there.
"""


rule report:
    """Make the page of the study."""
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
        leaderboard=report(
            "results/tables/leaderboard.html",
            caption="../report/aggregate.rst",
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


rule interim:
    """Target: print and write what is there of a study, without making anything else."""
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
