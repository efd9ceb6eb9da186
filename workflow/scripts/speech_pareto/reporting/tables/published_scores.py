"""Figures that papers and the SUPERB leaderboard state, from resources/published.csv.

`provenance` says where a number was read: `table` of a paper, `leaderboard` of SUPERB, `readme` or
`abstract`; not the authors' own words are `digitised` (read off a figure), `counted` (from a
config) and `issue`. `recipe` is what the method is called here, empty where it has no name here.
"""

import pandas as pd

from speech_pareto.reporting.tables.roles import CONTROL, STUDENT, TEACHER

STATED = ("table", "leaderboard")
READ_OFF = ("digitised",)
ROLES = {"identity": TEACHER, "layer-drop": CONTROL}  # of the file's recipes; others: students
PER, SUPERB = "PER_%", "superb_s"


def read(file) -> pd.DataFrame:
    """Return all published figures."""
    return pd.read_csv(file, keep_default_na=False, na_values={"params_m": "", "macs_g": ""})


def systems(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a row per published system: parameters and MACs in 10^6 and 10^9, `value` of `metric`.

    `role` is what it is beside a study: a teacher, a control or a student.

    What is stated goes before what was read off a figure, where a system may have several sizes.
    MACs are those of the leaderboard's recordings, known of some systems only.
    """
    macs = rows.dropna(subset=["macs_g"]).groupby("model")["macs_g"].first()
    rows = rows[(rows["metric"] == metric) & (rows["recipe"] != "")]
    rows = rows[rows["provenance"].isin(STATED + READ_OFF)]
    rows = rows.dropna(subset=["params_m"]).assign(value=rows["value"].astype(float))
    stated = rows[rows["provenance"].isin(STATED)].drop_duplicates("model")
    read_off = rows[rows["provenance"].isin(READ_OFF) & ~rows["model"].isin(stated["model"])]
    found = pd.concat([stated, read_off], ignore_index=True)
    found["macs_g"] = found["macs_g"].fillna(found["model"].map(macs))
    return found.assign(role=found["recipe"].map(ROLES).fillna(STUDENT))
