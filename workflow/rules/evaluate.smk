"""Scores on a task's test split, over all and for every utterance.

Leaves results/metrics/{teacher}/{recipe}/{ratio}/{seed}/{task}.{json,tsv}.
"""


rule evaluate:
    """Score a fine-tuned student."""
    input:
        model="results/finetuned/{teacher}/{recipe}/{ratio}/{seed}/{task}",
        corpora=corpora_of_task,
    output:
        metrics="results/metrics/{teacher}/{recipe}/{ratio}/{seed}/{task}.json",
        hypotheses="results/metrics/{teacher}/{recipe}/{ratio}/{seed}/{task}.tsv",
    log:
        "logs/evaluate/{teacher}/{recipe}/{ratio}/{seed}/{task}.log",
    benchmark:
        "results/benchmarks/evaluate/{teacher}/{recipe}/{ratio}/{seed}/{task}.tsv"
    wildcard_constraints:
        task=one_of(tasks_with(study, "evaluate")),
    conda:
        "../../envs/torch.yaml"
    params:
        job=together(
            task=evaluation_settings,
            code=code("evaluate.py", task_file),
            software=pins("torch"),
        ),
        run=identity_of_run("task"),
    script:
        "../scripts/evaluate.py"
