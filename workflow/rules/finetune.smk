"""Students fine-tuned on a task: a short recovery, or the whole way from a bare backbone."""


rule finetune:
    """Fine-tune a student on a task."""
    input:
        model=student,
        corpora=corpora_of_task,
        earlier=rung_below,
    output:
        directory(paths.FINETUNED),
    log:
        "logs/finetune/{teacher}/{recipe}/{ratio}/{seed}/{task}.log",
    benchmark:
        "results/benchmarks/finetune/{teacher}/{recipe}/{ratio}/{seed}/{task}.tsv"
    wildcard_constraints:
        task=one_of(grid.tasks_with(study, "finetune")),
    conda:
        "../../envs/torch.yaml"
    resources:
        mem_mb=megabytes("finetune", 8000),
        runtime=minutes("finetune", 240),
    params:
        **job_params(
            checkpoints="finetune",
            task=kind_settings("languages", "train_hours", "protocol"),
            training=lookup("tasks/{task}/student", within=study),
            until=last_step,
            recordings=recordings_used(corpora_of_task),
            files=files_of_task,
            code=code("finetune.py", task_file),
            software=pins("torch"),
        ),
    script:
        "../scripts/finetune.py"
