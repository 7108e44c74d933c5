"""Recipes as they are written: strict YAML, and single keys that the command line changes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

from moerec.errors import ConfigError


def read_yaml(text: str, where: str) -> Any:
    """Plain data from YAML, no two parts of it the same object.

    Raises:
        ConfigError: not valid YAML, with the line.
    """
    try:
        return _unshared(yaml.load(text, Loader=_StrictLoader))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{where}, line {line}: the character {chr(error.character)!r} cannot be in YAML") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}" if mark and "\n" in text.rstrip() else ""
        raise ConfigError(f"{where}{place}: not valid YAML: {error.problem or error.context}") from None
    except ValueError as error:
        raise ConfigError(f"{where}: a value is not what it looks like ({error}); put text in quotes") from None
    except RecursionError:
        raise ConfigError(f"{where}: a part of it contains itself, or is nested too deeply; write it out") from None


def apply_override(values: dict[str, Any], override: str) -> None:
    """Change one key in place: `a.b=c`, `stages[0].epochs=3`, `stages[*].epochs=3`; the value is read as YAML.

    Raises:
        ConfigError: it is not of this form, or leads through something that has no such key or place.
    """
    path, separator, text = override.partition("=")
    path = path.strip()
    if not separator or not _PATH.fullmatch(path):
        raise ConfigError(f"--set {override}: write it as key.path=value, for instance training.retriever[0].epochs=3")
    value = read_yaml(text, f"--set {override}")
    parts = [part for part in re.split(r"\.|(\[[^\]]*\])", path) if part]
    targets: list[Any] = [values]
    for number, part in enumerate(parts[:-1], start=1):
        wants_list = parts[number].startswith("[")
        targets = [child for target in targets for child in _children(target, part, override, wants_list)]
    for target in targets:
        for place in _places(target, parts[-1], override):
            target[place] = _unshared(value)


# Keys, each with any number of places in a list: a.b, a[0].b, a[*].
_PATH = re.compile(r"[^\s.\[\]]+(\.[^\s.\[\]]+|\[(\d+|\*)\])*")


def _children(target: Any, part: str, override: str, wants_list: bool) -> Iterable[Any]:
    for place in _places(target, part, override):
        if isinstance(target, dict) and target.get(place) is None and not wants_list:
            target[place] = {}
        yield target.get(place) if isinstance(target, dict) else target[place]


def _places(target: Any, part: str, override: str) -> list[Any]:
    """The keys or list places of a container that one part of a path means."""
    if not part.startswith("["):
        if isinstance(target, dict):
            return [part]
        instead = f"[0].{part} or [*].{part}" if isinstance(target, list) else "another path"
        what = "a list" if isinstance(target, list) else f"{target!r}, which has no keys"
        raise ConfigError(f"--set {override}: before '{part}' stands {what}; write {instead}")
    if not isinstance(target, list):
        raise ConfigError(f"--set {override}: {part} needs a list in the recipe; write the whole list: key=[...]")
    index = part[1:-1]
    if not target or (index != "*" and int(index) >= len(target)):
        raise ConfigError(f"--set {override}: {part} is not a place in a list of {len(target)}; places count from 0")
    return list(range(len(target))) if index == "*" else [int(index)]


def _unshared(value: Any) -> Any:
    """A copy in which an anchor's aliases are objects of their own, so that changing one leaves the others."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice instead of forgetting the first."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here, not where objects are made: a merge (`<<: *other`) rightly writes keys again.
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a plain word", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key '{key.value}' is there twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return node
