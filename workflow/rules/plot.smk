"""Figures: a task's fronts over each cost, and what else its results show.

Leaves results/figures/{figure}.{svg,pdf,png}.
"""


rule plot:
    """Draw one figure from the tables."""
    input:
        table="results/tables/results.parquet",
        comparisons="results/tables/comparisons.parquet",
        analysis="results/tables/analysis.parquet",
        published=shipped("resources/published.csv"),
    output:
        report(
            "results/figures/{figure}.svg",
            caption="../report/plot.rst",
            category="Figures",
            subcategory=lambda wildcards: figure_of(wildcards)["task"] or "all tasks",
            labels=lambda wildcards: {"figure": figure_of(wildcards)["kind"]},
        ),
        "results/figures/{figure}.pdf",
        "results/figures/{figure}.png",
    log:
        "logs/plot/{figure}.log",
    benchmark:
        "results/benchmarks/plot/{figure}.tsv"
    localrule: True
    conda:
        "../../envs/plot.yaml"
    params:
        **job_params(
            figure=figure_of,
            published=fingerprint(locate("resources/published.csv")),
            code=code("plot.py", figure_file),
            software=pins("plot"),
        ),
    script:
        "../scripts/plot.py"


rule figures:
    """Target: all figures of the study."""
    input:
        figure_files(),
    localrule: True
