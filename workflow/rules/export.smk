"""Students for other programs: one ONNX file each, samples in, what the task's head gives out."""


rule export:
    """Write a fine-tuned student as ONNX and compare it with torch on real recordings."""
    input:
        model=paths.FINETUNED,
        corpora=corpora_of_task,
    output:
        model=paths.ONNX,
        report=paths.EXPORT_REPORT,
    log:
        "logs/export/{teacher}/{recipe}/{ratio}/{seed}/{task}.log",
    benchmark:
        "results/benchmarks/export/{teacher}/{recipe}/{ratio}/{seed}/{task}.tsv"
    conda:
        "../../envs/export.yaml"
    params:
        **job_params(
            task=kind_settings("languages", "protocol"),
            code=code("export.py", task_file),
            software=pins("export"),
        ),
        run=untracked(cell("task")),
    script:
        "../scripts/export.py"


rule exports:
    """Target: all fine-tuned students of the study as ONNX."""
    input:
        [paths.ONNX.format(**vars(cell)) for cell in exported.students(study)],
    localrule: True
