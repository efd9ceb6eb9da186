"""All results of the study in one table, and what was seen inside its students in another.

Leaves results/tables/results.{parquet,csv} and results/tables/analysis.{parquet,csv}.
"""


rule aggregate:
    """Gather the results of all cells."""
    input:
        metrics=results_of_cells(paths.METRICS),
        profiles=results_of_cells(paths.PROFILE),
        analyses=results_of_cells(paths.ANALYSIS),
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
