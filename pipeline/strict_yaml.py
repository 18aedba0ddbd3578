"""YAML into frozen objects: unknown keys are refused with the nearest known name, and each mistake has its own line."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
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
    try:
        if lines := [f"{prefix}{line}" for line in _unknown(model, data, "")]:
            raise ConfigError("\n".join(lines))
        return TypeAdapter(model).validate_python(data)
    except ValidationError as error:
        lines = []
        for each in error.errors():
            where = prefix + ".".join(str(part) for part in each["loc"])
            if each["type"] == "extra_forbidden":
                lines.append(f"{where}: unknown field{nearest(str(each['loc'][-1]), model.model_fields)}")
            else:
                found = "" if each["type"] == "missing" else f", found {each['input']!r}"
                lines.append(f"{where}: {each['msg'][0].lower()}{each['msg'][1:]}{found}")
        raise ConfigError("\n".join(lines)) from error


def _unknown(model: Any, data: Any, where: str) -> Iterator[str]:
    """Give a line for each key that a dataclass somewhere in `model` does not have; pydantic lets those pass."""
    rows = data if isinstance(data, list | tuple) else [data]
    for number, row in enumerate(rows):
        here = f"{where}{number}." if isinstance(data, list | tuple) else where
        for kind in _parts(model) if isinstance(row, Mapping) else []:
            hints = typing.get_type_hints(kind)
            fields = [each.name for each in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else list(hints)
            for key, value in row.items():
                if key in fields:
                    yield from _unknown(hints[key], value, f"{here}{key}.")
                elif dataclasses.is_dataclass(kind):
                    yield f"{here}{key}: unknown field{nearest(str(key), fields)}"


def _parts(hint: Any) -> list[Any]:
    """Return the dataclasses and pydantic models that a type is made of."""
    if isinstance(hint, type) and (dataclasses.is_dataclass(hint) or issubclass(hint, BaseModel)):
        return [hint]
    if typing.get_origin(hint) in (tuple, list, typing.Union, types.UnionType):
        return [kind for inner in typing.get_args(hint) for kind in _parts(inner)]
    return []


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
