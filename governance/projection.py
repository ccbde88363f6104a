"""Project the files of a training into MLflow, once a bundle.

The stages write files; this writes nothing but MLflow and the ledger, and is keyed on the bundle's
digest: a second call finds the first one's version. A killed call leaves a parent run marked open,
which the next call deletes before it starts again; once the version's row exists, the next call
completes it instead.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import BundleError, GovernanceError
from core.files import canonical_json, digest_bytes, digest_file, read_json, read_parquet, write_json
from governance import runs
from governance.describe import describe
from governance.gates import Champion, Evidence, GovernanceRule, Verdict, evaluate_gates
from governance.ledger import Ledger, Record
from governance.packing import log_model
from governance.places import LEDGER, resolve
from governance.registry import Registry, read_registry
from governance.seal import digest_of, seal
from governance.state import State
from governance.store import client as open_client
from governance.store import ensure_store, experiment, governing, tracked
from governance.sync import sync

if TYPE_CHECKING:
    from mlflow import MlflowClient

_OPEN, _DONE = "open", "done"
_EVIDENCE = "governance"


@dataclass(frozen=True)
class Training:
    """The folders that a training left behind.

    Parameters
    ----------
    bundle
        The bundle with its manifest.json.
    reports
        metrics.json, daily_ic.parquet, invariances.json, report.html, data_quality/, plots/.
    tune, train
        One folder a layer each.
    served_model
        The models-from-code file that MLflow loads the bundle with.
    """

    bundle: Path
    reports: Path
    tune: Path
    train: Path
    served_model: Path


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
    manifest = _checked_manifest(training.bundle)
    with governing(root):
        client = open_client(root)
        notes = sync(root, policy.model, client)
        ledger = Ledger(root / LEDGER)
        state = State(ledger.read())
        digest = manifest["digest"]
        evidence = _evidence(root, policy, training, lineage, state, digest, horizon)
        verdicts = evaluate_gates(policy, evidence)
        fingerprint = _fingerprint(policy, training)
        known = state.of_bundle(digest)
        if known is not None and not _adds(known, fingerprint, lineage):
            version = int(known.payload["version"])
            _point_candidate(client, policy.model, version)
            return _result(known, False, notes)
        _require_same_past(state, read_registry(root, policy.model))
        if known is not None:
            version, run_id = int(known.payload["version"]), str(known.payload["run_id"])
            model_uri = str(known.payload["model_uri"])
        else:
            version, run_id, model_uri = _version_of(root, client, policy, training, lineage, manifest)
        bundle_uri = f"{model_uri}/artifacts/{training.bundle.name}"
        _require_same_bundle(resolve(bundle_uri, root), training.bundle)
        evidence_uri = _log_evidence(client, root, run_id, training, lineage, verdicts, policy, evidence)
        record = ledger.append(
            "registered",
            lineage["author"],
            {
                "version": version,
                "run_id": run_id,
                "bundle_digest": digest,
                "author": lineage["author"],
                "model_uri": model_uri,
                "bundle_uri": bundle_uri,
                "model_files": seal(resolve(model_uri, root)),
                "evidence_uri": evidence_uri,
                "evidence_files": seal(resolve(evidence_uri, root)),
                "evidence": fingerprint,
                "policy": policy.digest,
                "git": {key: lineage["git"][key] for key in ("commit", "clean")},
                "dvc_lock": (lineage["dvc_lock"] or {}).get("sha256"),
                "gates": [verdict.to_dict() for verdict in verdicts],
            },
        )
        _record_holdout(ledger, state, lineage, evidence.metrics, digest)
        client.update_model_version(policy.model, str(version), describe(record, evidence.metrics))
        client.set_tag(run_id, "projection", _DONE)
        _point_candidate(client, policy.model, version)
        sync(root, policy.model, client)
        return _result(record, True, notes)


def _checked_manifest(bundle: Path) -> dict[str, Any]:
    path = bundle / "manifest.json"
    if not path.is_file():
        raise BundleError(f"{path} is missing: run `dvc repro`")
    manifest = read_json(path)
    for name, digest in manifest["files"].items():
        file = bundle / name
        if not file.is_file() or digest_file(file) != digest:
            raise BundleError(f"{file} does not match the bundle's manifest: run `dvc repro` to make it again")
    return manifest


def _evidence(
    root: Path,
    policy: GovernanceRule,
    training: Training,
    lineage: Mapping[str, Any],
    state: State,
    digest: str,
    horizon: int,
) -> Evidence:
    return Evidence(
        metrics=read_json(training.reports / "metrics.json"),
        invariances=read_json(training.reports / "invariances.json"),
        lineage=lineage,
        bundle_digest=digest,
        daily_ic=read_parquet(training.reports / "daily_ic.parquet"),
        champion=champion_of(root, state),
        horizon=horizon,
    )


def champion_of(root: Path, state: State) -> Champion | None:
    """The champion's stored daily rank IC, for the gate that compares with it."""
    if state.champion is None:
        return None
    registration = state.registration(int(state.champion.payload["version"])).payload
    daily_ic = read_parquet(resolve(registration["evidence_uri"], root) / "daily_ic.parquet")
    return Champion(int(registration["version"]), registration["bundle_digest"], daily_ic)


