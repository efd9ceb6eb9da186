"""What the jobs of a search take, and those of what it found: rungs, rounds, the front."""


def last_step(wildcards):
    """Step after which a rung of the search ends its fine-tuning; nothing of other tasks."""
    return study["tasks"][wildcards.task].get("until")


def scored_splits(wildcards):
    """Splits that are scored: a rung of the search only chooses."""
    return ["valid"] if last_step(wildcards) else ["valid", "test"]


@with_signature
def rung_below(wildcards):
    """Folder of the fine-tuning that a candidate's goes on from, if any."""
    below = pool.rung_below(study, wildcards.task)
    return (
        [paths.FINETUNED.replace("{task}", below)]
        if below and climbs(wildcards)
        else []
    )


def climbs(wildcards):
    """Whether a fine-tuning is one of the search's own, and none that the grid has too."""
    names = (wildcards.recipe, wildcards.ratio)
    if names not in pool.candidates(study):
        return False
    cell = pool.cell_of(study, pool.candidates(study)[names], -1)
    own = (cell.teacher, cell.seed) == (wildcards.teacher, wildcards.seed)
    return own and cell not in CELLS


@functools.cache
def prices_of_search():
    """What each candidate is foretold to cost by rung, in seconds."""
    return pool.prices(study, Path("results"))


def facts_of_search(wildcards):
    """All that a round knows beside results."""
    names = ("pool", "steps", "cost", "dearest", "hours", "keep", "at_once", "patience")
    names = (*names, "front", "teacher", "task")
    facts = {name: study["search"][name] for name in names}
    return {**facts, "prices": prices_of_search()}


def file_of_round(number):
    """File of a round of the search, once it is there."""
    names = {"study": study["study"], "round": number}
    return checkpoints.search_round.get(**names).output[0]


def round_before(wildcards):
    """File of the round before, if there was one."""
    number = int(wildcards.round)
    return [file_of_round(number - 1)] if number else []


def results_of_round(wildcards):
    """Scores of what the round before asked for."""
    return [
        paths.METRICS.format(**vars(pool.cell_of(study, asked, asked["rung"])))
        for file in round_before(wildcards)
        for asked in read_json(file)["ask"]
    ]


def last_round(wildcards):
    """File of the round that ended the search."""
    number = 0
    while not read_json(file := file_of_round(number))["ended"]:
        number += 1
    return file


def cells_of_search():
    """Cells in which the front that the search found is trained, none without a search."""
    if "search" not in study:
        return []
    file = checkpoints.search_end.get(study=study["study"]).output[0]
    return pool.found_cells(study, read_json(file))


def found_by_search():
    """What the search found, if there is one."""
    return [paths.FOUND.format(study=study["study"])] if "search" in study else []


def found_of_figure(wildcards):
    """The same, for a figure of the search."""
    view = VIEWS.get(figure_of(wildcards)["kind"])
    return found_by_search() if view and view.reads == "search" else []


def figures_of_page():
    """Figures that the page shows beside its own: of a search, and of what its teacher needs."""
    drawn = [name for name, one in FIGURES.items() if one["kind"] == "search"]
    if not drawn:
        return []
    teacher, task = study["search"]["teacher"], study["search"]["task"]
    scope = grid.teacher_scope(study, task)
    of_teacher = paths.SENSITIVITY.format(teacher=teacher, scope=scope)
    return [f"{paths.FIGURE.format(figure=drawn[0])}.svg", f"{of_teacher}.svg"]


def drawn_search(wildcards):
    """What a study with a search leaves for readers."""
    if "search" not in study:
        raise WorkflowError("this study has no `search`: see config/README.md")
    own = [*found_by_search(), paths.PAGE, *figure_files()]
    return [*own, *results_beside_search()]
