"""The damages of a teacher's parts as a table and one figure."""


rule draw_sensitivity:
    """Draw the damages of a teacher's parts, and keep them as a table."""
    input:
        f"{paths.SENSITIVITY}.json",
    output:
        f"{paths.SENSITIVITY}.parquet",
        report(
            f"{paths.SENSITIVITY}.svg",
            caption="../report/sensitivity.rst",
            category="Figures",
            subcategory="teachers",
            labels={"figure": "sensitivity of {teacher}, {scope}"},
        ),
        f"{paths.SENSITIVITY}.pdf",
        f"{paths.SENSITIVITY}.png",
    log:
        "logs/draw_sensitivity/{teacher}/{scope}.log",
    benchmark:
        "results/benchmarks/draw_sensitivity/{teacher}/{scope}.tsv"
    localrule: True
    conda:
        "../../envs/plot.yaml"
    params:
        **job_params(code=code("draw_sensitivity.py"), software=pins("plot")),
    script:
        "../scripts/draw_sensitivity.py"


rule sensitivity:
    """Target: which parts of each teacher can go, as tables and figures."""
    input:
        sensitivities(),
    localrule: True
