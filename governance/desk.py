"""The desk that decisions are made at: the lock held, MLflow put right by the ledger, both read.

Each decision is checked, then written to the ledger (the truth), then projected onto MLflow. A
crash in between loses nothing: the next command projects the ledger again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import GovernanceError
from governance.chain import Record
from governance.gates import GovernanceRule
from governance.keys import PrivateKey, pen_for
from governance.ledger import Ledger
from governance.places import LEDGER
from governance.policy import uncommitted_rules
from governance.registry import Registry, read_registry
from governance.snapshot import ledger_doubts
from governance.state import State
from governance.store import client as open_client
from governance.store import database_errors, governing
from governance.sync import sync, synced, told
from governance.trust import read_state

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Decision:
    """A decision that was written.

    Parameters
    ----------
    notes
        What was found different in MLflow and set back.
    """

    record: Record
    notes: tuple[str, ...]


@dataclass
class Desk:
    """Everything a decision needs, held under the lock."""

    root: Path
    policy: GovernanceRule
    client: MlflowClient
    ledger: Ledger
    state: State
    registry: Registry
    notes: list[str]

    def write(self, kind: str, actor: str, payload: Mapping[str, Any]) -> Decision:
        """Write a decision, signed where a key is at hand or required, and tell MLflow.

        Raises
        ------
        GovernanceError
            The signature is required or the key at hand is none to sign with; nothing is written.
        """
        pen = pen_for(self.root, actor, decides=True, required=self.policy.require_signatures)
        self._refuse_own_hand(kind, payload, pen)
        record = self.ledger.append(kind, actor, payload, pen)
        return Decision(record, (*self.notes, *told(self.root, "the decision", self._project)))

    def _project(self) -> list[str]:
        """What this changes in MLflow is the decision itself: there is nothing to note."""
        sync(self.root, self.policy, self.client)
        return []

    def _refuse_own_hand(self, kind: str, payload: Mapping[str, Any], pen: PrivateKey | None) -> None:
        if kind not in ("reviewed", "waived") or pen is None or not self.policy.require_second_person:
            return
        if pen.public in {record.key for record in self.state.registrations_of(payload["version"])}:
            raise GovernanceError(
                f"version {payload['version']} was registered with this very key: the decision must come from "
                "someone else"
            )


@contextmanager
def open_desk(root: Path, policy: GovernanceRule) -> Iterator[Desk]:
    """Hold the lock, put MLflow right by the ledger, and read both."""
    read_registry(root, policy.model)
    with governing(root), database_errors(root):
        client = open_client(root)
        notes = synced(root, policy, client)
        ledger = Ledger(root / LEDGER)
        chain = ledger.read()
        registry = read_registry(root, policy.model)
        state = read_state(root, chain, policy.require_signatures)
        notes += [*ledger_doubts(root, chain, registry, datetime.now(UTC)), *state.doubts, *uncommitted_rules(root)]
        yield Desk(root, policy, client, ledger, state, registry, notes)
