"""What the jobs of the study take: files of the library, folders, slices of the config."""


def task_of(wildcards):
    """The task of a job, or that of a student's scope."""
    return study["tasks"][wildcards.get("task") or wildcards.scope]


def tunes(wildcards):
    """Whether the recipe fine-tunes on a task while it compresses."""
    return grid.task_aware(study["recipes"][wildcards.recipe])


def most_threads(profile):
    """Threads that a profile takes, so that nothing else runs beside what it times."""
    asked = [profile["threads"], *(one["threads"] for one in profile["conditions"])]
    return max(os.cpu_count() if number == "all" else number for number in asked)


# files of the library that a job loads by name


def source_file(wildcards):
    """File of the corpus's source."""
    return [plugins.path(sources.PACKAGE, study["corpora"][wildcards.corpus]["source"])]


def method_files(wildcards):
    """Files of the recipe's methods."""
    recipe = study["recipes"][wildcards.recipe]
    return [plugins.path(catalogue.PACKAGE, name) for entry in recipe for name in entry]


def supernet_file(wildcards):
    """File of the method that trains a supernet."""
    return method_files(wildcards)[:1]


def task_file(wildcards):
    """File of the task's kind."""
    return [plugins.path(kind.PACKAGE, task_of(wildcards)["kind"])]


def task_file_of_teacher(wildcards):
    """File of the task's kind."""
    return [] if wildcards.scope == "any" else task_file(wildcards)


def task_file_of_recipe(wildcards):
    """File of the task's kind, for a recipe that fine-tunes on the task."""
    return task_file(wildcards) if tunes(wildcards) else []


def task_file_of_profile(wildcards):
    """File of the task's kind, for a student that hears the task's recordings while it is measured."""
    own = grid.dynamic(study["recipes"][wildcards.recipe])
    return task_file(wildcards) if own else []


# folders that a job starts from


def corpora(names):
    """Folders of prepared corpora."""
    return [paths.CORPUS.format(corpus=name) for name in names]


@once_per_recipe
def corpora_of_task(wildcards):
    """Corpora of the task."""
    return corpora(task_of(wildcards)["corpora"])


@once_per_recipe
def corpora_of_scope(wildcards):
    """Corpora of the tasks of a scope: those that its students are made for."""
    tasks = {cell.task for cell in CELLS if cell.scope == wildcards.scope}
    names = {name for task in tasks for name in study["tasks"][task]["corpora"]}
    return corpora(sorted(names))


@once_per_recipe
def corpora_of_pretraining(wildcards):
    """Corpora on which the teacher is pretrained."""
    return corpora(study["teachers"][wildcards.teacher]["pretrain"]["corpora"])


@once_per_recipe
def corpora_of_recipe(wildcards):
    """Corpora for compression, if it looks at recordings."""
    if tunes(wildcards):
        return corpora_of_task(wildcards)
    return corpora_of_supernet(wildcards) if trains(wildcards) else []


def corpora_of_supernet(wildcards):
    """Corpora on which methods train that know no task."""
    return corpora(study["compress"]["corpora"])


def corpora_of_teacher(wildcards):
    """Corpora of the task of a fine-tuned teacher; those of compression for the bare one."""
    if wildcards.scope == "any":
        return corpora_of_supernet(wildcards)
    return corpora_of_task(wildcards)


def recordings_of_corpus(wildcards):
    """What a corpus is prepared from: its downloads, a copy of them, or the user's TSV."""
    corpus = study["corpora"][wildcards.corpus]
    if grid.downloads(corpus):
        return paths.DOWNLOAD
    path = locate(corpus["path"])
    return ancient(str(path)) if path.is_dir() else str(path)


def shipped(path):
    """A folder that no rule makes; its content counts (params), its time stamps do not."""
    return ancient(str(locate(path)))


@once_per_recipe
def backbone(wildcards):
    """Folder of the bare teacher."""
    teacher = study["teachers"][wildcards.teacher]
    if "path" in teacher:
        return shipped(teacher["path"])
    return paths.BACKBONE.format(teacher=wildcards.teacher)


def file_of_teacher(key):
    """Input function: the file under this key of a teacher, none if it has no such key."""

    def file(wildcards):
        teacher = study["teachers"][wildcards.teacher]
        return str(locate(teacher[key])) if key in teacher else []

    return file


@once_per_recipe
def teacher_for(wildcards):
    """Folder of what is compressed: the bare teacher, or the one fine-tuned on the task (scope)."""
    if grid.teacher_scope(study, wildcards.scope) == "any":
        return backbone(wildcards)
    finetuned = study["teachers"][wildcards.teacher]["finetuned"]
    if wildcards.scope in finetuned:
        return shipped(finetuned[wildcards.scope])
    return paths.TASK_TEACHER.format(teacher=wildcards.teacher, task=wildcards.scope)


