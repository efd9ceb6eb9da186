"""Slices of the config that a job uses: its params, so that nothing else reruns it."""


def preparation(name):
    """How a corpus is prepared: all but where it is downloaded from."""
    corpus = study["corpora"][name]
    return {key: value for key, value in corpus.items() if key != "mirror"}


def pretraining_settings(wildcards):
    """How a teacher is pretrained, but for what its rule names apart."""
    pretrain = study["teachers"][wildcards.teacher]["pretrain"]
    apart = ("corpora", "seed")
    return {name: value for name, value in pretrain.items() if name not in apart}


def deployed_students(wildcards):
    """Files of the students that other programs may get, by name."""
    return deployed.students(study)


def deployed_files(wildcards):
    """All of these."""
    return [
        file for own in deployed_students(wildcards).values() for file in own.values()
    ]


def deployed_corpora(wildcards):
    """Corpora of their tasks."""
    tasks = deployable_tasks(wildcards).values()
    return sorted({folder for task in tasks for folder in task["corpora"]})


def deployable_tasks(wildcards):
    """Settings and corpora of each task whose students other programs can run."""
    return {
        task: {
            "settings": kind_settings("languages", "protocol")({"task": task}),
            "corpora": corpora(study["tasks"][task]["corpora"]),
        }
        for task in deployed.tasks(study)
    }


def evaluation_settings(wildcards):
    """What of a task matters to its scores once a model is fine-tuned."""
    scored = kind.kind_of(task_of(wildcards)["kind"]).scored
    names = ("languages", "protocol", "metric", *scored)
    return {**kind_settings(*names)(wildcards), "precision": study["precision"]}


def runtime_settings(wildcards):
    """How exported files are measured: on the recordings that `profile` times."""
    timed = {
        key: study["profile"][key] for key in ("audio_seconds", "batch", "repeats")
    }
    return study["onnx"] | timed


def language_model(wildcards):
    """Digests of the files of a task's language model, which matter to its scores alone."""
    found = task_of(wildcards).get("language_model", {})
    return digests_of(value for value in found.values() if isinstance(value, str))


def trains(wildcards):
    """Whether a student is made by a method that looks at recordings or fine-tunes."""
    steps = grid.after_supernet(study["recipes"][wildcards.recipe])
    return tunes(wildcards) or grid.learns(steps)


def method_of_supernet(wildcards):
    """What a supernet is trained by: the recipe's first method, whatever its students remove."""
    ((name, settings),) = study["recipes"][wildcards.recipe][0].items()
    return {name: {key: own for key, own in (settings or {}).items() if key != "ratio"}}


def precision_of_recipe(wildcards):
    """Arithmetic of compression, for a recipe with a method that learns."""
    return study["precision"] if trains(wildcards) else "auto"


def pieces_of_recipe(wildcards):
    """How many pieces batches of compression are cut into, for a recipe with a method that learns."""
    return study["compress"]["accumulate"] if trains(wildcards) else 1


@once_per_recipe
def short_compression(wildcards):
    """Group of the students that are made in seconds; on a cluster one job makes many of them."""
    return None if trains(wildcards) else "students"


TARGETS = {
    (cell.teacher, cell.recipe, cell.ratio): cell.target
    for cell in CELLS
    if cell.target
}


@with_signature
def target_of_cell(wildcards):
    """What a student's ratio of parameters stands for, such as `{macs: 0.5}`; mostly nothing."""
    return TARGETS.get((wildcards.teacher, wildcards.recipe, wildcards.ratio))


def task_of_recipe(wildcards):
    """What of a task matters to a recipe that fine-tunes on it, nothing to others."""
    names = ("languages", "train_hours", "protocol")
    return kind_settings(*names)(wildcards) if tunes(wildcards) else None


def recordings_used(names):
    """Params function: what corpora are made from; `names` is a function that lists their folders."""

    def used(wildcards):
        chosen = [Path(folder).name for folder in names(wildcards)]
        origins = [study["corpora"][name]["source"] for name in chosen]
        files = [plugins.path(sources.PACKAGE, origin) for origin in origins]
        return {
            "settings": {name: preparation(name) for name in chosen},
            "code": closure(["prepare_corpus.py", *files]),
            "software": pins("data"),
        }

    return used


def task_settings(*names):
    """Params function: the settings of the task under these names that it has."""

    def settings(wildcards):
        task = task_of(wildcards)
        return {name: task[name] for name in names if name in task}

    return settings


def kind_settings(*names):
    """Params function: as task_settings, after the task's kind and the settings of that kind."""

    def settings(wildcards):
        own = kind.kind_of(task_of(wildcards)["kind"]).own
        return task_settings("kind", *own, *names)(wildcards)

    return settings


def task_of_teacher(wildcards):
    """What of a task tells how a teacher's head is read; nothing of the bare one."""
    if wildcards.scope == "any":
        return None
    return kind_settings("languages", "protocol")(wildcards)


def files_of_task(wildcards):
    """Digests of the files that the task names, whatever their time stamps."""
    task = task_of(wildcards)
    return digests_of(kind.kind_of(task["kind"]).files(task))


def digests_of(names):
    """Digests of files that a config names."""
    return {name: fingerprint(locate(name)) for name in names}


def changes_of_condition(wildcards):
    """What a condition of the task does to recordings."""
    return condition.of_task(task_of(wildcards))[wildcards.condition]


def files_of_changes(wildcards):
    """Source files of what a condition does."""
    return condition.sources(changes_of_condition(wildcards))


def files_of_condition(wildcards):
    """Digests of the files of a task, and of the recordings that a condition names.

    Of these, which may be many, the sizes and both ends count.
    """
    names = condition.files(changes_of_condition(wildcards))
    heard = {name: fingerprint(locate(name), 1 << 16) for name in names}
    return files_of_task(wildcards) | heard


def recordings_of_superb(wildcards):
    """What a SUPERB task's files are made from, as recordings_used says it."""
    prepared = task_settings("label", "languages", "train_hours")(wildcards)
    code = closure(["prepare_superb.py"])
    made = recordings_used(corpora_of_task)(wildcards)
    return {"corpora": made, "task": prepared, "code": code}


def cell(what):
    """What a result says of the cell that it belongs to; `what` is its last wildcard.

    Numbers depend on other params alone: a study's new name reruns nothing.
    """

    @once_per_recipe
    def of_all_ratios(wildcards):
        teacher = study["teachers"][wildcards.teacher]
        recipe = study["recipes"][wildcards.recipe]
        origin = ("path", "hub", "revision", "checkpoint")
        known = {key: teacher[key] for key in origin if key in teacher}
        slice = {"teacher": known, "recipe": recipe}
        if what == "task":
            slice["task"] = study["tasks"][wildcards.task]
        role = grid.role_of(recipe)
        return {"role": role, "pretrained": grid.pretrained(teacher), "config": slice}

    def run(wildcards):
        target = target_of_cell(wildcards)
        return ({"target": words(target)} if target else {}) | {
            "study": study["study"],
            "teacher": wildcards.teacher,
            "recipe": wildcards.recipe,
            "ratio": float(wildcards.ratio),
            "seed": int(wildcards.seed),
            what: wildcards[what],
            **of_all_ratios(wildcards),
        }

    return run


def heard_cell(wildcards):
    """What a result in a condition says of itself."""
    return {**cell("task")(wildcards), "condition": wildcards.condition}


def supernet_run(wildcards):
    """What a supernet says of itself, as `cell` of a student."""
    return {
        "study": study["study"],
        **dict(wildcards.items()),
        "seed": int(wildcards.seed),
    }
