"""The block `governance` of params.yaml alone, for commands that need no model and no feature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from core.errors import ConfigError
from core.params import parse
from governance.gates import GovernanceRule
from pipelines.layout import PARAMS


def load_policy(root: Path) -> GovernanceRule:
    """The gates and rules of promotion.

    Raises
    ------
    ConfigError
        The block is missing or not valid.
    """
    values = raw_params(root).get("governance")
    if not isinstance(values, dict):
        raise ConfigError(f"{root / PARAMS} has no block `governance`: restore it from git")
    return parse(GovernanceRule, values, "governance")


def raw_params(root: Path) -> dict[str, Any]:
    """params.yaml as it stands, not validated.

    Raises
    ------
    ConfigError
        It is missing or is not YAML.
    """
    try:
        values = yaml.safe_load((root / PARAMS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{root / PARAMS} is missing: restore it from git") from None
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise ConfigError(f"{root / PARAMS} is not valid YAML ({where}): restore it from git") from None
    return values if isinstance(values, dict) else {}
