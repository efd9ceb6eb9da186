"""Scores of students in noise, in rooms, behind codecs: each condition is a job of its own."""


rule evaluate_condition:
    """Score a fine-tuned student in a condition of its task."""
    input:
        model=paths.FINETUNED,
        corpora=corpora_of_task,
    output:
        metrics=paths.IN_CONDITION,
        hypotheses=paths.HEARD,
    log:
        "logs/evaluate_condition/{teacher}/{recipe}/{ratio}/{seed}/{task}/{condition}.log",
    benchmark:
        "results/benchmarks/evaluate_condition/{teacher}/{recipe}/{ratio}/{seed}/{task}/{condition}.tsv"
    wildcard_constraints:
        task=one_of(in_conditions.tasks(study)),
    conda:
        "../../envs/conditions.yaml"
    resources:
        mem_mb=megabytes("evaluate", 8000),
        runtime=minutes("evaluate", 15),
    params:
        **job_params(
            task=evaluation_settings,
            condition=changes_of_condition,
            files=files_of_condition,
            code=code("evaluate_condition.py", task_file, files_of_changes),
            software=pins("conditions"),
        ),
        run=untracked(heard_cell),
    script:
        "../scripts/evaluate_condition.py"
