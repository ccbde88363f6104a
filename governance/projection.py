"""Project the files of a training into MLflow, once a bundle.

The stages write files; this writes nothing but MLflow and the ledger, and is keyed on the bundle's
digest: a second call finds the first one's version. A killed call leaves a parent run marked open,
which the next call deletes before it starts again; once the version's row exists, the next call
completes it instead.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import GovernanceError
from core.files import digest_tree, read_json
from governance import runs
from governance.chain import Record
from governance.describe import describe
from governance.evidence import Training, gather, store_evidence
from governance.gates import GovernanceRule, Verdict, evaluate_gates
from governance.keys import pen_for
from governance.ledger import Ledger
from governance.packing import log_model
from governance.places import APART, LEDGER, resolve
from governance.policy import uncommitted_rules
from governance.registry import Registry, read_registry
from governance.reports import log_tear_sheet
from governance.seal import broken, seal
from governance.state import State
from governance.store import client as open_client
from governance.store import ensure_store, experiment, governing, tracked
from governance.sync import sync, synced
from governance.trials import count_every_trial, trial_digests, trials_ever
from governance.trust import read_state

if TYPE_CHECKING:
    from mlflow import MlflowClient

_OPEN, _DONE = "open", "done"


@dataclass(frozen=True)
class Registration:
    """A registered version and how it stands to the gates.

    Parameters
    ----------
    created
        False where the same evidence was registered before and nothing was added.
    notes
        What was found different in MLflow and set back.
    """

    version: int
    run_id: str
    bundle_digest: str
    author: str
    verdicts: tuple[Verdict, ...]
    created: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Home:
    """Where a bundle lives in MLflow."""

    version: int
    run_id: str
    model_uri: str


def project(
    root: Path, policy: GovernanceRule, training: Training, lineage: Mapping[str, Any], horizon: int = 5
) -> Registration:
    """Register the bundle of a training, or find it registered.

    Raises
    ------
    BundleError
        The bundle has no manifest or its files do not match it.
    DataError
        A report is missing.
    GovernanceError
        The ledger is broken.
    StorageError
        The disk refused, or another command holds the registry.
    """
    manifest = training.checked_manifest()
    with governing(root):
        client = open_client(root)
        notes = synced(root, policy, client)
        ledger = Ledger(root / LEDGER)
        state = read_state(root, ledger.read(), policy.require_signatures)
        notes += [*state.doubts, *uncommitted_rules(root)]
        digest = manifest["digest"]
        evidence = gather(root, training, lineage, state, digest, horizon)
        trials = trial_digests(training.tune)
        evidence = replace(evidence, metrics=count_every_trial(evidence.metrics, trials_ever(state, trials)))
        verdicts = evaluate_gates(policy, evidence)
        fingerprint = training.fingerprint(policy)
        known = state.of_bundle(digest)
        record = None if known is None or _adds(known, fingerprint, lineage) else known
        created = record is None
        if record is None:
            _require_same_past(state, read_registry(root, policy.model))
            home = _home(root, client, policy, training, lineage, manifest, known)
            training.require_same(resolve(f"{home.model_uri}/artifacts/{training.bundle.name}", root))
            files = seal(resolve(home.model_uri, root))
            if known is not None and files != known.payload["model_files"]:
                raise GovernanceError(
                    f"version {home.version} has other files than record {known.seq} registered: "
                    f"{broken(resolve(home.model_uri, root), known.payload['model_files'])[0]}; restore mlruns/ from a "
                    "backup, a version is registered with one set of files only"
                )
            evidence_uri = store_evidence(client, root, home.run_id, training, lineage, policy, verdicts)
            author = known.payload["author"] if known else lineage["author"]
            record = ledger.append(
                "registered",
                lineage["author"],
                {
                    "version": home.version,
                    "run_id": home.run_id,
                    "bundle_digest": digest,
                    "author": author,
                    "model_uri": home.model_uri,
                    "bundle_uri": f"{home.model_uri}/artifacts/{training.bundle.name}",
                    "model_files": files,
                    "evidence_uri": evidence_uri,
                    "evidence_files": seal(resolve(evidence_uri, root)),
                    "reports": _pages(training),
                    "evidence": fingerprint,
                    "policy": policy.digest,
                    "git": {key: lineage["git"][key] for key in ("commit", "clean")},
                    "dvc_lock": (lineage["dvc_lock"] or {}).get("sha256"),
                    "trials": list(trials),
                    "gates": [verdict.to_dict() for verdict in verdicts],
                },
                pen_for(root, lineage["author"], decides=False, required=False),
            )
        _finish(root, client, ledger, policy, record, evidence.metrics)
        notes = [*notes, *log_tear_sheet(root, client, str(record.payload["run_id"]), training.reports)]
        return _result(record, created, notes)


def _finish(
    root: Path, client: MlflowClient, ledger: Ledger, policy: GovernanceRule, record: Record, metrics: Mapping[str, Any]
) -> None:
    """What follows from a registration; done again, it changes nothing."""
    payload = record.payload
    version, run_id = str(payload["version"]), str(payload["run_id"])
    client.set_registered_model_alias(policy.model, "candidate", version)
    run = client.get_run(run_id)
    if run.data.tags.get("projection") == _DONE:
        return
    state = read_state(root, ledger.read(), policy.require_signatures)
    opened = {found.payload["bundle_digest"] for found in state.chain.of_kind("holdout_opened")}
    if metrics.get("holdout") and payload["bundle_digest"] not in opened:
        pen = pen_for(root, record.actor, decides=False, required=False)
        ledger.append("holdout_opened", record.actor, {"bundle_digest": payload["bundle_digest"]}, pen)
    waivers = [waiver for _, waiver in sorted(state.waivers(int(version)).items())]
    text = describe(record, metrics, run.info.experiment_id, state.rival(record), waivers)
    client.update_model_version(policy.model, version, text)
    sync(root, policy, client)
    client.set_tag(run_id, "projection", _DONE)


def _require_same_past(state: State, registry: Registry) -> None:
    """A database that has forgotten versions would give their numbers to others."""
    forgotten = max(state.registrations, default=0)
    if registry.highest < forgotten:
        raise GovernanceError(
            f"the MLflow database knows versions up to {registry.highest}, the ledger up to {forgotten}: "
            "the database was replaced; restore mlruns/ from a backup"
        )


def _adds(known: Record, fingerprint: str, lineage: Mapping[str, Any]) -> bool:
    """Whether registering a known bundle again says anything new.

    A tree that was clean once proves where the bundle comes from; a later edit takes nothing away.
    """
    if known.payload["evidence"] != fingerprint:
        return True
    return lineage["git"]["clean"] and not lineage["problems"] and not _reproducible(known)


def _reproducible(record: Record) -> bool:
    """Whether no gate about the bundle's origin failed."""
    failed = {gate["gate"] for gate in record.payload["gates"] if not gate["passed"]}
    return bool(record.payload["git"]["clean"]) and "lineage" not in failed


