"""Scores on a task's test split, over all and for every utterance."""


rule evaluate:
    """Score a fine-tuned student."""
    input:
        model=paths.FINETUNED,
        corpora=corpora_of_task,
    output:
        metrics=paths.METRICS,
        hypotheses=paths.HYPOTHESES,
    log:
        "logs/evaluate/{teacher}/{recipe}/{ratio}/{seed}/{task}.log",
    benchmark:
        "results/benchmarks/evaluate/{teacher}/{recipe}/{ratio}/{seed}/{task}.tsv"
    wildcard_constraints:
        task=one_of(grid.tasks_with(study, "evaluate")),
    conda:
        "../../envs/evaluate.yaml"
    resources:
        mem_mb=megabytes("evaluate", 8000),
        runtime=minutes("evaluate", 10),
    params:
        **job_params(
            task=evaluation_settings,
            language_model=language_model,
            splits=scored_splits,
            files=files_of_task,
            code=code("evaluate.py", task_file),
            software=pins("evaluate"),
        ),
        run=untracked(cell("task")),
    script:
        "../scripts/evaluate.py"
