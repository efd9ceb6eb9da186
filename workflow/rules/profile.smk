"""What a student costs: parameters, bytes, MACs, and wall clock beside its teacher's."""


rule profile:
    """Count and time a student and its teacher."""
    input:
        teacher=teacher_for,
        student=profiled_student,
        corpora=corpora_of_profile,
    output:
        paths.PROFILE,
    log:
        "logs/profile/{teacher}/{recipe}/{ratio}/{seed}/{scope}.log",
    benchmark:
        "results/benchmarks/profile/{teacher}/{recipe}/{ratio}/{seed}/{scope}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: most_threads(study["profile"])
    resources:
        mem_mb=megabytes("profile", 4000),
        runtime=minutes("profile", minutes_to_profile),
    params:
        **job_params(
            settings=study["profile"],
            teacher=content(teacher_for),
            recipe=lookup("recipes/{recipe}", within=study),
            code=code("profile_student.py", method_files, task_file_of_profile),
            software=pins("torch"),
        ),
        run=untracked(cell("scope")),
    script:
        "../scripts/profile_student.py"
