"""YAML into frozen objects: unknown keys are refused with the nearest known name, and each mistake has its own line."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from manifests.errors import UserError


class ConfigError(UserError):
    """A config cannot be used; the message says where, what was found and what is known."""


def read(path: str | Path, sets: Iterable[str], hint: str) -> dict[str, Any]:
    """Read a YAML file and apply `a.b=c` settings.

    Raises:
        ConfigError: It cannot be read, or holds no mapping; then with the `hint`.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: holds no mapping; {hint}")
    for setting in sets:
        _apply(data, setting)
    return data


def validate(model: type[Any], data: Mapping[str, Any], prefix: str) -> Any:
    """Return `model`, a pydantic model or a frozen dataclass, made of `data`.

    Raises:
        ConfigError: One line for each mistake; the place of each begins with `prefix`.
    """
    unknown = dict(_unknown([model], data, ""))
    lines = [f"{prefix}{where}: unknown field{end}" for where, end in unknown.items()]
    whole = f"{prefix[:-1]}: " if prefix.endswith(".") else prefix
    try:
        made = TypeAdapter(model).validate_python(data)
    except ValidationError as error:
        all_: list[dict[str, Any]] = [dict(each) for each in error.errors()]
        mistakes = [each for each in all_ if not _follows(each, all_)]
        told = {_place(each["loc"]): _told(each) for each in mistakes}
        lines += [f"{prefix if where else whole}{line}" for where, line in told.items() if where not in unknown]
        raise ConfigError("\n".join(lines)) from error
    except UserError as error:  # of a dataclass that checks itself
        raise ConfigError("\n".join([*lines, f"{whole}{error}"])) from error
    if lines:
        raise ConfigError("\n".join(lines))
    return made


def _place(parts: Iterable[Any]) -> str:
    return ".".join(str(part) for part in parts)


def _follows(mistake: Mapping[str, Any], all_: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether a list is too short only because something in it is wrong."""
    place = tuple(mistake["loc"])
    inside = [other for other in all_ if len(other["loc"]) > len(place) and other["loc"][: len(place)] == place]
    return mistake["type"] == "too_short" and bool(inside)


def _told(mistake: Mapping[str, Any]) -> str:
    """Return one of pydantic's mistakes as a line."""
    said = str(mistake["msg"]).removeprefix("Value error, ")
    where = _place(mistake["loc"])
    shown = mistake["type"] not in ("missing", "value_error")  # a rule of our own says what it found
    found = f", found {mistake['input']!r}" if shown else ""
    return f"{where}{': ' if where else ''}{said[0].lower()}{said[1:]}{found}"


def _unknown(kinds: Sequence[Any], data: Any, where: str) -> Iterator[tuple[str, str]]:
    """Give the place of each key that no type of `kinds` has, at any depth, and what is known there.

    Pydantic lets some of a dataclass's pass, and does not say what is known.
    """
    parts = [part for kind in kinds for part in _parts(kind)]
    if isinstance(data, list | tuple):
        for number, row in enumerate(data):
            yield from _unknown(parts, row, f"{where}{number}.")
    elif isinstance(data, Mapping) and parts:
        fields: dict[str, list[Any]] = {}
        for part in parts:
            for name, hint in _fields(part).items():
                fields.setdefault(name, []).append(hint)
        for key, value in data.items():
            if key in fields:
                yield from _unknown(fields[key], value, f"{where}{key}.")
            elif all(dataclasses.is_dataclass(part) or part.model_config.get("extra") == "forbid" for part in parts):
                yield f"{where}{key}", nearest(str(key), fields)


def _parts(hint: Any) -> list[Any]:
    """Return the dataclasses and pydantic models that a type is made of."""
    if isinstance(hint, type) and (dataclasses.is_dataclass(hint) or issubclass(hint, BaseModel)):
        return [hint]
    if typing.get_origin(hint) in (tuple, list, typing.Union, types.UnionType):
        return [kind for inner in typing.get_args(hint) for kind in _parts(inner)]
    return []


def _fields(kind: Any) -> dict[str, Any]:
    """Return the fields that may be given, and the type of each."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return {each.name: hints[each.name] for each in dataclasses.fields(kind) if each.init}
    return {name: about.annotation for name, about in kind.model_fields.items()}


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: the known one it is like, or all that are known."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"


def _apply(data: dict[str, Any], setting: str) -> None:
    path, equals, value = setting.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {setting!r}: write it as stages.sources.skeleton.max_people=2")
    *parents, last = path.split(".")
    here = data
    for parent in parents:
        child = here.setdefault(parent, {})
        if child is None:
            child = here[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"--set {setting!r}: {parent!r} holds a value, not fields")
        here = child
    try:
        here[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {setting!r}: the value is no YAML") from error
