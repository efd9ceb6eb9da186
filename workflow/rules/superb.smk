"""SUPERB's tasks on frozen students, trained and scored by s3prl in an environment of its own."""


rule superb:
    """Train and score a SUPERB task on a student, with the best of some learning rates."""
    input:
        unpack(data_of_superb),
        model=student,
    output:
        metrics=paths.METRICS,
        hypotheses=paths.HYPOTHESES,
    log:
        "logs/superb/{teacher}/{recipe}/{ratio}/{seed}/{task}.log",
    benchmark:
        "results/benchmarks/superb/{teacher}/{recipe}/{ratio}/{seed}/{task}.tsv"
    wildcard_constraints:
        task=one_of(grid.tasks_with(study, "superb")),
    conda:
        "../../envs/s3prl.yaml"
    params:
        **job_params(
            checkpoints="superb",
            task=task_settings(
                "problem",
                "metric",
                "data",
                "learning_rates",
                "settings",
                "cache_features",
            ),
            recordings=recordings_of_superb,
            code=code("superb.py", "s3prl_trial.py"),
            software=pins("s3prl"),
        ),
        run=untracked(cell("task")),
    script:
        "../scripts/superb.py"
