"""The evidence of a version: gathered from the reports, judged by the gates, kept with the version."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from core.errors import BundleError, DataError, GovernanceError
from core.files import FilesInMemory, canonical_json, digest_bytes, digest_file, read_json, read_parquet, write_json
from governance import runs
from governance.gates import Champion, Evidence, GovernanceRule, Verdict
from governance.places import resolve
from governance.seal import broken, digest_of, read_sealed, seal
from governance.state import State

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PLACE = "governance"
_DAILY_IC = "daily_ic.parquet"
_DAILY = "daily.parquet"


@dataclass(frozen=True)
class Training:
    """The folders that a training left behind.

    Parameters
    ----------
    bundle
        The bundle with its manifest.json.
    reports
        metrics.json, invariances.json, evaluation/daily_ic.parquet, evaluation/daily.parquet where there
        is one, pages and plots.
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

    @property
    def judged_by(self) -> tuple[Path, Path, Path]:
        """The reports that the gates read: metrics, invariances, daily rank IC."""
        return (
            self.reports / "metrics.json",
            self.reports / "invariances.json",
            self.reports / "evaluation" / _DAILY_IC,
        )

    @property
    def kept(self) -> tuple[Path, ...]:
        """The reports that stay with the version: those the gates read, and what later versions are compared with."""
        daily = self.reports / "evaluation" / _DAILY
        return (*self.judged_by, *([daily] if daily.is_file() else []))

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that were tuned or trained, sorted."""
        folders = [path for parent in (self.tune, self.train) for path in parent.glob("*/")]
        return tuple(sorted({path.name for path in folders}))

    def fingerprint(self, policy: GovernanceRule) -> str:
        """What an approval approves: the policy, and the reports judged by it."""
        return digest_bytes(canonical_json([policy.digest, *map(digest_file, self.judged_by)]).encode())

    def checked_manifest(self) -> dict[str, Any]:
        """The bundle's manifest, with every file checked against it.

        Raises
        ------
        BundleError
            A file is missing, added or changed.
        """
        # Imported here: it brings the layers and their libraries.
        from models.bundle import MANIFEST, read_manifest

        manifest = read_manifest(self.bundle)
        problems = broken(self.bundle, {**manifest["files"], MANIFEST: digest_file(self.bundle / MANIFEST)})
        if problems:
            raise BundleError(f"{self.bundle}: {problems[0]}: make the bundle again with `dvc repro`")
        return manifest

    def require_same(self, stored: Path) -> None:
        """Refuse a stored copy of the bundle that is not the bundle.

        Raises
        ------
        BundleError
            It differs.
        """
        if seal(stored) != seal(self.bundle):
            raise BundleError(f"{stored} differs from {self.bundle}: it was changed after an interrupted registration")


def gather(
    root: Path, training: Training, lineage: Mapping[str, Any], state: State, digest: str, horizon: int
) -> Evidence:
    """Everything the gates look at, the champion included.

    Raises
    ------
    DataError
        A report is missing.
    """
    metrics, invariances, daily_ic = training.judged_by
    return Evidence(
        metrics=read_json(metrics),
        invariances=read_json(invariances),
        lineage=lineage,
        bundle_digest=digest,
        daily_ic=read_parquet(daily_ic),
        champion=champion_of(root, state),
        horizon=horizon,
    )


def champion_of(root: Path, state: State) -> Champion | None:
    """The champion's stored daily rank IC, for the gate that compares with it.

    Raises
    ------
    GovernanceError
        It is missing or was changed.
    """
    if state.champion is None:
        return None
    found = state.promoted_registration(state.champion)
    if found is None:
        raise GovernanceError("the ledger has no registration of the champion: see `signals status`")
    registration = found.payload
    daily_ic = read_parquet(kept(root, registration, _DAILY_IC) / _DAILY_IC)
    return Champion(int(registration["version"]), registration["bundle_digest"], daily_ic)


def kept(root: Path, registration: Mapping[str, Any], *names: str) -> FilesInMemory:
    """Named files of a version's stored evidence, read once and found to be those that were registered.

    Raises
    ------
    GovernanceError
        One is missing or was changed.
    """
    folder = resolve(registration["evidence_uri"], root)
    found, problems = read_sealed(folder, registration["evidence_files"], *names)
    _require_unbroken(registration, problems)
    return found


def _require_unbroken(registration: Mapping[str, Any], problems: Sequence[str]) -> None:
    if problems:
        raise GovernanceError(
            f"version {registration['version']}: {problems[0]} since it was registered: restore mlruns/ from a backup"
        )


@dataclass(frozen=True)
class Stored:
    """A registered version, as far as its stored evidence tells what it did day by day.

    Parameters
    ----------
    params
        The parameters that made the bundle.
    daily
        Its reports/evaluation/daily.parquet.
    """

    version: int
    bundle_digest: str
    author: str
    params: Mapping[str, Any]
    daily: pd.DataFrame

    @property
    def horizon(self) -> int:
        """Sessions that an outcome spans."""
        return int(self.params["target"]["horizon"])


def stored(root: Path, state: State, version: int) -> Stored:
    """Read a version's daily record from what was kept at its registration, checked against the ledger.

    Raises
    ------
    DataError
        It was registered without a daily record.
    GovernanceError
        The ledger knows no such version, or a stored file is missing or was changed.
    """
    payload = state.registration(version).payload
    if _DAILY not in payload["evidence_files"]:
        raise DataError(
            f"version {version} was registered without a daily record ({_DAILY}), so it cannot be compared: with its "
            "bundle on disk, run the stage evaluate (`dvc repro evaluate`) and `signals register` again"
        )
    evidence, model = (resolve(payload[key], root) for key in ("evidence_uri", "model_uri"))
    bundle = resolve(payload["bundle_uri"], root)
    params = (bundle / "params.json").relative_to(model).as_posix()
    problems = broken(evidence, payload["evidence_files"])
    problems += broken(model, {params: payload["model_files"].get(params, "")}, exact=False)
    _require_unbroken(payload, problems)
    return Stored(
        version=version,
        bundle_digest=str(payload["bundle_digest"]),
        author=str(payload["author"]),
        params=read_json(model / params),
        daily=read_parquet(evidence / _DAILY),
    )


def store_evidence(
    client: MlflowClient,
    root: Path,
    run_id: str,
    training: Training,
    lineage: Mapping[str, Any],
    policy: GovernanceRule,
    verdicts: Sequence[Verdict],
) -> str:
    """Keep what the decision rests on under an address of its own; return the address.

    The address names the content, so that evidence gathered again never overwrites what an earlier
    decision rested on.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_json(folder / "gates.json", {"policy": policy.model_dump(), "verdicts": [v.to_dict() for v in verdicts]})
        write_json(folder / "lineage.json", dict(lineage))
        for report in training.kept:
            shutil.copyfile(report, folder / report.name)
        place = f"{_PLACE}/{digest_of(seal(folder))[:12]}"
        client.log_artifacts(run_id, name, place)
    run = client.get_run(run_id)
    passed = {f"gate.{verdict.gate}": float(verdict.passed) for verdict in verdicts}
    runs.log_in_batches(client, run_id, runs.metrics_of(passed, run.info.start_time), [])
    return f"{run.info.artifact_uri}/{place}"
