"""A dress rehearsal: every kind of job once, for some steps, at real shapes, before hours are spent.

It leaves results/rehearsal.json and results/rehearsal.txt, which plans and the resources of the
rules read. What it measures is only true of the machine that it runs on: so it is all measured anew
whenever it is asked for.
"""


rule rehearse_job:
    """Run a job of the study for some steps and measure what it takes."""
    input:
        corpora_of_original,
    output:
        temp(paths.REHEARSED),
    log:
        "logs/rehearsal/{rehearsed}.log",
    benchmark:
        "results/benchmarks/rehearsal/{rehearsed}.tsv"
    conda:
        "../../envs/evaluate.yaml"
    threads: threads_of_original
    resources:
        gpu=gpus_of_original,
    params:
        **job_params(
            rehearsed=rehearsed_job,
            code=code("rehearse_job.py", "rehearsed.py"),
            software=pins("evaluate"),
        ),
    script:
        "../scripts/rehearse_job.py"


rule rehearse:
    """Target: rehearse the study; print what it will take and what will fail."""
    input:
        rehearsals,
    log:
        "logs/rehearse.log",
    localrule: True
    conda:
        "../../envs/plot.yaml"
    params:
        study=lambda wildcards: study,
        results="results",
        code=code("rehearse.py"),
    script:
        "../scripts/rehearse.py"
