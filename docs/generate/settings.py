"""The settings of trainings and methods, as the page docs/settings.md.

Names, defaults, types, limits and units are those of the classes. What no class knows, the meaning
of a setting and the value that its authors published, stands in settings.yaml beside this file.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import yaml

from speech_pareto.compression import catalogue
from speech_pareto.runtime import bounds
from speech_pareto.training.settings import (
    Crops,
    FineTuning,
    Optimisation,
    Regularisation,
    TinyModel,
    Training,
)

NOTES = Path(__file__).with_suffix(".yaml")
PAGE = """\
# Settings

Made by `make pages` from the classes that use the settings; a test fails when it is out of date. A
value that does not fit is refused before any job starts, with the words of the column *must be*.
YAML takes `8e-4` for text: write `8.0e-4`. `null` is empty.

## Training

Under `teacher:` and `student:` of a task and in each of the `iterations:` of a pretraining. Methods
that train have them, too, all but the last three.

{training}

## Fine-tuning

Under `teacher:` and `student:` of a task, beside those of [training](#training), and in the methods
that fine-tune on a task.

{finetuning}

## Training without labels

In the methods that train on recordings alone, beside those of [training](#training).

{crops}

## The model that a pretraining makes

Under `model:` of a teacher's `pretrain:`. `null` leaves a key as in `architecture.tiny`, or else
in transformers.

{model}

## Methods

What a method does is in [methods.md](methods.md). Defaults are for the tiny teacher and minutes of
training. *published* is what the authors trained with; it is empty where nothing was published or
nothing could be read. Of the settings of [training](#training), [fine-tuning](#fine-tuning) and
[training without labels](#training-without-labels) a method has more than its table lists: it lists
those whose default is another one, and those that its authors published.

Every method that removes parameters takes one setting more, `ratio`: the share that it removes of
what reaches it ({ratio}). Without one it removes what is left to do.

{methods}

No other settings: {none}.
"""


def page() -> str:
    """Return the text of docs/settings.md; ValueError if settings.yaml names what there is not."""
    notes = yaml.safe_load(NOTES.read_text(encoding="utf-8"))
    kinds = {name: catalogue.load(name) for name in catalogue.names()}
    every = {name: [x for x in fields(kind) if x.name != "ratio"] for name, kind in kinds.items()}
    _in_step(notes["methods"], {name: listed for name, listed in every.items() if listed})
    own = {name: _own(kinds[name], notes["methods"].get(name, {})) for name in kinds}
    common = notes["training"] | notes["common"]
    trained = {field.name for field in fields(Training)}
    added = [field for field in fields(FineTuning) if field.name not in trained]
    return PAGE.format(
        training=_table(Training, list(fields(Training)), notes["training"]),
        finetuning=_table(FineTuning, added, notes["training"]),
        crops=_table(Crops, list(fields(Crops)), notes["training"]),
        model=_table(TinyModel, list(fields(TinyModel)), notes["model"]),
        ratio=bounds.wanted(bounds.types_of(kinds["head_pruning"])["ratio"]),
        methods="\n\n".join(
            f"### `{name}`\n\n{_table(kinds[name], own[name], noted, common)}"
            for name, noted in notes["methods"].items()
        ),
        none=", ".join(f"`{name}`" for name, listed in own.items() if not listed),
    )


def _own(kind: type, noted: Mapping) -> list[Field]:
    """Return the settings that a method's table lists, in their order."""
    shared = {}
    if issubclass(kind, Optimisation):
        sources = [Optimisation, Crops, Regularisation]
        shared = {x.name: x for one in sources if issubclass(kind, one) for x in fields(one)}

    def listed(field: Field) -> bool:
        same = field.name in shared and field.default == shared[field.name].default
        return field.name in ("steps", "learning_rate") or field.name in noted or not same

    return [field for field in fields(kind) if field.name != "ratio" and listed(field)]


def _in_step(noted: Mapping[str, Mapping], own: Mapping[str, list[Field]]) -> None:
    """Raise a ValueError unless the notes name the methods and settings that there are."""
    wrong = {f"no method {name}" for name in noted.keys() - own.keys()}
    wrong |= {f"{name} is not there" for name in own.keys() - noted.keys()}
    for name in noted.keys() & own.keys():
        unknown = noted[name].keys() - {field.name for field in own[name]}
        wrong |= {f"{name} has no setting {key}" for key in unknown}
    if wrong:
        raise ValueError(f"{NOTES}: {'; '.join(sorted(wrong))}")


def _table(
    kind: type, listed: list[Field], notes: Mapping[str, Any], common: Mapping | None = None
) -> str:
    """Return a Markdown table, a row per setting; of a method if there are `common` meanings."""
    hints, papers = bounds.types_of(kind), common is not None
    header = ["setting", "default", "must be", *(["published"] if papers else []), "meaning"]
    lines = [header, ["---"] * len(header)]
    for field in listed:
        note = notes.get(field.name, {})
        note = note if isinstance(note, dict) else {"meaning": note}
        meaning = note.get("meaning") or (common or {})[field.name]
        row = [f"`{field.name}`", _default(field), _escaped(bounds.wanted(hints[field.name]))]
        row += [str(note.get("published", ""))] if papers else []
        lines.append([*row, meaning])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _default(field: Field) -> str:
    """Return a default as YAML writes it."""
    if field.default is MISSING:
        return "required"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return f"`{text.removesuffix(chr(10)).removesuffix('...').strip()}`"


def _escaped(text: str) -> str:
    """Return text for a cell of a table."""
    return text.replace("|", "\\|").replace("_", "\\_")
