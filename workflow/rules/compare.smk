"""How sure the differences are: students against their teacher, the points of a front.

Leaves results/tables/comparisons.{parquet,csv}, results/tables/fronts.csv and results/tables/pairs.csv.
"""


rule compare:
    """Test all students against their teacher, utterance by utterance."""
    input:
        cells="results/tables/results.parquet",
        hypotheses=results_of_cells(paths.HYPOTHESES),
    output:
        parquet="results/tables/comparisons.parquet",
        csv=report(
            "results/tables/comparisons.csv",
            caption="../report/compare.rst",
            category="Tables",
            labels={"table": "students against their teacher"},
        ),
        fronts=report(
            "results/tables/fronts.csv",
            caption="../report/compare.rst",
            category="Tables",
            labels={"table": "ties and hypervolumes"},
        ),
        pairs="results/tables/pairs.csv",
    log:
        "logs/compare.log",
    benchmark:
        "results/benchmarks/compare.tsv"
    conda:
        "../../envs/plot.yaml"
    params:
        **job_params(
            code=code("compare.py"),
            software=pins("plot"),
        ),
    script:
        "../scripts/compare.py"
