"""Every key that a recipe can hold, read from the configuration classes: as data, as text, as Markdown.

`python -m moerec.reference` writes the page docs/reference/recipe.md to standard output; `--check FILE` compares.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from moerec.config import Config, Discovered, implementations, kind_of
from moerec.errors import ConfigError
from moerec.models.baselines.base import Choice, Range, SearchableConfig
from moerec.recipe import Recipe

RECIPE = "recipe"
"""Name of the section that holds the top keys."""
_TUNED = {"baselines": "baseline", "ranking_baselines": "ranking_baseline"}
"""Sections that name kinds of a role, and the role. No recipe holds the keys of these kinds: tuning sets them."""
_WORDS: Mapping[Any, tuple[str, str]] = {
    int: ("whole number", "whole numbers"),
    float: ("number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("text", "texts"),
    Path: ("path", "paths"),
    date: ("date", "dates"),
}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True)
class Key:
    """One key of a section."""

    name: str
    """As it is written in the section."""
    path: str
    """As `--set` takes it, for instance `training.retriever[*].epochs`; empty if no recipe holds it."""
    type: str
    """In plain words, with the bounds."""
    default: str | None
    """As YAML; None if the key is required."""
    meaning: str
    """What it does."""


@dataclass(frozen=True)
class Section:
    """Keys that stand together."""

    name: str
    """What `moerec keys` takes, for instance `retriever.sasrec`."""
    path: str
    """Where a recipe holds it, for instance `retriever`; empty for the recipe itself, and if no recipe holds it."""
    about: str
    """What it is."""
    keys: tuple[Key, ...] = ()
    """Its keys; none where only kinds of it have keys."""


def sections(*, own: bool = False) -> tuple[Section, ...]:
    """All sections, each before those inside it, in the order of the recipe's keys.

    Args:
        own: only what this package brings, without the implementations of other installed packages.
    """
    # What several models hold alike, such as gates, is told of once.
    return tuple({section.name: section for section in reversed([*_walk(Recipe, RECIPE, "", own)])}.values())[::-1]


def look_up(path: str, known: Sequence[Section] | None = None) -> tuple[Section, ...]:
    """The sections that a path names: a section, a place in a recipe, or one key (its section with this key alone).

    Args:
        path: `training.retriever`, `retriever.sasrec`, `retriever.item_tower`, `evaluation.cutoffs`, or the bare
            name of a key, wherever it stands; places in lists (`[0]`, `[*]`) are ignored.
        known: where to look, by default all `sections()`.

    Raises:
        ConfigError: there is no such path; the message has near matches.
    """
    known = sections() if known is None else known
    wanted = _plain(re.sub(r"\[[^\]]*\]", "", path.strip()))
    # From the strictest reading to the loosest; the first that finds something counts.
    for found in (
        [section for section in known if section.name == wanted],
        [section for section in known if section.path and _plain(section.path) == wanted],
        _with_keys(known, lambda section, key: wanted in (_plain(key.path), f"{section.name}.{key.name}")),
        [section for section in known if section.name.split(".")[-1] == wanted],
        _with_keys(known, lambda _, key: key.name == wanted),
    ):
        if found:
            return tuple(found)
    raise ConfigError(f"no key or section '{path}'; {_hint(wanted, known)}")


def inside(section: Section, known: Sequence[Section]) -> list[str]:
    """Names of the sections directly inside a section."""
    above = "" if section.name == RECIPE else section.name
    return [other.name for other in known if other.name != RECIPE and _above(other.name, known) == above]


def as_text(section: Section, width: int = 100) -> str:
    """A section for the terminal, in lines of at most `width` characters where words allow it."""
    place = f"  (in a recipe: {section.path})" if section.path not in ("", section.name) else ""
    lines = [f"{section.name}{place}", *textwrap.wrap(section.about, width), ""]
    column = max((len(key.name) for key in section.keys), default=0) + 4
    for key in section.keys:
        default = "required" if key.default is None else f"default {key.default}"
        told = textwrap.wrap(f"{key.type}; {default}", width - column) + textwrap.wrap(key.meaning, width - column)
        lines.append(f"  {key.name:<{column - 2}}{told[0]}")
        lines += [" " * column + line for line in told[1:]]
    return "\n".join(lines).rstrip()


def told(path: str, width: int = 100) -> str:
    """What `look_up` finds, for the terminal, each section with the names of those inside it."""
    known, texts = sections(), []
    for section in look_up(path, known):
        texts.append(as_text(section, width))
        names = inside(section, known) if section in known else []
        if names:
            texts[-1] += "\n\n" + "\n".join(textwrap.wrap(f"Inside: {', '.join(names)}", width))
    return "\n\n".join(texts)


def as_markdown() -> str:
    """The reference as one page."""
    known = sections(own=True)
    lines = [
        "# Keys of a recipe",
        "",
        "<!-- Generated by `python -m moerec.reference`; do not edit. -->",
        "",
        "Every key, its type, its default and its meaning. In the terminal, `moerec keys` shows the same, and "
        "`moerec keys PATH` one part of it. Keys without a default are required.",
    ]
    for section in known:
        lines += ["", f"{'##' if '.' not in section.name else '###'} `{section.name}`", "", section.about]
        if section.path not in ("", section.name):
            lines += ["", f"In a recipe: `{section.path}`."]
        if section.name != RECIPE and (names := inside(section, known)):
            lines += ["", "Inside: " + ", ".join(f"[`{name}`](#{_anchor(name)})" for name in names) + "."]
        if section.keys:
            lines += ["", "| key | type | default | meaning |", "|---|---|---|---|"]
        for key in section.keys:
            default = "required" if key.default is None else f"`{_cell(key.default)}`"
            lines.append(f"| `{key.name}` | {_cell(key.type)} | {default} | {_cell(key.meaning)} |")
    return "\n".join(lines) + "\n"


def _walk(config: type[Config], name: str, path: str, own: bool, first: tuple[Key, ...] = ()) -> Iterator[Section]:
    """A section and those inside it."""
    top = name == RECIPE
    searched = config.search_space() if issubclass(config, SearchableConfig) else {}
    keys, inner = list(first), []
    for field_name, field in config.model_fields.items():
        mark = Discovered.of(field)
        written = mark.beside if mark and mark.beside else field_name
        place = f"{path}.{written}" if path else written if top else ""
        key = _key(written, field, place, searched.get(field_name), own)
        keys.insert(0 if _single_word(field) else len(keys), key)
        inner.append(_inside_field(field, field_name if top else f"{name}.{field_name}", place, own))
    yield Section(name, path, _one_line(config.__doc__), tuple(keys))
    for found in inner:
        yield from found
    for kind, found_config in _implementations(_TUNED[path], own) if path in _TUNED else ():
        yield from _walk(found_config, f"{name}.{kind}", "", own)


def _inside_field(field: FieldInfo, name: str, path: str, own: bool) -> Iterator[Section]:
    """The sections that a field brings: one, one for each kind, or none."""
    about = _one_line(field.description)
    mark = Discovered.of(field)
    if mark is not None and mark.beside:
        # The keys of the implementation stand beside the one that names it.
        name, path = name.rpartition(".")[0], path.rpartition(".")[0]
    elif mark is not None:
        name = _plain(mark.where)
        yield Section(name, path, about)
        path += ".<name>" if get_origin(field.annotation) is dict else ""
    if mark is not None:
        for kind, config in _implementations(mark.role, own):
            default = kind if kind == mark.default else None
            selector = Key(mark.selector, f"{path}.{mark.selector}", f"the word {kind}", default, "Selects these keys.")
            yield from _walk(config, f"{name}.{kind}", path, own, (selector,))
        return
    nested = _configs(field.annotation)
    if len(nested) > 1:
        yield Section(name, path, about)
        for config in nested:
            yield from _walk(config, f"{name}.{config.model_fields['kind'].default}", f"{path}.<name>", own)
    elif nested:
        listed = "[*]" if get_origin(field.annotation) is tuple else ""
        yield from _walk(nested[0], name, path + listed, own)


def _implementations(role: str, own: bool) -> Iterator[tuple[str, type[Config]]]:
    for kind, value in implementations(role).items():
        module, _, name = value.partition(":")
        if not own or module.split(".")[0] == "moerec":
            yield kind, getattr(import_module(module), name)


def _configs(annotation: Any) -> list[type[Config]]:
    """The configuration classes in an annotation, in order."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [annotation] if issubclass(annotation, Config) and annotation is not Config else []
    return [config for argument in get_args(annotation) for config in _configs(argument)]


