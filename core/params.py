"""Parameters: read safely, checked against typed blocks; unknown keys are errors, values do not change."""

from __future__ import annotations

import datetime
import re
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

_TOO_LARGE = 10**18
_SHOWN = 120
"""Characters of a bad value that a message repeats."""

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
            message = f"{key} = {repr(first['input'])[:_SHOWN]}: {said}"
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


class _Loader(yaml.SafeLoader):
    """The safe loader, refusing a key that is written twice in one mapping, and values that nothing can use."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node.

        Raises
        ------
        ConfigError
            It has the form of a date, a number or text, but is none.
        """
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str) and re.search(r"[\x00\ud800-\udfff]", value):
                raise ValueError("text has no NUL and no half characters")
            if isinstance(value, int) and abs(value) >= _TOO_LARGE:
                raise ValueError("a whole number has at most 18 digits")
        except (ValueError, ArithmeticError, LookupError, AttributeError) as error:  # what PyYAML's constructors raise
            said = node.value[:_SHOWN] if isinstance(node.value, str) else node.tag
            why = str(error)[:_SHOWN] if isinstance(error, ValueError) else "not of the kind that its tag names"
            raise ConfigError(f"line {node.start_mark.line + 1}: {said!r} is not a value: {why}") from None
        return value


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{key!r} is written twice (line {node.start_mark.line + 1} on): keep one")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping, safely loaded.

    Raises
    ------
    ConfigError
        The file cannot be read, is not YAML, repeats a key, holds an impossible value, or is no mapping.
    """
    try:
        values = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: restore it with `git checkout {path.name}`") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): restore it, or its permissions") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply: restore it with `git checkout {path.name}`") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no UTF-8 text: save it as UTF-8") from None
    except (yaml.YAMLError, ArithmeticError, ValueError) as error:  # the scanner passes on what a code point raises
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of sections, found {type(values).__name__}")
    return values


def lookup(values: Any, key: str) -> Any:
    """The value under a dotted key of nested mappings; None where there is none."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def merge(values: Any, changes: Mapping[str, Any]) -> None:
    """Put nested changes into nested values: a mapping joins the one in its place, anything else replaces it."""
    for key, change in changes.items():
        if isinstance(change, Mapping) and isinstance(values.get(key), Mapping):
            merge(values[key], change)
        else:
            values[key] = change
