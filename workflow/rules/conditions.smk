"""What conditions cost students, beside what they cost their teacher."""


rule conditions:
    """Gather the scores in all conditions, and test what compression costs there."""
    input:
        cells=paths.TABLE,
        hypotheses=results_of_heard(paths.HYPOTHESES),
        scores=results_of_heard(paths.IN_CONDITION),
        heard=results_of_heard(paths.HEARD),
        profiles=results_of_cells(paths.PROFILE),
    output:
        parquet=paths.CONDITIONS,
        csv=table_of_report(paths.CONDITIONS_CSV, "conditions", "scores in conditions"),
        markdown=paths.CONDITIONS_TEXT,
        cells=paths.CONDITION_CELLS,
        comparisons=paths.CONDITION_COMPARISONS,
        fronts=paths.CONDITION_FRONTS,
        pairs=paths.CONDITION_PAIRS,
    log:
        "logs/conditions.log",
    benchmark:
        "results/benchmarks/conditions.tsv"
    localrule: True
    conda:
        "../../envs/plot.yaml"
    params:
        **job_params(code=code("conditions.py"), software=pins("plot")),
    script:
        "../scripts/conditions.py"
