"""Students as other programs read them: sherpa-onnx, transformers."""


rule deploy:
    """Write the best student of each CTC task, or those that the config lists, and try them."""
    input:
        students=deployed_files,
        corpora=deployed_corpora,
        tables=(
            []
            if "deploy" in study
            else [paths.TABLE, paths.COMPARISONS, paths.FRONTS, paths.PAIRS]
        ),
    output:
        directory(paths.DEPLOYED),
    log:
        "logs/deploy.log",
    benchmark:
        "results/benchmarks/deploy.tsv"
    conda:
        "../../envs/deploy.yaml"
    params:
        **job_params(
            students=deployed_students,
            tasks=deployable_tasks,
            code=code(
                "deploy.py",
                *(plugins.path(kind.PACKAGE, name) for name in deployed.HEADS),
            ),
            software=pins("deploy"),
        ),
    script:
        "../scripts/deploy.py"
