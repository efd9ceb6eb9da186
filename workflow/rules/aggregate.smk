"""All results of the study in one table, a leaderboard and the fronts as text.

Leaves results/tables/.
"""


rule aggregate:
    """Gather the results of all cells."""
    input:
        metrics=results_of_cells(
            "results/metrics/{teacher}/{recipe}/{ratio}/{seed}/{task}.json"
        ),
        profiles=results_of_cells(
            "results/profile/{teacher}/{recipe}/{ratio}/{seed}/{scope}.json"
        ),
        analyses=results_of_cells(
            "results/analysis/{teacher}/{recipe}/{ratio}/{seed}/{scope}.json"
        ),
        comparisons="results/tables/comparisons.parquet",
    output:
        parquet="results/tables/results.parquet",
        csv=report(
            "results/tables/results.csv",
            caption="../report/aggregate.rst",
            category="Tables",
            labels={"table": "all cells"},
        ),
        analysis="results/tables/analysis.parquet",
        analysis_csv=report(
            "results/tables/analysis.csv",
            caption="../report/analysis.rst",
            category="Tables",
            labels={"table": "layers, heads, hidden states"},
        ),
        front=report(
            "results/tables/front.txt",
            caption="../report/aggregate.rst",
            category="Tables",
            labels={"table": "fronts"},
        ),
        leaderboard=report(
            "results/tables/leaderboard.md",
            caption="../report/aggregate.rst",
            category="Tables",
            labels={"table": "leaderboard (Markdown)"},
        ),
        numbers=report(
            "results/tables/leaderboard.csv",
            caption="../report/aggregate.rst",
            category="Tables",
            labels={"table": "leaderboard (CSV)"},
        ),
    log:
        "logs/aggregate.log",
    benchmark:
        "results/benchmarks/aggregate.tsv"
    localrule: True
    conda:
        "../../envs/plot.yaml"
    params:
        **job_params(
            code=code("aggregate.py"),
            software=pins("plot"),
        ),
    script:
        "../scripts/aggregate.py"


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
