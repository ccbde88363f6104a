"""Project the ledger's state onto MLflow: aliases and tags, set where they differ.

Runs after every decision and before every next one, so that a crash between the ledger and MLflow,
or a hand in MLflow's UI, is put right by the next command.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from governance.gates import GovernanceRule
from governance.guard import ledger_doubts
from governance.ledger import Ledger
from governance.places import LEDGER
from governance.registry import LEDGER_HEAD, Registry, read_registry
from governance.state import PENDING, State
from governance.trust import read_state

if TYPE_CHECKING:
    from mlflow import MlflowClient

OURS = ("review.", "waiver.", "gates.", "bundle.")


def sync(root: Path, policy: GovernanceRule, client: MlflowClient) -> list[str]:
    """Make MLflow say what the ledger says.

    Returns
    -------
    list of str
        What a person (or a crash) had left different, one sentence each.

    Raises
    ------
    GovernanceError
        The ledger is broken or has lost records: nothing is projected from it.
    """
    chain = Ledger(root / LEDGER).read()
    state = read_state(root, chain, policy.require_signatures)
    model = policy.model
    registry = read_registry(root, model)
    if not registry.versions:
        return []
    ledger_doubts(root, chain, registry, datetime.now(UTC))
    changed = [*_aliases(client, model, registry, state), *_tags(client, model, registry, state)]
    if registry.tags.get(LEDGER_HEAD) != chain.head:
        client.set_registered_model_tag(model, LEDGER_HEAD, chain.head)
    return changed


def _aliases(client: MlflowClient, model: str, registry: Registry, state: State) -> list[str]:
    changed = []
    for alias, record in (("champion", state.champion), ("previous_champion", state.previous)):
        wanted = int(record.payload["version"]) if record else None
        found = registry.aliases.get(alias)
        if wanted == found:
            continue
        if wanted is None:
            client.delete_registered_model_alias(model, alias)
        elif wanted in registry.versions:
            client.set_registered_model_alias(model, alias, str(wanted))
        changed.append(f"alias {alias} was {_name(found)}, the ledger says {_name(wanted)}: set back")
    return changed


def _tags(client: MlflowClient, model: str, registry: Registry, state: State) -> list[str]:
    changed = []
    for version, row in sorted(registry.versions.items()):
        if version not in state.registrations:
            continue
        wanted = version_tags(state, version)
        for key, value in wanted.items():
            if row.tags.get(key) != value:
                client.set_model_version_tag(model, str(version), key, value)
                changed.append(
                    f"tag {key} of version {version} was {row.tags.get(key)!r}, the ledger says {value!r}: set back"
                )
        for key in sorted(row.tags):
            if key.startswith(OURS) and key not in wanted:
                client.delete_model_version_tag(model, str(version), key)
                changed.append(f"tag {key} of version {version} is not in the ledger: removed")
    return changed


def version_tags(state: State, version: int) -> dict[str, str]:
    """Tags of a version that belong to the ledger."""
    registration = state.registration(version).payload
    failed = [gate["gate"] for gate in state.failures(version)]
    review = state.review(version)
    tags = {
        "bundle.digest": registration["bundle_digest"],
        "gates.verdict": "fail" if failed else "pass",
        "gates.failed": ", ".join(failed) or "none",
        "review.status": state.review_status(version) if review else PENDING,
        "review.by": review.actor if review else "",
        "review.comment": review.payload["comment"] if review else "",
    }
    for gate, waiver in sorted(state.waivers(version).items()):
        tags[f"waiver.{gate}"] = f"{waiver.actor} until {waiver.payload['until']}: {waiver.payload['reason']}"
    return tags


def _name(version: int | None) -> str:
    return "unset" if version is None else f"version {version}"
