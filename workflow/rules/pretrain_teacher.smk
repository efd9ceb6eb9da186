"""Teachers that this workflow pretrains itself.

A teacher with a `path` is not made for a study, but the target `pretrain_teacher` makes it all the
same: so a shipped teacher can be reproduced.
"""


rule pretrain_one_teacher:
    """Pretrain a small HuBERT by masked prediction of k-means units."""
    input:
        corpora=corpora_of_pretraining,
    output:
        directory(paths.BACKBONE),
    log:
        "logs/pretrain_teacher/{teacher}.log",
    benchmark:
        "results/benchmarks/pretrain_teacher/{teacher}.tsv"
    wildcard_constraints:
        teacher=one_of(teachers_with("pretrain")),
    conda:
        "../../envs/torch.yaml"
    threads: 2
    resources:
        mem_mb=megabytes("pretrain_teacher", 16000),
        runtime=minutes("pretrain_teacher", 1440),
    params:
        **job_params(
            checkpoints="pretrain_teacher",
            settings=pretraining_settings,
            seed=lookup("teachers/{teacher}/pretrain/seed", within=study),
            recordings=recordings_used(corpora_of_pretraining),
            code=code("pretrain_teacher.py"),
            software=pins("torch"),
        ),
    script:
        "../scripts/pretrain_teacher.py"


rule pretrain_teacher:
    """Target: pretrain every teacher of the study that has a `pretrain` section."""
    input:
        expand(paths.BACKBONE, teacher=teachers_with("pretrain")),
    localrule: True
