"""Figures: a task's fronts over each cost, and what else its results show."""


rule plot:
    """Draw one figure from the tables."""
    input:
        table=paths.TABLE,
        comparisons=paths.COMPARISONS,
        analysis=paths.ANALYSES,
        runtimes=runtimes_if_any(),
        conditions=conditions_of_figure,
        published=shipped("resources/published.csv"),
        hypotheses=hypotheses_of_figure,
        found=found_of_figure,
    output:
        report(
            f"{paths.FIGURE}.svg",
            caption="../report/plot.rst",
            category="Figures",
            subcategory=lambda wildcards: figure_of(wildcards)["task"] or "all tasks",
            labels=lambda wildcards: {"figure": figure_of(wildcards)["kind"]},
        ),
        f"{paths.FIGURE}.pdf",
        f"{paths.FIGURE}.png",
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
