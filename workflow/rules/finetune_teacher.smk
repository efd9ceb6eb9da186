"""Teachers fine-tuned on a task: where tasks with `start: finetuned` begin.

The target `finetune_teacher` also makes those that a folder of the config stands for, so that
shipped ones can be reproduced.
"""


rule finetune_one_teacher:
    """Fine-tune a bare teacher on a task."""
    input:
        model=backbone,
        corpora=corpora_of_task,
    output:
        directory(paths.TASK_TEACHER),
    log:
        "logs/finetune_teacher/{teacher}/{task}.log",
    benchmark:
        "results/benchmarks/finetune_teacher/{teacher}/{task}.tsv"
    conda:
        "../../envs/torch.yaml"
    resources:
        mem_mb=megabytes("finetune_teacher", 8000),
        runtime=minutes("finetune_teacher", 720),
    params:
        **job_params(
            checkpoints="finetune_teacher",
            task=kind_settings("languages", "train_hours", "protocol"),
            training=lookup("tasks/{task}/teacher", within=study),
            seed=lookup("tasks/{task}/seed", within=study),
            teacher=content(backbone),
            dtype="float16",
            recordings=recordings_used(corpora_of_task),
            files=files_of_task,
            code=code("finetune.py", task_file),
            software=pins("torch"),
        ),
    script:
        "../scripts/finetune.py"


rule finetune_teacher:
    """Target: every teacher of the study, fine-tuned on every task."""
    input:
        expand(
            paths.TASK_TEACHER,
            teacher=study["teachers"],
            task=grid.tasks_with(study, "finetune"),
        ),
    localrule: True
