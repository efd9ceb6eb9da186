"""What compression did to a model: its layers, heads and hidden states beside its teacher's."""


rule analyse:
    """Look into a student and its teacher while they listen to validation audio."""
    input:
        teacher=teacher_for,
        student=paths.STUDENT,
        corpora=corpora_of_scope,
    output:
        paths.ANALYSIS,
    log:
        "logs/analyse/{teacher}/{recipe}/{ratio}/{seed}/{scope}.log",
    benchmark:
        "results/benchmarks/analyse/{teacher}/{recipe}/{ratio}/{seed}/{scope}.tsv"
    conda:
        "../../envs/torch.yaml"
    resources:
        mem_mb=megabytes("analyse", 4000),
        runtime=minutes("analyse", 10),
    params:
        **job_params(
            teacher=content(teacher_for),
            recordings=recordings_used(corpora_of_scope),
            code=code("analyse.py"),
            software=pins("torch"),
        ),
        run=untracked(cell("scope")),
    script:
        "../scripts/analyse.py"
