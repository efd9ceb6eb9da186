"""Recordings and labels of a SUPERB task as files that s3prl reads, where they are from our corpora."""


rule prepare_superb:
    """Write a task's recordings and labels for s3prl."""
    input:
        corpora=corpora_of_task,
    output:
        directory(paths.SUPERB_DATA),
    log:
        "logs/prepare_superb/{task}.log",
    benchmark:
        "results/benchmarks/prepare_superb/{task}.tsv"
    wildcard_constraints:
        task=one_of(grid.tasks_with(study, "superb")),
    conda:
        "../../envs/torch.yaml"
    params:
        **job_params(
            task=task_settings("problem", "label", "languages", "train_hours"),
            recordings=recordings_used(corpora_of_task),
            code=code("prepare_superb.py"),
            software=pins("torch"),
        ),
    script:
        "../scripts/prepare_superb.py"
