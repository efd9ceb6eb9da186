"""Teachers from the Hugging Face hub, as folders of safetensors.

Leaves results/teachers/{teacher}/backbone.  Runs where Snakemake runs.
"""


rule fetch_teacher:
    """Download a teacher at the revision that the config names."""
    output:
        directory("results/teachers/{teacher}/backbone"),
    log:
        "logs/fetch_teacher/{teacher}.log",
    benchmark:
        "results/benchmarks/fetch_teacher/{teacher}.tsv"
    wildcard_constraints:
        teacher=one_of(teachers_with("hub")),
    retries: 2
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        hub=lookup("teachers/{teacher}/hub", within=study),
        revision=lookup("teachers/{teacher}/revision", within=study, default=None),
        code=code("fetch_teacher.py"),
    script:
        "../scripts/fetch_teacher.py"
