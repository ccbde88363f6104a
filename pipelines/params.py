"""params.yaml, typed: what each room may be told, composed from the rooms' own parameter blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from core.errors import ConfigError
from core.numerics import Mode
from core.params import Params, parse, read_yaml
from features.registry import FAMILIES, build_features
from features.target import TargetRule
from features.universe import UniverseRule
from governance.gates import GovernanceRule
from models.evaluation import EvaluationRule
from models.folds import FoldRule
from models.layers.base import LAYERS
from models.stack import StackRule
from models.tuning import TuningRule
from monitoring.rules import MonitoringRule
from pipelines.inputs import DailyRule, DataChoice, Inputs, chosen, open_tables, parse_data, parse_inputs
from portfolio.portfolio_rule import PortfolioRule
from sources.base import Source
from sources.calendar import declare


class Common(Params):
    """What every stage depends on: the one seed that every other is derived from, and the mode of `core.numerics`."""

    seed: int = Field(ge=0, lt=2**31)
    numerics: Mode = "portable"


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
    numerics: Mode
    data: DataChoice
    provider: Mapping[str, Any]
    universe: UniverseRule
    target: TargetRule
    features: Mapping[str, BaseModel]
    folds: FoldRule
    layers: Mapping[str, BaseModel]
    tuning: TuningRule
    stack: StackRule
    portfolio: PortfolioRule
    evaluation: EvaluationRule
    daily: DailyRule
    governance: GovernanceRule
    monitoring: MonitoringRule

    def open_source(self) -> Source:
        """The provider of raw tables that `data` names."""
        return open_tables(self.root, self.data, self.provider)

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
            "numerics": self.numerics,
            "data": {**_plain(self.data), self.data.source: dict(self.provider)},
            "features": {"families": sorted(self.features), **_all_plain(self.features)},
            "layers": {"names": sorted(self.layers), **_all_plain(self.layers)},
            **{name: _plain(getattr(self, name)) for name in _BLOCKS},
        }
        del blocks["data"]["path"]
        for name in ("closings", "openings"):
            if not blocks["data"][name]:  # a bundle without declarations keeps its bytes
                del blocks["data"][name]
        if self.data.embeddings:
            del blocks["data"]["embeddings"]["model"]
        return {section: blocks[section] for section in sections}


def _plain(block: BaseModel) -> dict[str, Any]:
    return block.model_dump(mode="json")


def _all_plain(blocks: Mapping[str, BaseModel]) -> dict[str, Any]:
    return {name: _plain(block) for name, block in sorted(blocks.items())}


_BLOCKS: dict[str, type[BaseModel]] = {
    "universe": UniverseRule,
    "target": TargetRule,
    "folds": FoldRule,
    "tuning": TuningRule,
    "stack": StackRule,
    "portfolio": PortfolioRule,
    "evaluation": EvaluationRule,
    "daily": DailyRule,
    "governance": GovernanceRule,
    "monitoring": MonitoringRule,
}
_KEYS = ("seed", "numerics", "data", "features", "layers", *_BLOCKS)


def load_settings(path: Path) -> Settings:
    """Read and validate params.yaml; its closings and openings hold for the process from here on.

    Raises
    ------
    ConfigError
        Names the key, its value, and what is allowed.
    """
    settings = parse_settings(read_yaml(path), path.parent)
    declare(settings.data.closings, settings.data.openings)
    return settings


def parse_settings(values: Mapping[str, Any], root: Path = Path()) -> Settings:
    """Validate the content of the params.yaml of a checkout (see `load_settings`)."""
    for key in values:
        if key not in _KEYS:
            raise ConfigError(f"{key}: unknown parameter; known here: {', '.join(_KEYS)}")
    for key in ("seed", "data", "features", "layers"):
        if key not in values:
            raise ConfigError(f"{key} is missing from params.yaml: add it (see the file's version in git)")
    common = parse(Common, {key: values[key] for key in Common.model_fields if key in values}, "")
    data, provider = parse_data(values)
    blocks = {key: parse(model, values.get(key) or {}, key) for key, model in _BLOCKS.items()}
    return Settings(
        root=root,
        seed=common.seed,
        numerics=common.numerics,
        data=data,
        provider=provider,
        features=chosen(values, "features", "families", FAMILIES, lambda family: family.params),
        layers=chosen(values, "layers", "names", LAYERS, lambda layer: layer.Params),
        **blocks,  # type: ignore[arg-type]
    )


__all__ = ["DataChoice", "Inputs", "Settings", "load_settings", "parse_inputs", "parse_settings"]