def _single_word(field: FieldInfo) -> bool:
    """Whether only one word can stand there, which tells kinds apart and so must be written."""
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1


def _key(name: str, field: FieldInfo, path: str, searched: Range | Choice | None, own: bool) -> Key:
    mark = Discovered.of(field)
    if mark is None or get_origin(field.annotation) is dict:
        words = _type_words(field.annotation)
    else:
        null = " or null" if NoneType in get_args(field.annotation) else ""
        words = f"one of {', '.join(kind for kind, _ in _implementations(mark.role, own))}{null}"
    meaning = _one_line(field.description)
    if searched is not None:
        meaning += f" Tuning tries {_search_words(searched)}."
    required = field.is_required() or _single_word(field)
    default = None if required else _yaml(_named(field.get_default(call_default_factory=True), mark))
    return Key(name, path, ", ".join([words, *_bound_words(field.metadata)]), default, meaning)


def _named(value: Any, mark: Discovered | None) -> Any:
    """A default with its kind, where the kind is one of several."""
    if mark is None or mark.beside or not isinstance(value, Config):
        return value
    return {"kind": kind_of(mark.role, value)} | _written(value)


def _type_words(annotation: Any, *, several: bool = False) -> str:
    """An annotation in plain words, in the plural if there may be several."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return " ".join([_type_words(arguments[0], several=several), *_bound_words(arguments[1:])])
    if origin in (Union, UnionType):
        kinds = [_type_words(argument, several=several) for argument in arguments if argument is not NoneType]
        return " or ".join([*dict.fromkeys(kinds), *(["null"] if NoneType in arguments else [])])
    if origin is Literal:
        return f"the word {arguments[0]}" if len(arguments) == 1 else f"one of {', '.join(map(str, arguments))}"
    if origin in (tuple, list):
        count = f"{len(arguments)} " if origin is tuple and arguments[-1] is not Ellipsis else ""
        return f"{'lists' if several else 'list'} of {count}{_type_words(arguments[0], several=True)}"
    if origin is dict:
        return f"{_type_words(arguments[1], several=True)} by name"
    if _configs(annotation):
        return "sections" if several else "section"
    return _WORDS[annotation][several] if annotation in _WORDS else str(annotation)


def _bound_words(metadata: Sequence[Any]) -> Iterator[str]:
    for entry in metadata:
        for attribute, words in _BOUNDS.items():
            if (value := getattr(entry, attribute, None)) is not None:
                yield f"{words} {value:,}"
        if (pattern := getattr(entry, "pattern", None)) is not None:
            yield f"of the form `{pattern}`"


def _search_words(values: Range | Choice) -> str:
    if isinstance(values, Choice):
        counts = Counter(_yaml(value) for value in values.values)
        even = len(set(counts.values())) == 1
        return ", ".join(word if even else f"{word} ({count} of {counts.total()})" for word, count in counts.items())
    return f"{values.low:,g} to {values.high:,g}" + (", evenly in the logarithm" if values.log else "")


def _yaml(value: Any) -> str:
    """A default as it would be written in a recipe."""
    text = yaml.safe_dump(_written(value), default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False)
    return text.strip().removesuffix("...").strip()


def _written(value: Any) -> Any:
    """A default as plain data, without what is itself a default."""
    if isinstance(value, Config):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, tuple):
        return [_written(entry) for entry in value]
    return str(value) if isinstance(value, Path | date) else value


def _with_keys(known: Sequence[Section], wanted: Callable[[Section, Key], bool]) -> list[Section]:
    """The sections that have keys that are wanted, with these keys alone."""
    chosen = [replace(section, keys=tuple(key for key in section.keys if wanted(section, key))) for section in known]
    return [section for section in chosen if section.keys]


def _hint(wanted: str, known: Sequence[Section]) -> str:
    names = [section.name for section in known]
    names += [f"{section.name}.{key.name}" for section in known for key in section.keys]
    names += [_plain(key.path) for section in known for key in section.keys if key.path]
    names += [key.name for section in known for key in section.keys]
    near = difflib.get_close_matches(wanted, list(dict.fromkeys(names)), n=3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"sections: {', '.join(section.name for section in known)}"


def _above(name: str, known: Sequence[Section]) -> str:
    """The nearest section that a section is inside of, or nothing."""
    names = {section.name for section in known}
    while (name := name.rpartition(".")[0]) and name not in names:
        pass
    return name


def _plain(path: str) -> str:
    return path.replace("[*]", "").replace(".<name>", "")


def _anchor(name: str) -> str:
    """What both MkDocs and GitHub make of a heading."""
    return name.replace(".", "").lower()


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table; outside of code, `<` would begin a tag."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or compare a file with it; 1 if it is out of date."""
    parser = argparse.ArgumentParser(prog="python -m moerec.reference", description="The reference of recipe keys.")
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare FILE with the page instead of writing it")
    check: Path | None = parser.parse_args(arguments).check
    if check is None:
        sys.stdout.write(as_markdown())
        return 0
    if check.is_file() and check.read_text(encoding="utf-8") == as_markdown():
        return 0
    sys.stderr.write(f"{check} is out of date; write it again: python -m moerec.reference > {check}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
