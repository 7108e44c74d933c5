"""Frozen configurations: unknown keys are refused, and `kind:` selects an implementation by name."""

from __future__ import annotations

import difflib
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module, invalidate_caches
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from importlib.util import find_spec
from inspect import isabstract
from operator import attrgetter
from pathlib import Path
from types import ModuleType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, ErrorDetails, core_schema

from moerec.errors import ConfigError

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of every configuration: immutable, strict about keys, documented field by field."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    def __repr_args__(self) -> Any:
        """Show only what differs from the defaults, so that a printed recipe stays readable."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if field.is_required() or value != field.get_default(call_default_factory=True):
                yield name, value


def validate(config_type: type[C], values: Mapping[str, Any], where: str = "") -> C:
    """Make a configuration from plain values, or raise a `ConfigError` of one line.

    Args:
        config_type: the configuration class.
        values: plain data, as read from YAML.
        where: prefix of the key path in messages, for instance `recipe.yaml: retriever`.

    Raises:
        ConfigError: with the path of the first wrong key and what would be right.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or config_type.__name__}: expected keys and values, got {values!r}")
    try:
        return config_type.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(describe_validation_error(error, config_type, where)) from None


def describe_validation_error(error: ValidationError, config_type: type[Config], where: str = "") -> str:
    """Turn pydantic's report into one line: where, what, and the nearest right key."""
    errors = error.errors()
    # A misspelt key is often missing under its right name too; the misspelling is what helps.
    first = next((details for details in errors if details["type"] == "extra_forbidden"), errors[0])
    path, problem = _problem(first, config_type)
    location = ".".join(part for part in (where, path.lstrip(".")) if part) or config_type.__name__
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{location}: {problem}{more}"


# What pydantic says of Python's types, in the words of YAML.
_PLAIN = {
    "model_type": "expected keys and values",
    "dict_type": "expected keys and values",
    "tuple_type": "expected a list",
    "list_type": "expected a list",
}


def _problem(details: ErrorDetails, config_type: type[Config]) -> tuple[str, str]:
    """Where and what, of one of pydantic's errors."""
    kind, context, location = details["type"], details.get("ctx", {}), details["loc"]
    if kind == "extra_forbidden":
        path, members = _follow(config_type, location[:-1])
        known = [name for each in members for name in each.model_fields]
        return f"{path}.{location[-1]}", f"unknown key; {near_match(str(location[-1]), known, 'known keys')}"
    path, members = _follow(config_type, location)
    if kind == "missing":
        return path, "this key is required"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        path = f"{path}.{context['discriminator']}".replace("'", "")
        tags = [tag for each in members for tag in _tags(each)]
        if kind == "union_tag_not_found":
            return path, f"this key is required; known kinds: {', '.join(sorted(tags))}"
        return path, f"unknown kind '{context['tag']}'; {near_match(str(context['tag']), tags, 'known kinds')}"
    message = _PLAIN.get(kind, details["msg"].removeprefix("Value error, "))
    return path, message if kind == "value_error" else f"{message}, got {_shortened(details['input'])}"


def near_match(name: str, known: Iterable[str], listed: str = "known") -> str:
    """What may be meant: `did you mean 'x'?`, or the list of all that is known."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean '{near[0]}'?" if near else f"{listed}: {', '.join(names)}"


def _shortened(value: Any, longest: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _follow(config_type: type[Config], location: Sequence[int | str]) -> tuple[str, list[type[Config]]]:
    """The path as a recipe writes it, and the configurations that may stand at its end.

    Pydantic's own location also names the members of unions, which nobody writes.
    """
    path = ""
    current: list[Any] = [config_type]
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
            current = [kind for each in current for inner in get_args(each) for kind in _members(inner)]
            continue
        fields = [each.model_fields[part] for each in current if _is_config(each) and part in each.model_fields]
        mappings = [each for each in current if get_origin(each) in (dict, Mapping)]
        tagged = [each for each in current if _is_config(each) and part in _tags(each)]
        if fields:
            current = [kind for field in fields for kind in _members(field.annotation)]
        elif mappings:
            current = [kind for each in mappings for kind in _members(get_args(each)[1])]
        else:
            current = tagged or current
            continue
        path += f".{part}"
    return path.lstrip("."), [each for each in current if _is_config(each)]


def _members(annotation: Any) -> list[Any]:
    """The types that a value may have: unions and Annotated taken apart."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [kind for inner in get_args(annotation) for kind in _members(inner)]
    return [annotation]