def _home(
    root: Path,
    client: MlflowClient,
    policy: GovernanceRule,
    training: Training,
    lineage: Mapping[str, Any],
    manifest: Mapping[str, Any],
    known: Record | None,
) -> _Home:
    """Where the bundle lives in MLflow; made where a call before this one did not."""
    digest = manifest["digest"]
    if known is not None:
        home = _Home(int(known.payload["version"]), str(known.payload["run_id"]), str(known.payload["model_uri"]))
        client.set_tag(home.run_id, "projection", _OPEN)
        _log_reports(client, home.run_id, training, lineage)
        return home
    for row in client.search_model_versions(f"name = '{policy.model}'"):
        if row.tags.get("bundle.digest") == digest:
            return _Home(int(row.version), str(row.run_id), _location(client, policy.model, row.version))
    where = experiment(client, policy.model)
    _clear_unfinished(root, client, where, digest)
    run_id = _log_runs(client, where, training, lineage, digest)
    model = log_model(root, run_id, training.served_model, training.bundle, manifest)
    _ensure_model(client, policy.model)
    # The registry looks a `models:/` source up at MLflow's process-wide address.
    with tracked(ensure_store(root)):
        row = client.create_model_version(
            policy.model,
            source=model.model_uri,
            run_id=run_id,
            model_id=model.model_id,
            tags=_origin_tags(lineage, digest),
        )
    return _Home(int(row.version), run_id, _location(client, policy.model, row.version))


