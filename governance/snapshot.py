"""What readers see: the ledger, its state and the registry as they stand together, and where they differ.

Whoever decides writes the ledger first and MLflow then. A reader that came in between would take the
registry for one that was changed by hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from core.errors import GovernanceError
from governance.chain import CLOCK_SLACK, Chain
from governance.ledger import Ledger
from governance.places import LEDGER
from governance.registry import LEDGER_HEAD, Registry, read_registry
from governance.state import State
from governance.store import at_rest
from governance.trust import read_state

Found = TypeVar("Found")

_PATIENCE = 30.0
"""Seconds that readers wait for a moment between two decisions; where there is none they take things as they are."""


def snapshot(
    root: Path, model: str, require_signatures: bool, check: Callable[[State], None] = lambda _: None
) -> tuple[Chain, State, Registry]:
    """The ledger, its state and the registry as they stand together, whoever is writing a decision meanwhile.

    Parameters
    ----------
    check
        Called with the state before the registry is read.

    Raises
    ------
    GovernanceError
        The ledger is broken, or there is no store.
    StorageError
        The database stayed locked.
    """

    ledger = Ledger(root / LEDGER)

    def read() -> tuple[Chain, State, Registry]:
        chain = ledger.read()
        state = read_state(root, chain, require_signatures)
        check(state)
        return chain, state, read_registry(root, model)

    return settled(root, read, lambda found: agree(ledger, found[0], found[2]))


def settled(root: Path, read: Callable[[], Found], whole: Callable[[Found], bool]) -> Found:
    """Read again until what was read is whole, or no decision is being written that could make it so."""
    end = time.monotonic() + _PATIENCE
    while True:
        found = read()
        if whole(found) or time.monotonic() > end:
            return found
        with at_rest(root, wait=0.1) as resting:
            if resting:
                return read()


def agree(ledger: Ledger, chain: Chain, registry: Registry) -> bool:
    """Whether the registry, read after the chain, was told of its last record and of nothing later.

    The head is told last, so a registry with the chain's head knows all that follows from it. It may know more:
    part of a decision that was written after the chain was read. Then the ledger has gone on.
    """
    if chain.torn or registry.tags.get(LEDGER_HEAD) != chain.head:
        return False
    return ledger.inspect()[0].head == chain.head


def ledger_doubts(root: Path, chain: Chain, registry: Registry, now: datetime) -> list[str]:
    """Warnings about the ledger as a whole.

    Raises
    ------
    GovernanceError
        Records that the registry has seen are gone, or the clock runs behind the ledger.
    """
    head = registry.tags.get(LEDGER_HEAD, "")
    if head and not chain.contains(head):
        raise GovernanceError(
            f"{root / LEDGER} has lost records: the registry last saw {head[:24]}..., which is not in it: "
            "restore the ledger from a backup"
        )
    if chain.records and chain.records[-1].at - now > CLOCK_SLACK:
        raise GovernanceError(
            f"the clock ({now:%Y-%m-%d %H:%M} UTC) is behind the ledger's last record "
            f"({chain.records[-1].at:%Y-%m-%d %H:%M} UTC): set the clock, or, where that record is of the future, "
            "restore the ledger from a backup; expiries cannot be judged"
        )
    if chain.torn:
        return [
            f"the ledger ends in a torn line of {len(chain.torn)} bytes (a writer died): the next command sets it aside"
        ]
    return []


def alias_doubts(registry: Registry, state: State) -> list[str]:
    """Warnings where MLflow's aliases say something else than the ledger."""
    champion = state.champion
    told = registry.aliases.get("champion")
    wanted = int(champion.payload["version"]) if champion else None
    if told == wanted:
        return []
    said = f"version {told}" if told is not None else "no version"
    meant = f"version {wanted}" if wanted is not None else "no version"
    return [
        f"the alias champion points at {said}, the ledger says {meant}: the alias was moved without the ledger "
        "and is ignored; the next governance command sets it back"
    ]
