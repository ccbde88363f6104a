"""The block `governance` of params.yaml alone, for whatever needs no model and no feature."""

from __future__ import annotations

from pathlib import Path

import yaml

from core.checkout import PARAMS
from core.errors import ConfigError
from core.params import parse, read_yaml
from governance.gates import GovernanceRule
from governance.git import ask
from governance.places import KEYS


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


def uncommitted_rules(root: Path) -> list[str]:
    """What of the rules of promotion is not what the last commit holds: gates and keys that nobody reviewed."""
    notes = []
    committed = ask(root, "show", f"HEAD:./{PARAMS}")
    if committed is not None and _block(committed) != _block(_text(root / PARAMS)):
        notes.append(f"{PARAMS}: the block governance has changes that are not committed")
    if ask(root, "rev-parse", "HEAD") and (ask(root, "show", f"HEAD:./{KEYS}") or "").strip() != _text(root / KEYS):
        notes.append(f"{KEYS} has changes that are not committed")
    return notes


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""


def _block(text: str) -> object:
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    return values.get("governance") if isinstance(values, dict) else values