def content(folder):
    """Params function: digests of a teacher's folder if no rule makes it, else nothing."""

    def digests(wildcards):
        path = str(folder(wildcards))
        return None if path.startswith("results/") else fingerprint(Path(path))

    return digests


@once_per_recipe
def supernet(wildcards):
    """Folder of the supernet that students are cut from, if the recipe has one for all ratios."""
    if not grid.trains_once(study["recipes"][wildcards.recipe]):
        return []
    scope = grid.teacher_scope(study, wildcards.scope)
    return paths.SUPERNET.replace("{scope}", scope)


@once_per_recipe
def student(wildcards):
    """Folder of the student that the task takes."""
    scope = grid.scope_of(study, wildcards.recipe, wildcards.task)
    return paths.STUDENT.replace("{scope}", scope)


@once_per_recipe
def profiled_student(wildcards):
    """Folder of the student that is measured.

    Where utterances leave depends on the fine-tuning, so a student of early exits comes after it,
    if there is any.
    """
    tuned = grid.tasks_with(study, "finetune")
    if grid.dynamic(study["recipes"][wildcards.recipe]) and wildcards.scope in tuned:
        return paths.FINETUNED.replace("{task}", "{scope}")
    return paths.STUDENT


@once_per_recipe
def corpora_of_profile(wildcards):
    """Corpora that a student of early exits hears: its task's, else those of compression."""
    if not grid.dynamic(study["recipes"][wildcards.recipe]):
        return []
    return corpora_of_task(wildcards) or corpora(study["compress"]["corpora"])


@once_per_recipe
def data_of_superb(wildcards):
    """A SUPERB task's files, where they are from our corpora: s3prl reads others itself."""
    own = task_of(wildcards)["corpora"]
    return {"data": paths.SUPERB_DATA.format(task=wildcards.task)} if own else {}


# slices of the config that a job uses


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


# results of the study


def files_of(pattern, cells):
    """Files of cells, each once."""
    return list(dict.fromkeys(pattern.format(**vars(cell)) for cell in cells))


def results_of_cells(pattern):
    """Files of all cells; with a search an input function, as that finds some of them."""

    def found(wildcards):
        return files_of(pattern, [*CELLS, *cells_of_search()])

    return found if "search" in study else files_of(pattern, CELLS)


def results_beside_search():
    """Files of the grid's cells, which need not wait until a search has ended; none without one."""
    patterns = (paths.METRICS, paths.PROFILE) if "search" in study else ()
    return [file for pattern in patterns for file in files_of(pattern, CELLS)]


def results_of_measured(pattern):
    """Files of the cells whose exported files are measured."""
    return [pattern.format(**vars(cell)) for cell in exported.measured(study)]


def results_of_heard(pattern):
    """Files of the cells that are scored in conditions, each once, as `results_of_cells`."""

    def found(wildcards):
        pairs = in_conditions.scored(study, cells_of_search())
        names = [pattern.format(**vars(cell), condition=name) for cell, name in pairs]
        return list(dict.fromkeys(names))

    return found if "search" in study else found(None)


def conditions_if_any(*patterns):
    """Tables of the scores in conditions, if the study has any."""
    return list(patterns) if in_conditions.scored(study) else []


def runtimes_if_any():
    """Table of exported files, if the study measures any."""
    return [paths.RUNTIMES_TABLE] if exported.measured(study) else []


def figure_of(wildcards):
    """What a figure shows: its kind, its task and a caption."""
    return FIGURES[wildcards.figure]


def hypotheses_of_figure(wildcards):
    """Utterances of a task's cells, for a figure that shows them."""
    figure = figure_of(wildcards)
    view = VIEWS.get(figure["kind"])
    if not view or view.reads != "utterances":
        return []
    every = [*CELLS, *cells_of_search()]
    return files_of(
        paths.HYPOTHESES, [cell for cell in every if cell.task == figure["task"]]
    )


def sensitivities():
    """Figures of all teachers of the study, fine-tuned ones where tasks have them."""
    made = {
        (cell.teacher, grid.teacher_scope(study, cell.scope)): None for cell in CELLS
    }
    patterns = [
        paths.SENSITIVITY.format(teacher=teacher, scope=scope)
        for teacher, scope in made
    ]
    return [f"{pattern}.{kind}" for pattern in patterns for kind in FORMATS]


def conditions_of_figure(wildcards):
    """Table of what conditions cost, for a figure that shows it."""
    view = VIEWS.get(figure_of(wildcards)["kind"])
    return [paths.CONDITIONS] if view and view.reads == "conditions" else []


def figure_file(wildcards):
    """File that draws a view of a task; other figures are imported by the script."""
    view = VIEWS.get(figure_of(wildcards)["kind"])
    return [plugins.path("reporting.figures", view.module)] if view else []


def figure_files():
    """All figures of the study."""
    return [
        f"{paths.FIGURE.format(figure=figure)}.{kind}"
        for figure in FIGURES
        for kind in FORMATS
    ]
