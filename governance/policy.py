"""The block `governance` of params.yaml alone, for whatever needs no model and no feature."""

from __future__ import annotations

from pathlib import Path

from core.checkout import PARAMS
from core.errors import ConfigError
from core.params import parse, read_yaml
from governance.gates import GovernanceRule


def load_policy(root: Path) -> GovernanceRule:
    """The gates and rules of promotion.

    Raises
    ------
    ConfigError
        params.yaml cannot be read, or the block is missing or not valid.
    """
    values = read_yaml(root / PARAMS).get("governance")
    if not isinstance(values, dict):
        raise ConfigError(f"{root / PARAMS} has no block `governance`: restore it from git")
    return parse(GovernanceRule, values, "governance")
