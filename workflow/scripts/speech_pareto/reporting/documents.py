"""What a reader opens of a study: fronts, leaderboard and page, all from the same tables."""

from collections.abc import Mapping, Sequence

import pandas as pd

from speech_pareto.reporting import leaderboard
from speech_pareto.reporting.page import page
from speech_pareto.reporting.tables import degradation, exported_files, points


def written(
    cells: pd.DataFrame,
    comparisons: pd.DataFrame | None,
    fronts: pd.DataFrame | None,
    pairs: pd.DataFrame | None,
    examples: list[dict] | None,
    base: str = "",
    runtimes: pd.DataFrame | None = None,
    conditions: Sequence[pd.DataFrame] = (),
    figures: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return file name -> content, of the table of cells and what `compare` made of it.

    `base` leads from the page's folder to that of the results; `runtimes` is the table of exported
    files, if there is one, `conditions` what conditions cost, and the tables of `points.inside`;
    `figures` are SVGs that the page shows, by what they are.
    """
    cells = exported_files.with_memory(cells, runtimes)
    study = points.study(cells, comparisons, fronts, pairs)
    study |= {"examples": by_key(examples or [])}
    study |= {"runtimes": {} if runtimes is None else exported_files.shown(runtimes)}
    study |= {"conditions": degradation.shown(conditions[0]) if conditions else {}}
    study |= {"heard": page.heard(*conditions[1:]) if conditions else {}}
    return {
        "front.txt": leaderboard.front_text(cells, comparisons),
        "leaderboard.md": leaderboard.markdown(cells, comparisons),
        "leaderboard.csv": leaderboard.as_csv(cells, comparisons),
        "leaderboard.html": leaderboard.as_html(cells, comparisons),
        "report.html": page.write(study, cells, base, figures or {}),
    }


def by_key(examples: list[dict]) -> dict[str, dict[str, dict]]:
    """Return task -> key of a point -> its examples (see `examples.build`)."""
    found: dict[str, dict[str, dict]] = {}
    for one in examples:
        key = points.key(one["teacher"], one["recipe"], one["ratio"])
        found.setdefault(one["task"], {})[key] = {
            name: one[name] for name in ("seed", "utterances")
        }
    return found
