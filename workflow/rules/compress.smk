"""Students: a teacher with a share `ratio` of its parameters removed by a recipe.

The scope is `any`, or the task on which the compressed teacher was fine-tuned or the recipe
fine-tunes.
"""


rule compress:
    """Apply a recipe to a teacher."""
    input:
        model=teacher_for,
        supernet=supernet,
        corpora=corpora_of_recipe,
    output:
        directory(paths.STUDENT),
    log:
        "logs/compress/{teacher}/{recipe}/{ratio}/{seed}/{scope}.log",
    benchmark:
        "results/benchmarks/compress/{teacher}/{recipe}/{ratio}/{seed}/{scope}.tsv"
    group:
        short_compression
    conda:
        "../../envs/torch.yaml"
    resources:
        mem_mb=megabytes("compress", 8000),
        runtime=minutes("compress", minutes_to_compress),
    params:
        **job_params(
            checkpoints="compress",
            recipe=lookup("recipes/{recipe}", within=study),
            precision=precision_of_recipe,
            accumulate=pieces_of_recipe,
            task=task_of_recipe,
            teacher=content(teacher_for),
            recordings=recordings_used(corpora_of_recipe),
            code=code("compress.py", method_files, task_file_of_recipe),
            software=pins("torch"),
        ),
        target=target_of_cell,
        run=untracked(cell("scope")),
    script:
        "../scripts/compress.py"
