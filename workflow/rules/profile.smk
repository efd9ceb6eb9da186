"""What a student costs: parameters, bytes, MACs, and wall clock beside its teacher's.

Leaves results/profile/{teacher}/{recipe}/{ratio}/{seed}/{scope}.json.
"""


rule profile:
    """Count and time a student and its teacher."""
    input:
        teacher=teacher_for,
        student="results/models/{teacher}/{recipe}/{ratio}/{seed}/{scope}",
    output:
        "results/profile/{teacher}/{recipe}/{ratio}/{seed}/{scope}.json",
    log:
        "logs/profile/{teacher}/{recipe}/{ratio}/{seed}/{scope}.log",
    benchmark:
        "results/benchmarks/profile/{teacher}/{recipe}/{ratio}/{seed}/{scope}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: most_threads(study["profile"])
    params:
        job=together(
            settings=study["profile"],
            teacher=content(teacher_for),
            steps=steps_of_recipe,
            code=code("profile_student.py", method_files),
            software=pins("torch"),
        ),
        run=identity_of_run("scope"),
    script:
        "../scripts/profile_student.py"
