"""What a reader opens of a study: fronts, leaderboard and page, all from the same tables."""

import pandas as pd

from speech_pareto.reporting import leaderboard
from speech_pareto.reporting.page import page
from speech_pareto.reporting.tables import points


def written(
    cells: pd.DataFrame,
    comparisons: pd.DataFrame | None,
    fronts: pd.DataFrame | None,
    pairs: pd.DataFrame | None,
    base: str = "",
) -> dict[str, str]:
    """Return file name -> content, of the table of cells and what `compare` made of it.

    `base` leads from the page's folder to that of the results.
    """
    study = points.study(cells, comparisons, fronts, pairs)
    return {
        "front.txt": leaderboard.front_text(cells, comparisons),
        "leaderboard.md": leaderboard.markdown(cells, comparisons),
        "leaderboard.csv": leaderboard.as_csv(cells, comparisons),
        "leaderboard.html": leaderboard.as_html(cells, comparisons),
        "report.html": page.write(study, cells, base),
    }