def _require_same_past(state: State, registry: Registry) -> None:
    """A database that has forgotten versions would give their numbers to others."""
    forgotten = max(state.registrations, default=0)
    if registry.highest < forgotten:
        raise GovernanceError(
            f"the MLflow database knows versions up to {registry.highest}, the ledger up to {forgotten}: "
            "the database was replaced; restore mlruns/ from a backup"
        )


def _require_same_bundle(stored: Path, bundle: Path) -> None:
    if seal(stored) != seal(bundle):
        raise BundleError(
            f"the stored copy of {bundle} differs from it: it was changed after an interrupted registration"
        )


def _fingerprint(policy: GovernanceRule, training: Training) -> str:
    """What an approval approves: the policy and the reports it was judged by."""
    names = ("metrics.json", "invariances.json", "daily_ic.parquet")
    return digest_bytes(
        canonical_json([policy.digest, *(digest_file(training.reports / name) for name in names)]).encode()
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


def _version_of(
    root: Path,
    client: MlflowClient,
    policy: GovernanceRule,
    training: Training,
    lineage: Mapping[str, Any],
    manifest: Mapping[str, Any],
) -> tuple[int, str, str]:
    """The version's number, run and model address; made where a call before this one did not."""
    digest = manifest["digest"]
    for row in client.search_model_versions(f"name = '{policy.model}'"):
        if row.tags.get("bundle.digest") == digest:
            return int(row.version), row.run_id, _location(client, policy.model, row.version)
    where = experiment(client, policy.model)
    _clear_unfinished(root, client, where, digest)
    run_id = _log_runs(client, where, training, lineage, manifest)
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
    return int(row.version), run_id, _location(client, policy.model, row.version)


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


def _log_runs(
    client: MlflowClient,
    where: str,
    training: Training,
    lineage: Mapping[str, Any],
    manifest: Mapping[str, Any],
) -> str:
    digest = manifest["digest"]
    tags = {"projection": _OPEN, "level": "stack", "mlflow.user": lineage["author"], **_origin_tags(lineage, digest)}
    if lineage["git"]["commit"]:
        tags["mlflow.source.git.commit"] = lineage["git"]["commit"]
    run = client.create_run(where, tags=tags, run_name=f"stack-{digest[:8]}")
    run_id = run.info.run_id
    metrics = read_json(training.reports / "metrics.json")
    runs.log_in_batches(
        client, run_id, runs.metrics_of(metrics, run.info.start_time), runs.params_of(lineage["params"]["content"])
    )
    runs.log_datasets(client, run_id, lineage)
    for entry in sorted(training.reports.iterdir()):
        if entry.is_dir():
            client.log_artifacts(run_id, str(entry), entry.name)
        else:
            client.log_artifact(run_id, str(entry))
    layers = sorted(
        {
            path.name
            for folder in (training.tune, training.train)
            if folder.is_dir()
            for path in folder.iterdir()
            if path.is_dir()
        }
    )
    for layer in layers:
        scores = {
            part: values[layer] for part, values in metrics.items() if isinstance(values, dict) and layer in values
        }
        runs.log_layer(client, where, run_id, layer, training.tune / layer, training.train / layer, scores)
    client.set_terminated(run_id)
    return run_id


def _log_evidence(
    client: MlflowClient,
    root: Path,
    run_id: str,
    training: Training,
    lineage: Mapping[str, Any],
    verdicts: list[Verdict],
    policy: GovernanceRule,
    evidence: Evidence,
) -> str:
    """Store what the decision rests on, under one address whose files the ledger seals."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder)
        write_json(
            temporary / "gates.json", {"policy": policy.model_dump(), "verdicts": [v.to_dict() for v in verdicts]}
        )
        write_json(temporary / "lineage.json", dict(lineage))
        for name in ("metrics.json", "invariances.json", "daily_ic.parquet"):
            shutil.copyfile(training.reports / name, temporary / name)
        place = f"{_EVIDENCE}/{digest_of(seal(temporary))[:12]}"
        client.log_artifacts(run_id, folder, place)
    passed = [(f"gate.{v.gate}", float(v.passed)) for v in verdicts]
    time = client.get_run(run_id).info.start_time
    runs.log_in_batches(client, run_id, runs.metrics_of(dict(passed), time), [])
    return f"{client.get_run(run_id).info.artifact_uri}/{place}"


def _record_holdout(
    ledger: Ledger, state: State, lineage: Mapping[str, Any], metrics: Mapping[str, Any], digest: str
) -> None:
    """Count each new bundle whose holdout scores were looked at."""
    opened = {record.payload["bundle_digest"] for record in state.chain.of_kind("holdout_opened")}
    if metrics.get("holdout") and digest not in opened:
        ledger.append("holdout_opened", lineage["author"], {"bundle_digest": digest})


def _point_candidate(client: MlflowClient, model: str, version: int) -> None:
    client.set_registered_model_alias(model, "candidate", str(version))


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
