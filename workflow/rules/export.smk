"""Students for other programs: one ONNX file each, samples in, log-probabilities out.

Leaves results/export/{teacher}/{recipe}/{ratio}/{seed}/{task}.{onnx,json}.
"""


rule export:
    """Write a fine-tuned student as ONNX and compare it with torch on real recordings."""
    input:
        model="results/finetuned/{teacher}/{recipe}/{ratio}/{seed}/{task}",
        corpora=corpora_of_task,
    output:
        model="results/export/{teacher}/{recipe}/{ratio}/{seed}/{task}.onnx",
        report="results/export/{teacher}/{recipe}/{ratio}/{seed}/{task}.json",
    log:
        "logs/export/{teacher}/{recipe}/{ratio}/{seed}/{task}.log",
    benchmark:
        "results/benchmarks/export/{teacher}/{recipe}/{ratio}/{seed}/{task}.tsv"
    conda:
        "../../envs/export.yaml"
    params:
        job=together(
            task=task_settings("kind", "unit", "languages", "protocol"),
            code=code("export.py", task_file),
            software=pins("export"),
        ),
        run=identity_of_run("task"),
    script:
        "../scripts/export.py"


rule exports:
    """Target: all fine-tuned students of the study as ONNX."""
    input:
        [
            f"results/export/{cell.teacher}/{cell.recipe}/{cell.ratio}/{cell.seed}/{cell.task}.onnx"
            for cell in CELLS
            if cell.task in tasks_with(study, "finetune")
        ],
    localrule: True
