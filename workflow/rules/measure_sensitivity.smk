"""Which parts of a teacher can go: the damage of losing some of each alone, without training.

The scope is that of the teacher: `any`, or the task on which it was fine-tuned.
"""


rule measure_sensitivity:
    """Change each part of each layer of a teacher alone, and listen."""
    input:
        model=teacher_for,
        corpora=corpora_of_teacher,
    output:
        f"{paths.SENSITIVITY}.json",
    log:
        "logs/measure_sensitivity/{teacher}/{scope}.log",
    benchmark:
        "results/benchmarks/measure_sensitivity/{teacher}/{scope}.tsv"
    conda:
        "../../envs/torch.yaml"
    resources:
        mem_mb=megabytes("measure_sensitivity", 8000),
        runtime=minutes("measure_sensitivity", 120),
    params:
        **job_params(
            asked=study["sensitivity"],
            task=task_of_teacher,
            teacher=content(teacher_for),
            recordings=recordings_used(corpora_of_teacher),
            code=code("measure_sensitivity.py", task_file_of_teacher),
            software=pins("torch"),
        ),
    script:
        "../scripts/measure_sensitivity.py"
