"""What exported students take and score in onnxruntime, in fp32 and in 8 bits, beside torch."""


rule measure_export:
    """Time and score the ONNX files of a student."""
    input:
        model=paths.FINETUNED,
        file=paths.ONNX,
        report=paths.EXPORT_REPORT,
        corpora=corpora_of_task,
    output:
        directory(paths.RUNTIMES),
    log:
        "logs/measure_export/{teacher}/{recipe}/{ratio}/{seed}/{task}.log",
    benchmark:
        "results/benchmarks/measure_export/{teacher}/{recipe}/{ratio}/{seed}/{task}.tsv"
    conda:
        "../../envs/export.yaml"
    threads: max(study.get("onnx", {}).get("threads", [1]))
    resources:
        mem_mb=megabytes("measure_export", 8000),
        runtime=minutes("measure_export", 60),
    params:
        **job_params(
            task=evaluation_settings,
            files=files_of_task,
            settings=runtime_settings,
            code=code("measure_export.py", task_file),
            software=pins("export"),
        ),
        run=untracked(cell("task")),
    script:
        "../scripts/measure_export.py"
