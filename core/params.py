"""Parameters: read safely, checked against typed blocks; unknown keys are errors, values do not change."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from core.dates import in_range, parse_date
from core.errors import ConfigError


class Params(BaseModel):
    """A frozen block of parameters; an unknown key or a wrong type is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _day(value: Any) -> Any:
    """A date from its ISO text; DVC keeps no date values, so params.yaml writes them quoted."""
    if isinstance(value, str):
        return parse_date(value)
    # A datetime is a date to Python, and no date to pydantic, which refuses it.
    return in_range(value) if type(value) is datetime.date else value


Day = Annotated[datetime.date, BeforeValidator(_day)]
"""A date in params.yaml, written quoted: '2017-12-29'."""

Block = TypeVar("Block", bound=BaseModel)


def parse(model: type[Block], values: Mapping[str, Any], where: str) -> Block:
    """Validate a mapping against a block.

    Parameters
    ----------
    where
        Dotted place of the block, for the message: `layers.boosting`.

    Raises
    ------
    ConfigError
        Names the first bad key, its value and what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        # What is missing may only be misspelt.
        first = min(error.errors(), key=lambda one: one["type"] == "missing")
        key = ".".join(part for part in (where, *map(str, first["loc"])) if part)
        said = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            # The block as a whole: its values would drown what is wrong with them together.
            message = f"{key}: {said}" if key else said
        elif first["type"] == "extra_forbidden":
            known = ", ".join(_fields_at(model, first["loc"][:-1]))
            message = f"{key}: unknown parameter; known here: {known}"
        elif first["type"] == "missing":
            message = f"{key} is missing: it has no default; add it (see the version of params.yaml in git)"
        else:
            message = f"{key} = {first['input']!r}: {said}"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ConfigError(message + more) from None


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> tuple[str, ...]:
    """Field names of the block that a validation path leads to."""
    here: Any = model
    for part in path:
        here = _fields(here)[str(part)].annotation if str(part) in _fields(here) else here
    return tuple(_fields(here))


def _fields(kind: Any) -> Mapping[str, Any]:
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}


class _UniqueKeys(yaml.SafeLoader):
    """The safe loader, refusing a key that is written twice in one mapping."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{key!r} is written twice (line {node.start_mark.line + 1} on): keep one")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping, safely loaded.

    Raises
    ------
    ConfigError
        The file is missing, is not YAML, repeats a key, or is no mapping.
    """
    try:
        values = _UniqueKeys(path.read_text(encoding="utf-8")).get_single_data()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: restore it with `git checkout {path.name}`") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no UTF-8 text: save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of sections, found {type(values).__name__}")
    return values


def merge(values: Any, changes: Mapping[str, Any]) -> None:
    """Put nested changes into nested values: a mapping joins the one in its place, anything else replaces it."""
    for key, change in changes.items():
        if isinstance(change, Mapping) and isinstance(values.get(key), Mapping):
            merge(values[key], change)
        else:
            values[key] = change
