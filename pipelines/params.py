"""params.yaml, typed: what each room may be told, composed from the rooms' own parameter blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from models.evaluation import EvaluationRule
from models.folds import FoldRule
from models.layers.base import LAYERS
from models.stack import StackRule
from models.tuning import TuningRule
from monitoring.rules import MonitoringRule
from portfolio.backtest import BacktestRule
from sources.base import PROVIDERS, Source, open_source
from sources.embeddings import EmbeddingParams, WithNovelty, load_model


class DataChoice(Params):
    """Which provider the tables come from, and the days to use."""

    source: str
    path: str = "data/files"
    start: Day | None = None
    end: Day | None = None
    embeddings: EmbeddingParams | None = None

    @model_validator(mode="after")
    def _ordered(self) -> DataChoice:
        if self.start and self.end and self.start >= self.end:
            raise ValueError(f"start {self.start} must lie before end {self.end}")
        return self


class Seed(Params):
    """The one seed that every other is derived from."""

    seed: int = Field(ge=0, lt=2**31)


@dataclass(frozen=True)
class Inputs:
    """What decides the rows and columns that a model sees; a bundle carries it from training to serving."""

    universe: UniverseRule
    target: TargetRule
    features: tuple[Feature, ...]


@dataclass(frozen=True)
class Settings:
    """All parameters of a run, validated.

    Attributes
    ----------
    root
        Folder that relative paths start from.
    features, layers
        Parameter block by name, for the families and layers that are switched on.
    """

    root: Path
    seed: int
    data: DataChoice
    provider: Mapping[str, Any]
    universe: UniverseRule
    target: TargetRule
    features: Mapping[str, BaseModel]
    folds: FoldRule
    layers: Mapping[str, BaseModel]
    tuning: TuningRule
    stack: StackRule
    backtest: BacktestRule
    evaluation: EvaluationRule
    governance: GovernanceRule
    monitoring: MonitoringRule

    def open_source(self) -> Source:
        """The provider of raw tables that `data` names."""
        source = open_source(self.data.source, self.root / self.data.path, self.provider)
        if (told := self.data.embeddings) is None:
            return source
        return WithNovelty(source, load_model(self.root / told.model, told.digest))

    @property
    def inputs(self) -> Inputs:
        """Universe, target and every feature of the families switched on."""
        return Inputs(self.universe, self.target, build_features(self.features))

    def resolved(self, sections: Sequence[str]) -> dict[str, Any]:
        """Sections as params.yaml would say them if it left nothing to a default.

        The folders of the data and of a model are left out: where they lie decides nothing.
        """
        blocks: dict[str, Any] = {
            "seed": self.seed,
            "data": {**_plain(self.data), self.data.source: dict(self.provider)},
            "features": {"families": sorted(self.features), **_all_plain(self.features)},
            "layers": {"names": sorted(self.layers), **_all_plain(self.layers)},
            **{name: _plain(getattr(self, name)) for name in _BLOCKS},
        }
        del blocks["data"]["path"]
        if self.data.embeddings:
            del blocks["data"]["embeddings"]["model"]
        return {section: blocks[section] for section in sections}


def _plain(block: BaseModel) -> dict[str, Any]:
    return block.model_dump(mode="json")


def _all_plain(blocks: Mapping[str, BaseModel]) -> dict[str, Any]:
    return {name: _plain(block) for name, block in sorted(blocks.items())}


class _Choices(Protocol):
    """What the blocks of a section are named after: families, layers or providers."""

    kind: str

    def names(self) -> tuple[str, ...]:
        """Known names."""

    def __contains__(self, name: str) -> bool: ...

    def __getitem__(self, name: str) -> Any: ...


_BLOCKS: dict[str, type[BaseModel]] = {
    "universe": UniverseRule,
    "target": TargetRule,
    "folds": FoldRule,
    "tuning": TuningRule,
    "stack": StackRule,
    "backtest": BacktestRule,
    "evaluation": EvaluationRule,
    "governance": GovernanceRule,
    "monitoring": MonitoringRule,
}
_KEYS = ("seed", "data", "features", "layers", *_BLOCKS)


def load_settings(path: Path) -> Settings:
    """Read and validate params.yaml.

    Raises
    ------
    ConfigError
        Names the key, its value, and what is allowed.
    """
    return parse_settings(read_yaml(path), path.parent)


def parse_settings(values: Mapping[str, Any], root: Path = Path()) -> Settings:
    """Validate the content of the params.yaml of a checkout (see `load_settings`)."""
    for key in values:
        if key not in _KEYS:
            raise ConfigError(f"{key}: unknown parameter; known here: {', '.join(_KEYS)}")
    for key in ("seed", "data", "features", "layers"):
        if key not in values:
            raise ConfigError(f"{key} is missing from params.yaml: add it (see the file's version in git)")
    data, providers = _section(values, "data", PROVIDERS)
    choice = parse(DataChoice, data, "data")
    if choice.source not in PROVIDERS:
        raise ConfigError(f"data.source = {choice.source!r}: choose one of {', '.join(PROVIDERS.names())}")
    for name, block in providers.items():
        parse(PROVIDERS[name].Params, block, f"data.{name}")
    blocks = {key: parse(model, values.get(key) or {}, key) for key, model in _BLOCKS.items()}
    return Settings(
        root=root,
        seed=parse(Seed, {"seed": values["seed"]}, "").seed,
        data=choice,
        provider=providers.get(choice.source, {}),
        features=_chosen(values, "features", "families", FAMILIES, lambda family: family.params),
        layers=_chosen(values, "layers", "names", LAYERS, lambda layer: layer.Params),
        **blocks,  # type: ignore[arg-type]
    )


def parse_inputs(values: Mapping[str, Any]) -> Inputs:
    """The part of params.yaml that a bundle needs to be served, wherever its data comes from now.

    Raises
    ------
    ConfigError
        A family or a parameter is no longer known to this code.
    """
    families = _chosen(values, "features", "families", FAMILIES, lambda family: family.params)
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


def _chosen(values: Mapping[str, Any], key: str, switch: str, known: _Choices, model: Any) -> dict[str, BaseModel]:
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
