"""What the jobs of the study start from: files of the library, folders, results of other jobs."""


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
