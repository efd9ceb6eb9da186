"""Teachers from the Hugging Face hub, as folders of safetensors.

Runs where Snakemake runs: compute nodes may have no internet.  Downloads lie in the hub's own
cache, which other workflows share (HF_HOME).
"""


rule fetch_teacher:
    """Download a teacher at the revision that the config names."""
    output:
        directory(paths.BACKBONE),
    log:
        "logs/fetch_teacher/{teacher}.log",
    benchmark:
        "results/benchmarks/fetch_teacher/{teacher}.tsv"
    wildcard_constraints:
        teacher=one_of(teachers_with("hub")),
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        **job_params(
            hub=lookup("teachers/{teacher}/hub", within=study),
            revision=lookup("teachers/{teacher}/revision", within=study),
            sha256=lookup("teachers/{teacher}/sha256", within=study),
            code=code("fetch_teacher.py"),
            software=pins("torch"),
        ),
    script:
        "../scripts/fetch_teacher.py"


rule teachers:
    """Target: all teachers of the hub and all converted ones, for machines without internet."""
    input:
        expand(
            paths.BACKBONE,
            teacher=teachers_with("hub") + teachers_with("checkpoint"),
        ),
    localrule: True
