"""Teachers from checkpoints of fairseq and its kin, as folders of safetensors."""


rule convert_teacher:
    """Rename a checkpoint's weights as transformers does; refuse what is not known."""
    input:
        checkpoint=file_of_teacher("checkpoint"),
        statistics=file_of_teacher("statistics"),
    output:
        directory(paths.BACKBONE),
    log:
        "logs/convert_teacher/{teacher}.log",
    benchmark:
        "results/benchmarks/convert_teacher/{teacher}.tsv"
    wildcard_constraints:
        teacher=one_of(teachers_with("checkpoint")),
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        **job_params(code=code("convert_teacher.py"), software=pins("torch")),
    script:
        "../scripts/convert_teacher.py"