def _is_config(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Config)


def _tags(kind: type[Config]) -> tuple[Any, ...]:
    field = kind.model_fields.get("kind")
    return () if field is None else get_args(field.annotation)


def implementations(role: str) -> dict[str, str]:
    """The implementations of a role that installed packages offer: {kind: "module:Class"}.

    A package adds one with the entry point group `moerec.<role>`, for instance
    `[project.entry-points."moerec.retriever"]  sasrec = "moerec.models.sasrec:SASRecConfig"`.
    """
    return {point.name: point.value for point in _registered(role)}


def _registered(role: str) -> tuple[EntryPoint, ...]:
    return _scanned(entry_points, f"moerec.{role}", tuple(sys.path))


@cache
def _scanned(scan: Callable[..., EntryPoints], group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """What the packages on a path offer; looking through all of them takes 10 ms, and a run asks often."""
    return tuple(scan(group=group))


def implementation(role: str, kind: Any, where: str, bases: tuple[type[Config], ...] = (Config,)) -> type[Config]:
    """The configuration class of that kind.

    Args:
        role: `retriever`, `source`, ...
        kind: its name, or `module:Class`; None where the recipe has none.
        where: path of the key that names it, for messages.
        bases: what a class of that role is derived from.

    Raises:
        ConfigError: no kind, an unknown one, or one that is of another role or not whole.
    """
    found = {point.name: point for point in _registered(role)}
    if kind is None:
        raise ConfigError(f"{where}: this key is required; known kinds: {', '.join(sorted(found))}")
    if isinstance(kind, str) and ":" in kind:
        config_type = _named(kind, where)
    elif isinstance(kind, str) and kind in found:
        config_type = found[kind].load()
    else:
        raise ConfigError(f"{where}: unknown {role} '{kind}'; {near_match(str(kind), found, 'known kinds')}")
    if not (isinstance(config_type, type) and issubclass(config_type, bases)):
        names = " or ".join(f"{base.__module__}.{base.__qualname__}" for base in bases)
        raise ConfigError(f"{where}: '{kind}' is no {role}; derive it from {names}")
    if isabstract(config_type):
        raise ConfigError(f"{where}: '{kind}' lacks {', '.join(sorted(config_type.__abstractmethods__))}; write it")
    return config_type


def _named(name: str, where: str) -> Any:
    """What stands under `module:name`, for instance of a file in the folder where the command is run."""
    module, _, class_name = name.partition(":")
    path = list(sys.path)
    sys.path.append(str(Path.cwd()))
    try:
        found = attrgetter(class_name)(_imported(module, where))
    except (ModuleNotFoundError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{where}: '{name}' cannot be imported ({error}); write MODULE:CLASS, and have the module in the current "
            "folder, on PYTHONPATH or installed"
        ) from None
    finally:
        sys.path[:] = path
    return found


def _imported(module: str, where: str) -> ModuleType:
    """A module; a mistake in it is told with its line."""
    if module in sys.modules:
        return sys.modules[module]
    invalidate_caches()  # the file may be younger than what Python remembers of its folder
    package = module.partition(".")[0]
    try:
        if package and find_spec(package) is not None:
            return import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        line = "" if isinstance(error, SyntaxError) else f" ({Path(place.filename).name}, line {place.lineno})"
        problem = (str(error).strip().splitlines() or [""])[0]
        raise ConfigError(
            f"{where}: the module '{module}' raises {type(error).__name__} when it is imported: {problem}{line}; "
            "mend it there"
        ) from error
    raise ModuleNotFoundError(f"No module named '{module}'")


def discover(
    role: str, values: Mapping[str, Any], where: str = "", bases: tuple[type[Config], ...] = (Config,)
) -> Config:
    """Make the configuration that `kind:` names among the implementations of a role.

    Args:
        role: `retriever`, `scorer`, `loss`, `source`, ...
        values: plain data with the key `kind` beside the fields of that configuration.
        where: key path for messages.
        bases: what a class of that role is derived from.

    Raises:
        ConfigError: no `kind`, an unknown one, or a wrong field.
    """
    config_type = implementation(role, values.get("kind"), f"{where}.kind".lstrip("."), bases)
    fields = {key: value for key, value in values.items() if key != "kind"}
    config: Config = validate(config_type, fields, where)
    return config


def kind_of(role: str, config: Config) -> str:
    """The name under which a configuration's class is offered, or `module:Class`; the inverse of `discover`."""
    for point in _registered(role):
        if point.load() is type(config):
            return point.name
    name = f"{type(config).__module__}:{type(config).__qualname__}"
    if "<locals>" in name:
        raise ConfigError(f"{name} cannot be imported by name; move the class to the top of a module")
    return name


@dataclass(frozen=True)
class Discovered:
    """Marks a field that holds any implementation of a role, or several by name: plain values become configurations.

    For instance `source: Annotated[SerializeAsAny[Config], Discovered("source", "dataset", beside="source")]`.
    """

    role: str
    """`retriever`, `source`, ..."""
    where: str
    """Path under which the implementation's keys stand, for messages."""
    beside: str = ""
    """The key that names the kind, if the implementation's keys stand beside those of the section; see `gathered`."""
    default: str = ""
    """The kind of a mapping that names none; without it the kind is required."""

    @property
    def selector(self) -> str:
        """The key that names the kind."""
        return self.beside or "kind"

    @classmethod
    def of(cls, field: FieldInfo) -> Discovered | None:
        """The mark of a field, if it has one."""
        return next((mark for mark in field.metadata if isinstance(mark, cls)), None)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Look for the implementation before pydantic sees the values."""
        several = get_origin(source) is dict
        bases = tuple(filter(_is_config, _members(get_args(source)[1] if several else source))) or (Config,)
        make = partial(self._make_each if several else self._make, bases)
        made = core_schema.no_info_before_validator_function(make, handler(source))
        if not self.beside:
            write = self._written_each if several else self._written
            made["serialization"] = core_schema.wrap_serializer_function_ser_schema(write)
        return made

    def _written(self, config: Any, plain: Callable[[Any], Any]) -> Any:
        """Plain values with the kind, from which the same configuration is made again."""
        values = plain(config)
        return {"kind": kind_of(self.role, config)} | values if isinstance(config, Config) else values

    def _written_each(self, configs: Any, plain: Callable[[Any], Any]) -> Any:
        values = plain(configs)
        return {name: {"kind": kind_of(self.role, config)} | values[name] for name, config in configs.items()}

    def _make(self, bases: tuple[type[Config], ...], values: Any, name: str = "") -> Any:
        where = f"{self.where}.{name}" if name else self.where
        if self.default and isinstance(values, Mapping):
            values = {"kind": self.default} | dict(values)
        return discover(self.role, values, where, bases) if isinstance(values, Mapping) else values

    def _make_each(self, bases: tuple[type[Config], ...], values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {name: self._make(bases, entry, str(name)) for name, entry in values.items()}


def gathered(config_type: type[Config], values: Any) -> Any:
    """Keys of a section as they are written, with those of its implementation gathered into one field.

    Args:
        config_type: the section; one of its fields is marked `Discovered(..., beside=...)`.
        values: what the recipe holds; anything but a mapping is left as it is.

    Raises:
        ConfigError: the kind is missing or unknown, or a key belongs to neither.
    """
    own = config_type.model_fields
    into, mark = next((name, mark) for name in own if (mark := Discovered.of(own[name])) and mark.beside)
    named_by, where = mark.beside, mark.where
    if not isinstance(values, Mapping) or isinstance(values.get(into), Mapping | Config):
        return values
    if named_by not in values:
        for key in difflib.get_close_matches(named_by, map(str, values), n=1):
            raise ConfigError(f"{where}.{key}: unknown key; did you mean '{named_by}'?")
    theirs = implementation(mark.role, values.get(named_by), f"{where}.{named_by}").model_fields
    for key in values:
        if key != named_by and (key == into or (key not in own and key not in theirs)):
            hint = near_match(str(key), [*(name for name in own if name != into), *theirs], "known keys")
            raise ConfigError(f"{where}.{key}: unknown key; {hint}")
    kept = {key: value for key, value in values.items() if key in own and key != named_by}
    others = {key: value for key, value in values.items() if key not in own and key != named_by}
    return kept | {into: {"kind": values[named_by]} | others}
