"""Which version a person means: a number or an alias."""

from __future__ import annotations

from pathlib import Path

from core.errors import GovernanceError
from governance.policy import load_policy
from governance.promotion import version_number
from governance.state import State

CHAMPION = "champion"


def version_named(root: Path, state: State, name: str) -> int:
    """Number of a version; who the champion is says the ledger, whatever the alias says.

    Raises
    ------
    GovernanceError
        No such alias, or no version is in production.
    """
    if name != CHAMPION:
        return version_number(root, load_policy(root), name)
    if state.champion is None:
        raise GovernanceError("no version is in production: name the version by its number (see `signals status`)")
    return int(state.champion.payload["version"])
