"""How figures look: a colour and a marker for each recipe, and the settings of matplotlib."""

import hashlib
from collections.abc import Mapping

from speech_pareto.reporting.tables.roles import CONTROL, STUDENT, TEACHER

INK, MUTED, GREY = "#1a1a1a", "#6b6b6b", "#9a9a9a"
GRID, SHADE = "#e6e6e6", "#f6f6f4"

# Okabe and Ito's colours, which the colour-blind tell apart, without the yellow that paper
# swallows, then Tol's; each method also has its own marker.  A method keeps its style everywhere.
STYLES = {
    "weight-pruning": ("#cc79a7", "s"),
    "head-pruning": ("#e69f00", "^"),
    "ffn-pruning": ("#009e73", "D"),
    "low-rank": ("#0072b2", "o"),
    "distillation": ("#d55e00", "p"),
    "armhubert": ("#332288", ">"),
    "distilhubert": ("#882255", "<"),
    "dphubert": ("#117733", "P"),
    "fithubert": ("#999933", "h"),
    "lighthubert": ("#44aa99", "H"),
    "maskhubert": ("#56b4e9", "d"),
    "starhubert": ("#cc6677", "8"),
}
OF_TEACHERS = (INK, "*")
OF_CONTROLS = {"random-pruning": (GREY, "X"), "layer-drop": (GREY, "v")}
# For any other method.
COLOURS = ("#332288", "#882255", "#56b4e9", "#999933", "#117733", "#cc6677", "#44aa99")
MARKERS = ("P", "<", "h", ">", "d", "8", "H")

RC = {
    "svg.hashsalt": "speech-pareto",  # else the ids in an SVG are random
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": GRID,
}


def styles(recipes: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return (colour, marker) by recipe: fixed for the known, free and stable for the others.

    `recipes` maps each recipe of a study to its role: teachers are black stars, controls grey.
    Give all of a study, so that a recipe looks the same in all its figures.
    """
    fixed = {STUDENT: STYLES, CONTROL: OF_CONTROLS}
    found = {recipe: OF_TEACHERS for recipe, role in recipes.items() if role == TEACHER}
    for role, known in fixed.items():
        found |= {name: known[name] for name in known if recipes.get(name) == role}
    for recipe in sorted(set(recipes) - set(found)):
        start = int(hashlib.sha256(recipe.encode()).hexdigest(), 16)
        colours = (GREY,) if recipes[recipe] == CONTROL else COLOURS
        turns = [[x[(start + k) % len(x)] for k in range(len(x))] for x in (colours, MARKERS)]
        pairs = [(colour, marker) for colour in turns[0] for marker in turns[1]]
        used = list(found.values())
        shown = [one[0] for one in used], [one[1] for one in used]

        def crowd(pair, used=used, shown=shown) -> tuple:
            return used.count(pair), shown[0].count(pair[0]), shown[1].count(pair[1])

        found[recipe] = min(pairs, key=crowd)  # the first that is least used
    return found
