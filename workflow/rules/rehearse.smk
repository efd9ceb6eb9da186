"""A dress rehearsal: every kind of job once, for some steps, at real shapes, before hours are spent.

It leaves results/rehearsal.json and results/rehearsal.txt, which plans and the resources of the
rules read. What it measures is only true of the machine that it runs on: so it is all measured anew
whenever it is asked for.
"""

from speech_pareto.compression import recipes
from speech_pareto.study import forecast

# Of each rule that is rehearsed: itself, its corpora, its teacher's folder, and its last wildcard.
REHEARSED = {
    "pretrain_teacher": (rules.pretrain_one_teacher, corpora_of_pretraining, backbone),
    "finetune_teacher": (rules.finetune_one_teacher, corpora_of_task, backbone),
    "compress": (rules.compress, corpora_of_recipe, teacher_for),
    "finetune": (rules.finetune, corpora_of_task, teacher_for),
    "evaluate": (rules.evaluate, corpora_of_task, teacher_for),
    "profile": (rules.profile, lambda wildcards: [], teacher_for),
    "analyse": (rules.analyse, corpora_of_scope, teacher_for),
}
RULES_OF = {
    stem: name for name, stem in rehearsal.STEMS.items()
}  # as a module they have others


def rehearsals(wildcards):
    """Files of what all rehearsed jobs of the study took."""
    results = Path("results")
    todo = forecast.jobs(study, forecast.expect(study, results), results)
    chosen = rehearsal.chosen(study, todo)
    return [paths.REHEARSED.format(rehearsed=job.benchmark) for job in chosen]


def original(wildcards):
    """Of the job that is rehearsed: its rule and how it is found, and its wildcards."""
    stem, *names = wildcards.rehearsed.split("/")
    keys = re.findall(r"\{(\w+)\}", paths.OUTPUTS[RULES_OF[stem]])
    found = dict(zip(keys, names, strict=True))
    if task := found.get("task"):  # of students that a task takes
        if "recipe" in found:
            found["scope"] = grid.scope_of(study, found["recipe"], task)
    return REHEARSED[stem], type(wildcards)(fromdict=found)


def corpora_of_original(wildcards):
    """Corpora of the job that is rehearsed."""
    (_, corpora, _), own = original(wildcards)
    return corpora(own)


def threads_of_original(wildcards):
    """Threads of the job that is rehearsed."""
    return asked_for(original(wildcards)[0][0].rule, "_cores") or 1


def gpus_of_original(wildcards):
    """GPUs of the job that is rehearsed: one, if it asks for some."""
    return min(1, asked_for(original(wildcards)[0][0].rule, "gpu") or 0)


def rehearsed_job(wildcards):
    """All that the job that is rehearsed gets, as `rehearsed.py` reads it."""
    (proxy, corpora, teacher), own = original(wildcards)
    name, scope = own.teacher, own.get("scope", "any")
    configs = {"teacher": forecast.teacher_config(study, name, scope, Path("results"))}
    if "recipe" in own.keys():
        recipe = study["recipes"][own.recipe]
        solution = recipes.solve(recipe, configs["teacher"], float(own.ratio))
        configs["student"] = dict(solution.config)
    params = dict(proxy.rule.params.items())
    job = params["job"](own)
    return {
        "rule": RULES_OF[wildcards.rehearsed.partition("/")[0]],
        "job": job,
        "run": params["run"](own, None) if "run" in params else None,
        "ratio": float(own.get("ratio", 0)),
        "seed": int(own.get("seed") or job.get("seed", 0)),
        "corpora": corpora(own),
        "teacher": str(teacher(own)),
        "configs": configs,
        "given": {what: given(proxy.rule, what) for what in ("mem_mb", "runtime")},
    }


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
