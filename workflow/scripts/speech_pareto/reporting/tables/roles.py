"""What a row is in a study for, told from its columns `role` and `pretrained`, never from names."""

import pandas as pd

TEACHER, CONTROL, STUDENT = "teacher", "control", "student"


def kind(role: str, pretrained: bool) -> str:
    """Return `teacher`, `control` or `student`: what a row is to a reader.

    What comes from a teacher that was never pretrained is a control, that teacher included.
    """
    return role if pretrained else CONTROL


def with_kinds(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with a further column, their `kind`."""
    pairs = zip(rows["role"], rows["pretrained"], strict=True)
    return rows.assign(kind=pd.Series([kind(*pair) for pair in pairs], rows.index, dtype="str"))


def roles_of(rows: pd.DataFrame) -> dict[str, str]:
    """Return recipe -> role of some rows, where it is known."""
    known = rows.dropna(subset=["role"]).drop_duplicates("recipe")
    return dict(zip(known["recipe"], known["role"], strict=True))


def filled(cells: pd.DataFrame) -> pd.DataFrame:
    """Return cells whose `role` and `pretrained` are taken from others where a file is damaged.

    A recipe has one role and a teacher is pretrained or not, whatever the cell. Where no cell
    tells, a row counts as a student of a pretrained teacher.
    """
    role = cells["role"].astype("string")
    role = role.fillna(cells["recipe"].map(roles_of(cells)).astype("string"))
    known = cells.dropna(subset=["pretrained"]).drop_duplicates("teacher")
    known = dict(zip(known["teacher"], known["pretrained"], strict=True))
    pretrained = cells["pretrained"].astype("boolean")
    pretrained = pretrained.fillna(cells["teacher"].map(known).astype("boolean"))
    return cells.assign(role=role.fillna(STUDENT), pretrained=pretrained.fillna(True))
