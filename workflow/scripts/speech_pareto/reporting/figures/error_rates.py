"""The errors that compression adds most: how often students of the front and their teacher make
them."""

from matplotlib.figure import Figure

from speech_pareto.reporting.figures import canvas
from speech_pareto.reporting.figures.styles import MUTED, styles
from speech_pareto.reporting.tables.added_errors import Error, Model, build
from speech_pareto.reporting.tables.answers import Answered
from speech_pareto.reporting.tables.roles import TEACHER
from speech_pareto.reporting.tables.wording import less
from speech_pareto.runtime.formatting import one_decimal

TITLE = "The errors that compression adds most"
ROW, GAP = 0.24, 0.3  # inches: of an error, and between the two sorts


@canvas.styled
def draw(answered: Answered, task: str, recipes) -> Figure:
    """Return the figure of a task, from its results and utterances."""
    sorts, models = build(answered, task)
    if not sorts:
        why = "no student on the front" if len(models) < 2 else "students add no error"
        return canvas.nothing(TITLE, f"{task}: {why}")
    longest = max(len(_name(error)) for errors in sorts for error in errors)
    left, right = 0.5 + 0.075 * longest, 0.5 + 0.068 * max(map(len, map(_model, models)))
    rows = sum(map(len, sorts))
    height = 0.85 + 0.75 + ROW * rows + GAP * (len(sorts) - 1)
    figure = Figure(figsize=(left + 3.1 + right, height))
    over = 0.75
    for errors in sorts:
        under = height - over - ROW * len(errors)
        axes = canvas.axes_within(figure, left, right, under, over)
        _rows(axes, errors, models, styles(recipes))
        over += ROW * len(errors) + GAP
    axes.set_xlabel("errors per 1,000 symbols of the references")
    legend = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.02), "fontsize": 7.5}
    figure.axes[0].legend(frameon=False, **legend)
    subtitle = f"{task}: students on the front over parameters beside their teacher"
    canvas.words(figure, TITLE, subtitle, ["a → b: b was written for a; the test split"])
    return figure


def _rows(axes, errors: list[Error], models: list[Model], style: dict) -> None:
    """Draw a row for each error, with a mark for each model."""
    places = range(len(errors))
    values = [[model.rates.get(error, 0.0) for error in errors] for model in models]
    for place in places:
        ends = [one[place] for one in values]
        axes.plot([min(ends), max(ends)], [place] * 2, color=MUTED, linewidth=0.8, zorder=1)
    for order, (model, own) in enumerate(zip(models, values, strict=True)):
        colour, marker = style[model.key[1]]
        size = 8 if model.kind == TEACHER else 4 + order  # the more compressed the larger
        over = 9 if model.kind == TEACHER else 3 + order
        look = {"label": _model(model), "clip_on": False}
        canvas.mark(axes, own, places, marker, size, colour, ("white", 0.6), over, **look)
    axes.set_yticks(places, [_name(error) for error in errors])
    axes.set_ylim(len(errors) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.grid(axis="x", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)


def _model(model: Model) -> str:
    """Return the name and the score of a model."""
    teacher, recipe, ratio = model.key
    student = f"{recipe} {less(ratio, model.target)}"
    name = f"teacher ({teacher})" if model.kind == TEACHER else student
    return f"{name}: {one_decimal(model.score)} %"


def _name(error: Error) -> str:
    """Return an error in words; a space is shown as such."""
    missed, given = (side.replace(" ", "space") for side in error)
    if not given:
        return f"{missed} left out"
    return f"{missed} → {given}" if missed else f"{given} put in"
