"""What is wrong with a YAML file as such, before anything reads it as a study."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from speech_pareto.study.messages import join

# Limits of a study's YAML, far above any real one.
DEEPEST, MOST_VALUES, LONGEST_NUMBER = 40, 100_000, 300


def syntax_problems(file: str | Path) -> list[str]:
    """Return what is wrong with a YAML file as such, before anything reads it as a study.

    That is its syntax, structures that loop or explode, keys that it holds twice, and a top level
    that is no mapping.
    """
    try:
        text = Path(file).read_text(encoding="utf-8")
        if problem := _structure_problem(text):
            return [f"{file}: {problem}."]
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark, why = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return [f"{file}{at}: this is not YAML, {why}."]
    except (OSError, UnicodeDecodeError) as error:
        return [f"{file} cannot be read, {error}."]
    if tree is None:
        return [f"{file} is empty; a study needs corpora, teachers, recipes, tasks and grid."]
    if not isinstance(tree, yaml.MappingNode):
        return [f"{file} must hold a mapping of keys such as 'corpora', not {_node(tree)}."]
    return list(_repeated_keys(tree, str(file)))


def _structure_problem(text: str) -> str | None:
    """Return why a YAML text would take for ever, or more room than there is, to build.

    Events are looked at one by one, so nothing is built here.
    """
    sizes: dict[str | None, int] = {}  # anchor -> values below it
    open_parts: list[list] = []  # [anchor, values so far]
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.CollectionStartEvent):
            open_parts.append([event.anchor, 1])
            if len(open_parts) > DEEPEST:
                return f"line {line} is nested more than {DEEPEST} levels deep"
            continue
        size, anchor = 1, None
        if isinstance(event, yaml.AliasEvent):
            if any(part[0] == event.anchor for part in open_parts):
                return f"line {line}: '{event.anchor}' contains itself"
            size = sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_parts.pop()
        elif isinstance(event, yaml.ScalarEvent):
            anchor = event.anchor
            digits = re.fullmatch(r"[-+]?\d\w*", event.value)  # in any base
            if event.implicit[0] and len(event.value) > LONGEST_NUMBER and digits:
                return f"line {line} has a number of {len(event.value)} digits"
        else:
            continue
        sizes[anchor] = size
        if open_parts:
            open_parts[-1][1] += size
        if size > MOST_VALUES:
            return f"line {line} stands, through its aliases, for over {MOST_VALUES:,} values"
    return None


def _node(node: yaml.Node) -> str:
    """Return what a node of YAML is, in words."""
    return "a list" if isinstance(node, yaml.SequenceNode) else f"'{node.value}'"


def _repeated_keys(node: yaml.Node, file: str, path: str = "") -> Iterator[str]:
    """Yield a sentence for each key that a mapping holds twice (YAML would keep the last only)."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _repeated_keys(item, file, f"{path}[{index}]")
    elif isinstance(node, yaml.MappingNode):
        lines = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                yield f"{file}, line {line}: a key must be text, not a list or a mapping."
                continue
            name = join(path, key.value)
            if key.value in lines:
                yield f"{name} is written twice in {file}, in lines {lines[key.value]} and {line}."
            lines[key.value] = line
            yield from _repeated_keys(value, file, name)
