"""How sure the differences are: students against their teacher, the points of a front."""


rule compare:
    """Test all students against their teacher, utterance by utterance."""
    input:
        cells=paths.TABLE,
        hypotheses=results_of_cells(paths.HYPOTHESES),
    output:
        parquet=paths.COMPARISONS,
        csv=table_of_report(
            paths.COMPARISONS_CSV, "compare", "students against their teacher"
        ),
        fronts=table_of_report(paths.FRONTS, "compare", "ties and hypervolumes"),
        pairs=paths.PAIRS,
        examples=paths.EXAMPLES,
    log:
        "logs/compare.log",
    benchmark:
        "results/benchmarks/compare.tsv"
    conda:
        "../../envs/plot.yaml"
    params:
        **job_params(code=code("compare.py"), software=pins("plot")),
    script:
        "../scripts/compare.py"
