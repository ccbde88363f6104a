"""Project the ledger's state onto MLflow: aliases and tags, set where they differ.

Runs after every decision and before every next one, so that a crash between the ledger and MLflow,
or a hand in MLflow's UI, is put right by the next command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import GovernanceError
from core.files import read_json
from governance.describe import LONGEST_TAG, describe, for_mlflow
from governance.evidence import kept
from governance.gates import GovernanceRule
from governance.ledger import Ledger
from governance.places import LEDGER
from governance.registry import LEDGER_HEAD, Registry, read_registry
from governance.snapshot import ledger_doubts
from governance.state import PENDING, State
from governance.store import database_errors
from governance.trials import count_every_trial, trials_ever
from governance.trust import read_state

if TYPE_CHECKING:
    from mlflow import MlflowClient

_WAIVER = "waiver."
OURS = ("review.", _WAIVER, "gates.", "bundle.")
_RESERVED = ("mlflow.", "_mlflow")


def is_reserved(key: str) -> bool:
    """Whether MLflow itself acts on a tag: one of them hides a registered model, as if it were a prompt."""
    return key.casefold().startswith(_RESERVED)


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
    changed = [*_reserved(client, model, registry), *_experiment(client, model, state)]
    changed += [*_aliases(client, model, registry, state), *_tags(root, client, model, registry, state)]
    if registry.tags.get(LEDGER_HEAD) != chain.head:
        client.set_registered_model_tag(model, LEDGER_HEAD, chain.head)
    return changed


def synced(root: Path, policy: GovernanceRule, client: MlflowClient) -> list[str]:
    """`sync` before a decision: a fault of MLflow is noted, for it must not keep anyone from stopping or going back.

    Raises
    ------
    GovernanceError
        The ledger is broken or has lost records.
    """
    try:
        with database_errors(root):
            return sync(root, policy, client)
    except GovernanceError:
        raise
    except Exception as error:  # whatever ails MLflow
        return [f"MLflow could not be told what the ledger says ({error}); the next command tells it"]


def told(root: Path, what: str, project: Callable[[], list[str]]) -> list[str]:
    """Project what was just written to the ledger; it stands whether or not MLflow can be told.

    Parameters
    ----------
    what
        Names it, for example "the stop".

    Returns
    -------
    list of str
        What the projection found different, or why there was none.
    """
    try:
        with database_errors(root):
            return project()
    except Exception as error:  # whatever ails MLflow
        return [f"{what} is in force, but MLflow could not be told ({error}); the next command tells it"]


def _reserved(client: MlflowClient, model: str, registry: Registry) -> list[str]:
    """Remove MLflow's own tags first: with one of them MLflow finds the model no more."""
    changed = []
    # The client refuses to touch what it takes for a prompt; the store below it does not.
    store = client._get_registry_client().store
    for key in filter(is_reserved, sorted(registry.tags)):
        store.delete_registered_model_tag(model, key)
        changed.append(f"tag {key} of {model} is one that MLflow acts on: removed")
    for version, row in sorted(registry.versions.items()):
        for key in filter(is_reserved, sorted(row.tags)):
            store.delete_model_version_tag(model, str(version), key)
            changed.append(f"tag {key} of version {version} is one that MLflow acts on: removed")
    return changed


def _experiment(client: MlflowClient, model: str, state: State) -> list[str]:
    """Give the experiment of the last registration its name back; the server's fence refuses everything without it."""
    if not state.registrations:
        return []
    last = max(state.registrations.values(), key=lambda record: record.seq)
    found = client.get_experiment(client.get_run(str(last.payload["run_id"])).info.experiment_id)
    if found.name == model:
        return []
    client.rename_experiment(found.experiment_id, model)
    return [f"the experiment of {model} was renamed to {found.name}: set back"]


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


def _tags(root: Path, client: MlflowClient, model: str, registry: Registry, state: State) -> list[str]:
    changed = []
    for version, row in sorted(registry.versions.items()):
        if version not in state.registrations:
            continue
        wanted = version_tags(state, version)
        if _waivers(row.tags) != _waivers(wanted):
            # Before the tags: where this is interrupted they still differ, and the next command does both.
            changed += _describe(root, client, model, state, version)
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


def _waivers(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if key.startswith(_WAIVER)}


def _describe(root: Path, client: MlflowClient, model: str, state: State, version: int) -> list[str]:
    """Show the waivers where the reviewer looks first."""
    registration = state.registration(version)
    try:
        metrics = read_json(kept(root, registration.payload, "metrics.json") / "metrics.json")
    except GovernanceError as error:
        return [f"version {version} is not described again: {error}"]
    then = state.until(registration.at)
    metrics = count_every_trial(metrics, trials_ever(then, registration.payload.get("trials", ())))
    waivers = [record for _, record in sorted(state.waivers(version).items())]
    experiment = client.get_run(str(registration.payload["run_id"])).info.experiment_id
    text = describe(registration, metrics, experiment, state.rival(registration), waivers)
    client.update_model_version(model, str(version), text)
    return []


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
        tags[f"{_WAIVER}{gate}"] = f"{waiver.actor} until {waiver.payload['until']}: {waiver.payload['reason']}"
    return {key: for_mlflow(value, LONGEST_TAG) for key, value in tags.items()}


def _name(version: int | None) -> str:
    return "unset" if version is None else f"version {version}"
