"""What `rehearse_job` knows of the job that it rehearses, as the real job's own rule tells it."""

from speech_pareto.compression import recipes
from speech_pareto.compression.parts.nested import supernet_config
from speech_pareto.study import forecast

# By the first part of a job's name, its rule and functions for its corpora and its teacher.
REHEARSED = {
    "pretrain_teacher": (rules.pretrain_one_teacher, corpora_of_pretraining, backbone),
    "finetune_teacher": (rules.finetune_one_teacher, corpora_of_task, backbone),
    "train_supernet": (rules.train_supernet, corpora_of_supernet, teacher_for),
    "compress": (rules.compress, corpora_of_recipe, teacher_for),
    "finetune": (rules.finetune, corpora_of_task, teacher_for),
    "evaluate": (rules.evaluate, corpora_of_task, teacher_for),
    "profile": (rules.profile, corpora_of_profile, teacher_for),
    "analyse": (rules.analyse, corpora_of_scope, teacher_for),
}
# The rules' names here; in a workflow that uses this one as a module they have others.
RULES_OF = {stem: name for name, stem in rehearsal.STEMS.items()}


def rehearsals(wildcards):
    """Files of what all rehearsed jobs of the study took."""
    results = Path("results")
    todo = forecast.jobs(study, forecast.expect(study, results), results)
    chosen = rehearsal.chosen(study, todo)
    return [paths.REHEARSED.format(rehearsed=job.benchmark) for job in chosen]


def stem_of(wildcards):
    """How the name of the job that is rehearsed begins."""
    return wildcards.rehearsed.partition("/")[0]


def original(wildcards):
    """Of the job that is rehearsed, its entry of `REHEARSED` and its wildcards."""
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
    if "ratio" in own.keys():
        recipe = study["recipes"][own.recipe]
        if grid.trains_once(recipe):
            configs["supernet"] = supernet_config(configs["teacher"])
        solution = recipes.solve(recipe, configs["teacher"], float(own.ratio))
        configs["student"] = dict(solution.config)
    params, known_as = dict(proxy.rule.params.items()), RULES_OF[stem_of(wildcards)]
    job = params["job"](own)
    return {
        "rule": known_as,
        "job": job,
        "run": params["run"](own, None) if "run" in params else None,
        "ratio": float(own.get("ratio", 0)),
        "seed": int(own.get("seed") or job.get("seed", 0)),
        "corpora": corpora(own),
        "teacher": str(teacher(own)),
        "configs": configs,
        "given": given(known_as),
    }
