"""Pareto fronts: score against cost, one figure per task and cost axis.

Leaves results/figures/{task}-{cost}.{svg,pdf,png}.
"""


rule plot:
    """Draw the front of a task over a cost."""
    input:
        table="results/tables/results.parquet",
        comparisons="results/tables/comparisons.parquet",
    output:
        report(
            "results/figures/{task}-{cost}.svg",
            caption="../report/plot.rst",
            category="Pareto fronts",
            subcategory="{task}",
            labels={"task": "{task}", "cost": "{cost}"},
        ),
        "results/figures/{task}-{cost}.pdf",
        "results/figures/{task}-{cost}.png",
    log:
        "logs/plot/{task}-{cost}.log",
    benchmark:
        "results/benchmarks/plot/{task}-{cost}.tsv"
    conda:
        "../../envs/plot.yaml"
    params:
        code=code("plot.py"),
    script:
        "../scripts/plot.py"


rule figures:
    """Target: all figures of the study."""
    input:
        figure_files(),
    localrule: True
