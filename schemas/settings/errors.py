"""Messages for invalid settings: which key or variable is wrong, and what is possible."""

import difflib
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

PREFIX = "DRIFTLOOP_"
"""Prefix of variables; one without `__` is ignored, since Kubernetes sets such names for its services."""


class SettingsError(ValueError):
    """The settings are invalid; the message names the key and what is possible."""


def check_file(path: Path | None) -> None:
    """Check that the file holds a mapping of names.

    Raises:
        SettingsError: there is no such file, it is not YAML, or it holds no mapping of names.
    """
    if path is None:
        return
    if not path.is_file():
        raise SettingsError(f"no settings file at {path}")
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise SettingsError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if found is not None and not (isinstance(found, dict) and all(isinstance(key, str) for key in found)):
        raise SettingsError(f"{path}: groups of settings were expected, as `drift: {{season: day}}`")


def check_variables(environment: Mapping[str, str], settings: type[BaseModel]) -> None:
    """Check that each variable with `__` names a group of settings.

    Raises:
        SettingsError: a variable names no group.
    """
    groups = list(settings.model_fields)
    for name in environment:
        group, apart, _ = name.upper().removeprefix(PREFIX).lower().partition("__")
        if apart and name.upper().startswith(PREFIX) and group not in groups:
            raise SettingsError(f"variable {name} sets nothing: {_hint(group, groups)}")


def format_errors(error: ValidationError, source: str, settings: type[BaseModel]) -> str:
    """One line for each invalid key of `source`."""
    errors = [({**details}, _key(details["loc"], settings)) for details in error.errors()]
    return "\n".join(
        f"{source}: {_format_key(key, [details for details, _ in same], settings)}"
        for key, same in groupby(errors, key=lambda pair: pair[1])
    )


def format_unreadable(error: Exception, environment: Mapping[str, str]) -> str:
    """The message for a variable whose text must be JSON and is not."""
    text = getattr(error.__cause__, "doc", None)
    names = [name for name, value in environment.items() if name.upper().startswith(PREFIX) and value == text]
    if not names:
        return str(error)
    possible = '`["country", "device"]` or `[10, 50]`'
    return f"variable {', '.join(names)}: JSON was expected, as {possible} (got {text!r})"


def _key(location: tuple[int | str, ...], settings: type[BaseModel]) -> str:
    """The dotted key; without the names that pydantic gives to the alternatives of a type."""
    parts: list[str] = []
    inside: type[BaseModel] | None = settings
    for part in location:
        if inside is None and isinstance(part, str):
            break
        parts.append(str(part))
        inside = _group(inside, part)
    return ".".join(parts)


def _group(inside: type[BaseModel] | None, name: int | str) -> type[BaseModel] | None:
    field = inside.model_fields.get(str(name)) if inside is not None else None
    found = field.annotation if field is not None else None
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _format_key(key: str, errors: list[dict[str, Any]], settings: type[BaseModel]) -> str:
    first = errors[0]
    if first["type"] != "extra_forbidden":
        message = "; or ".join(dict.fromkeys(error["msg"].removeprefix("Value error, ") for error in errors))
        return f"{key}: {message} (got {first['input']!r})" if key else message
    *within, name = key.split(".")
    inside: type[BaseModel] = settings
    for part in within:
        inside = _group(inside, part) or inside
    return f"unknown key {key!r}; {_hint(name, list(inside.model_fields))}"


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"possible here: {', '.join(sorted(known))}"
