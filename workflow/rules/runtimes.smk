"""Which runtime is fastest for which student, and what it costs in errors."""


rule runtimes:
    """Gather what all exported files take, and test their errors against torch's."""
    input:
        cells=paths.TABLE,
        hypotheses=results_of_measured(paths.HYPOTHESES),
        measured=results_of_measured(paths.RUNTIMES),
    output:
        parquet=paths.RUNTIMES_TABLE,
        csv=table_of_report(
            paths.RUNTIMES_CSV, "runtimes", "exported files beside torch"
        ),
        markdown=paths.RUNTIMES_TEXT,
    log:
        "logs/runtimes.log",
    benchmark:
        "results/benchmarks/runtimes.tsv"
    localrule: True
    conda:
        "../../envs/plot.yaml"
    params:
        **job_params(code=code("runtimes.py"), software=pins("plot")),
    script:
        "../scripts/runtimes.py"
