"""Supernets: one training for all ratios of a recipe whose first method `trains_once`.

The rule `compress` cuts a student of each ratio out of it. The scope is that of the teacher: `any`,
or the task on which it was fine-tuned.
"""


rule train_supernet:
    """Train all nested sizes of a teacher at once."""
    input:
        model=teacher_for,
        corpora=corpora_of_supernet,
    output:
        directory(paths.SUPERNET),
    log:
        "logs/train_supernet/{teacher}/{recipe}/{seed}/{scope}.log",
    benchmark:
        "results/benchmarks/train_supernet/{teacher}/{recipe}/{seed}/{scope}.tsv"
    conda:
        "../../envs/torch.yaml"
    resources:
        mem_mb=megabytes("train_supernet", 8000),
        runtime=minutes("train_supernet", 720),
    params:
        **job_params(
            checkpoints="train_supernet",
            method=method_of_supernet,
            precision=study["precision"],
            accumulate=study["compress"]["accumulate"],
            teacher=content(teacher_for),
            recordings=recordings_used(corpora_of_supernet),
            code=code("train_supernet.py", supernet_file),
            software=pins("torch"),
        ),
        run=untracked(supernet_run),
    script:
        "../scripts/train_supernet.py"
