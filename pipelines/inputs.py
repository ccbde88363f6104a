"""The part of params.yaml that serving reads: where the tables come from, what a bundle is fed, who may be served.

Kept apart from the blocks that only training reads: their modules take a second to import, and a slip in one of them
must not stop the daily job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, Field, model_validator

from core.errors import ConfigError
from core.params import Day, Params, parse, read_yaml
from features.registry import FAMILIES, Feature, build_features
from features.target import TargetRule
from features.universe import UniverseRule
from governance.gates import GovernanceRule
from models.outlook import StanceRule
from sources.base import PROVIDERS, Source, open_source
from sources.calendar import declare
from sources.embeddings import EmbeddingParams, WithNovelty, load_model


class DataChoice(Params):
    """Which provider the tables come from, the days to use, and sessions that the calendar does not know."""

    source: str
    path: str = "data/files"
    start: Day | None = None
    end: Day | None = None
    closings: list[Day] = Field(default=[])
    openings: list[Day] = Field(default=[])
    embeddings: EmbeddingParams | None = None

    @model_validator(mode="after")
    def _ordered(self) -> DataChoice:
        if self.start and self.end and self.start >= self.end:
            raise ValueError(f"start {self.start} must lie before end {self.end}")
        return self


class DailyRule(Params):
    """What the daily job says of its own, beside what the served version says.

    Parameters
    ----------
    accepted_code : str
        Digest of other code than the version was registered with that may serve it all the same; empty for none.
    """

    stance: StanceRule = StanceRule()
    accepted_code: str = ""


@dataclass(frozen=True)
class Inputs:
    """What decides the rows and columns that a model sees; a bundle carries it from training to serving."""

    universe: UniverseRule
    target: TargetRule
    features: tuple[Feature, ...]


class _Choices(Protocol):
    """What the blocks of a section are named after: families, layers or providers."""

    kind: str

    def names(self) -> tuple[str, ...]:
        """Known names."""

    def __contains__(self, name: str) -> bool: ...

    def __getitem__(self, name: str) -> Any: ...


@dataclass(frozen=True)
class Serving:
    """What the daily job is told by params.yaml."""

    root: Path
    data: DataChoice
    provider: Mapping[str, Any]
    daily: DailyRule
    governance: GovernanceRule

    def open_source(self) -> Source:
        """The provider of raw tables that `data` names."""
        return open_tables(self.root, self.data, self.provider)


def load_serving(path: Path) -> Serving:
    """Read and validate the sections `data`, `daily` and `governance` of params.yaml; the others are not looked at.

    The closings and openings of `data` hold for the process from here on.

    Raises
    ------
    ConfigError
        Names the key, its value, and what is allowed.
    """
    values = read_yaml(path)
    for key in ("data", "governance"):
        if key not in values:
            raise ConfigError(f"{key} is missing from params.yaml: add it (see the file's version in git)")
    data, provider = parse_data(values)
    declare(data.closings, data.openings)
    return Serving(
        root=path.parent,
        data=data,
        provider=provider,
        daily=parse(DailyRule, values.get("daily") or {}, "daily"),
        governance=parse(GovernanceRule, values["governance"] or {}, "governance"),
    )


def parse_data(values: Mapping[str, Any]) -> tuple[DataChoice, dict[str, Any]]:
    """The section `data`: the choice, and the parameters of the provider chosen; those of the others are checked.

    Raises
    ------
    ConfigError
        The provider is unknown or a parameter does not fit.
    """
    data, providers = _section(values, "data", PROVIDERS)
    choice = parse(DataChoice, data, "data")
    if choice.source not in PROVIDERS:
        raise ConfigError(f"data.source = {choice.source!r}: choose one of {', '.join(PROVIDERS.names())}")
    for name, block in providers.items():
        parse(PROVIDERS[name].Params, block, f"data.{name}")
    return choice, providers.get(choice.source, {})


def open_tables(root: Path, data: DataChoice, provider: Mapping[str, Any]) -> Source:
    """The provider of raw tables that a choice names."""
    source = open_source(data.source, root / data.path, provider)
    if (told := data.embeddings) is None:
        return source
    return WithNovelty(source, load_model(root / told.model, told.digest))


def parse_inputs(values: Mapping[str, Any]) -> Inputs:
    """The part of params.yaml that a bundle needs to be served, wherever its data comes from now.

    Raises
    ------
    ConfigError
        A family or a parameter is no longer known to this code.
    """
    families = chosen(values, "features", "families", FAMILIES, lambda family: family.params)
    return Inputs(
        universe=parse(UniverseRule, values.get("universe") or {}, "universe"),
        target=parse(TargetRule, values.get("target") or {}, "target"),
        features=build_features(families),
    )


def _section(values: Mapping[str, Any], key: str, names: _Choices) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a section into its own settings and the blocks named after registered entries."""
    section = values[key]
    if not isinstance(section, dict):
        raise ConfigError(f"{key} = {section!r}: must be a mapping")
    blocks = {name: block or {} for name, block in section.items() if name in names}
    return {name: value for name, value in section.items() if name not in names}, blocks


def chosen(values: Mapping[str, Any], key: str, switch: str, known: _Choices, model: Any) -> dict[str, BaseModel]:
    """Blocks of the entries switched on; the blocks of those switched off are checked all the same."""
    own, blocks = _section(values, key, known)
    for name in own:
        if name != switch:
            raise ConfigError(f"{key}.{name}: unknown {known.kind}; known here: {', '.join((switch, *known.names()))}")
    names = own.get(switch)
    if not isinstance(names, list) or not names:
        raise ConfigError(f"{key}.{switch} = {names!r}: list at least one of {', '.join(known.names())}")
    for name in names:
        if name not in known:
            raise ConfigError(f"{key}.{switch}: unknown {known.kind} {name!r}; known: {', '.join(known.names())}")
    if len(set(names)) != len(names):
        raise ConfigError(f"{key}.{switch} = {names}: a name is listed twice")
    parsed = {name: parse(model(known[name]), block, f"{key}.{name}") for name, block in blocks.items()}
    return {name: parsed.get(name) or parse(model(known[name]), {}, f"{key}.{name}") for name in sorted(names)}