def _location(client: MlflowClient, model: str, version: int | str) -> str:
    return client.get_model_version_download_uri(model, str(version)).rstrip("/")


def _origin_tags(lineage: Mapping[str, Any], digest: str) -> dict[str, str]:
    git = lineage["git"]
    return {
        "bundle.digest": digest,
        "author": lineage["author"],
        "git.commit": git["commit"] or "none",
        "git.clean": str(git["clean"]).lower(),
        "dvc.lock": (lineage["dvc_lock"] or {}).get("sha256", "none"),
        "trials": str(lineage["trials"]["total"]),
    }


def _ensure_model(client: MlflowClient, name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(
            name, description="Governed equity signals. The ledger decides which version serves; see `signals status`."
        )


def _clear_unfinished(root: Path, client: MlflowClient, where: str, digest: str) -> None:
    """Delete what a killed projection of the same bundle left: its runs and its model."""
    for parent in client.search_runs([where], f"tags.`bundle.digest` = '{digest}' AND tags.projection = '{_OPEN}'"):
        for model in client.search_logged_models([where], f"source_run_id = '{parent.info.run_id}'"):
            client.delete_logged_model(model.model_id)
            shutil.rmtree(resolve(model.artifact_location, root), ignore_errors=True)
        for layer in client.search_runs([where], f"tags.mlflow.parentRunId = '{parent.info.run_id}'"):
            for trial in client.search_runs([where], f"tags.mlflow.parentRunId = '{layer.info.run_id}'"):
                client.delete_run(trial.info.run_id)
            client.delete_run(layer.info.run_id)
        client.delete_run(parent.info.run_id)


def _log_runs(client: MlflowClient, where: str, training: Training, lineage: Mapping[str, Any], digest: str) -> str:
    """The parent run with the reports, a run a layer, a run a trial; return the parent's id."""
    tags = {"projection": _OPEN, "level": "stack", "mlflow.user": lineage["author"], **_origin_tags(lineage, digest)}
    if lineage["git"]["commit"]:
        tags["mlflow.source.git.commit"] = lineage["git"]["commit"]
    run_id = client.create_run(where, tags=tags, run_name=f"stack-{digest[:8]}").info.run_id
    runs.log_datasets(client, run_id, lineage)
    metrics = _log_reports(client, run_id, training, lineage)
    for layer in training.layers:
        scores = {part: v[layer] for part, v in metrics.items() if isinstance(v, dict) and layer in v}
        runs.log_layer(client, where, run_id, layer, training.tune / layer, training.train / layer, scores)
    client.set_terminated(run_id)
    return run_id


def _pages(training: Training) -> dict[str, str]:
    """SHA-256 of every report that the run shows to a reviewer, by its path among the run's files."""
    files = digest_tree(training.reports)
    return {name: digest for name, digest in files.items() if name.partition("/")[0] not in APART}


def _log_reports(
    client: MlflowClient, run_id: str, training: Training, lineage: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Metrics, parameters and every file of the reports; return the metrics."""
    metrics = read_json(training.reports / "metrics.json")
    time = client.get_run(run_id).info.start_time
    params = runs.params_of(lineage["params"]["content"])
    known = client.get_run(run_id).data.params
    runs.log_in_batches(client, run_id, runs.metrics_of(metrics, time), [p for p in params if p.key not in known])
    for entry in sorted(training.reports.iterdir()):
        if entry.name in APART:
            continue
        if entry.is_dir():
            client.log_artifacts(run_id, str(entry), entry.name)
        else:
            client.log_artifact(run_id, str(entry))
    return metrics


def _result(record: Record, created: bool, notes: list[str]) -> Registration:
    payload = record.payload
    return Registration(
        version=int(payload["version"]),
        run_id=str(payload["run_id"]),
        bundle_digest=str(payload["bundle_digest"]),
        author=str(payload["author"]),
        verdicts=tuple(Verdict(**gate) for gate in payload["gates"]),
        created=created,
        notes=tuple(notes),
    )
