"""What compression did to a model: its layers, heads and hidden states beside its teacher's.

Leaves results/analysis/{teacher}/{recipe}/{ratio}/{seed}/{scope}.json.
"""


rule analyse:
    """Look into a student and its teacher while they listen to validation audio."""
    input:
        teacher=teacher_for,
        student="results/models/{teacher}/{recipe}/{ratio}/{seed}/{scope}",
        corpora=corpora_of_scope,
    output:
        "results/analysis/{teacher}/{recipe}/{ratio}/{seed}/{scope}.json",
    log:
        "logs/analyse/{teacher}/{recipe}/{ratio}/{seed}/{scope}.log",
    benchmark:
        "results/benchmarks/analyse/{teacher}/{recipe}/{ratio}/{seed}/{scope}.tsv"
    conda:
        "../../envs/torch.yaml"
    params:
        job=together(
            teacher=content(teacher_for),
            recordings=recordings_used(corpora_of_scope),
            code=code("analyse.py"),
            software=pins("torch"),
        ),
        run=identity_of_run("scope"),
    script:
        "../scripts/analyse.py"
