"""All results of the study in one table, and what was seen inside its students in another."""


rule aggregate:
    """Gather the results of all cells."""
    input:
        metrics=results_of_cells(paths.METRICS),
        profiles=results_of_cells(paths.PROFILE),
        analyses=results_of_cells(paths.ANALYSIS) if looks_inside(study) else [],
    output:
        parquet=paths.TABLE,
        csv=table_of_report(paths.TABLE_CSV, "aggregate", "all cells"),
        analysis=paths.ANALYSES,
        analysis_csv=table_of_report(
            paths.ANALYSES_CSV, "analysis", "layers, heads, hidden states"
        ),
    log:
        "logs/aggregate.log",
    benchmark:
        "results/benchmarks/aggregate.tsv"
    localrule: True
    conda:
        "../../envs/plot.yaml"
    params:
        **job_params(code=code("aggregate.py"), software=pins("plot")),
    script:
        "../scripts/aggregate.py"
