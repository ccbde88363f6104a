"""The daily job: one session's signals from the champion, or a preview of them from the candidate.

Fails closed: whatever does not fit ends it with one line, and the previous output stays as it was.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core import numerics
from core.checkout import PARAMS, find_root
from core.code import running
from core.errors import BundleError, ConfigError, DataError, GovernanceError
from core.files import (
    atomic_directory,
    canonical_json,
    differences,
    digest_bytes,
    read_parquet,
    write_parquet,
    write_text,
)
from governance.outputs import is_empty, read_output, refuse_foreign, write_manifest
from governance.policy import load_policy
from models.bundle import Bundle
from models.outlook import with_outlook
from pipelines.console import Printer
from pipelines.day import prepare_day, resolve_session
from pipelines.inputs import Serving, load_serving
from pipelines.layout import BUNDLE, PREVIEW, SHADOW, SIGNALS
from pipelines.log import Log
from sources.base import Source
from sources.calendar import last_completed
from sources.closing import superseded

if TYPE_CHECKING:
    from governance.gates import GovernanceRule

_MARKS = {
    "preview": "# PREVIEW: not promoted, not for trading\n",
    "shadow": "# SHADOW: runs beside the champion, not for trading\n",
}
_MADE_BY = {
    "bundle": "by another champion",
    "version": "by another version",
    "shadow": "in shadow (the folder was copied here)",
    "data": "from other data (the source has changed since)",
    "code": "by other code",
    "stance": "with other stances (params.yaml: daily.stance has changed since)",
}
"""What decides whether signals stand: entries of a manifest, and what it means where one is another."""


@dataclass(eq=False)
class Job:
    """What the sessions of one command share."""

    root: Path
    settings: Serving
    source: Source
    log: Log
    now: datetime
    bundles: dict[str, Bundle] = field(default_factory=dict)

    @classmethod
    def open(cls, log: Log) -> Job:
        """The job of the checkout that the command is run in."""
        numerics.require()
        _import_trees()
        root = find_root()
        try:
            settings = load_serving(root / PARAMS)
            source = settings.open_source()
        except ConfigError:
            _refuse_stopped(root, load_policy(root))  # a stop is told first, whatever else is wrong
            raise
        return cls(root, settings, source, log, datetime.now(UTC))


def infer(as_of: str | None = None, force: bool = False, log: Log | None = None) -> Path:
    """Write the session's signals of its champion; return their folder.

    Parameters
    ----------
    as_of
        Session as YYYY-MM-DD, "latest" (the last session of the data), or None: the last session
        that the exchange has completed.
    force
        Write again even where the same signals stand already, or others made from other data or by
        another champion. A file that was not written with the signals is never removed.

    Raises
    ------
    SessionError
        The date is no session or lies outside the data.
    DataError
        The data is stale, thin or broken, or other signals stand for that session.
    BundleError
        The champion is not one that this code can feed.
    GovernanceError
        There is no valid champion, or a stop is in force.
    """
    job = Job.open(log or Log("infer"))
    return serve(job, resolve_session(as_of, job.source), force)


def serve(job: Job, session: np.datetime64, force: bool = False) -> Path:
    """Write the signals of one session, made by the champion of that session (see `infer`).

    The champion of a session is the version in production when the next session closed, which is the last moment at
    which the daily job could have been asked for it without a date; for the latest session that is now.
    """
    from governance.guard import serving

    job.log.begin(session)
    policy, at = job.settings.governance, None
    if session < last_completed(job.now):
        at = superseded(session)
    served = serving(
        job.root,
        policy.model,
        policy.require_second_person,
        job.now,
        at=at,
        require_signatures=policy.require_signatures,
    )
    job.log.know(version=served.version)
    waived = [
        f"served under a WAIVER of {waiver['gate']} by {waiver['by']} until {waiver['until']}: {waiver['reason']}"
        for waiver in served.waivers
    ]
    warnings = [*served.warnings, *waived]
    for warning in warnings:
        job.log.warning(warning)
    origin: dict[str, Any] = {
        "version": served.version,
        "bundle": served.digest,
        "promotion": f"{served.promotion.seq}:{served.promotion.hash}",
        "hindsight": served.hindsight,
        "warnings": warnings,
    }
    origin |= _check_code(job, served.version, served.code, warnings)
    bundle = job.bundles.get(served.digest) or _load(served.bundle_path, served.digest, served.version)
    job.bundles[served.digest] = bundle
    return _write_day(job, job.root / SIGNALS, bundle, session, origin, force)


def preview(as_of: str = "latest", log: Log | None = None) -> Path:
    """Write what the latest candidate would say, apart from the served signals and marked PREVIEW."""
    job = Job.open(log or Log("preview"))
    bundle = Bundle.load(job.root / BUNDLE, wait=False)
    origin = {"preview": True, "bundle": bundle.digest}
    session = resolve_session(as_of, job.source)
    job.log.begin(session)
    folder = _write_day(job, job.root / PREVIEW, bundle, session, origin, force=True)
    if not job.log.as_json:
        show(read_parquet(folder / "signals.parquet"), "PREVIEW, not promoted: the five best and the five worst")
    return folder


def shadow(as_of: str | None = None, force: bool = False, log: Log | None = None) -> list[Path]:
    """Write what the versions of `monitoring.shadow` would say, apart from the served signals; return the folders.

    Raises
    ------
    ConfigError
        No version is named.
    GovernanceError
        A version is unknown, its stored files are not those that were registered, or a stop is in force.
    DataError, SessionError, BundleError
        As in `infer`.
    """
    from governance.guard import file_problems, serving_code_of
    from governance.places import resolve
    from governance.promotion import version_number
    from governance.trust import state_now
    from pipelines.params import load_settings

    job = Job.open(log or Log("shadow"))
    named = load_settings(job.root / PARAMS).monitoring.shadow
    if not named:
        raise ConfigError("monitoring.shadow = []: name versions, or aliases such as candidate, to run in shadow")
    session = resolve_session(as_of, job.source)
    state = state_now(job.root, job.settings.governance)
    folders = []
    for name in named:
        job.log.begin(session)
        version = version_number(job.root, job.settings.governance, str(name))
        job.log.know(version=version)
        registration = state.registration(version).payload
        problems = file_problems(job.root, registration)
        if problems:
            raise GovernanceError(f"version {version} may not run in shadow: {problems[0]}: register it again")
        bundle = _load(resolve(registration["bundle_uri"], job.root), registration["bundle_digest"], version)
        warnings: list[str] = []
        code = _check_code(job, version, serving_code_of(job.root, registration), warnings)
        origin = code | {
            "shadow": True,
            "version": version,
            "bundle": registration["bundle_digest"],
            "warnings": warnings,
        }
        folders.append(_write_day(job, job.root / SHADOW / f"version={version}", bundle, session, origin, force))
    return folders


def _load(folder: Path, digest: str, version: int) -> Bundle:
    """The bundle of a version, and no other."""
    bundle = Bundle.load(folder, wait=False)
    if bundle.digest != digest:
        raise BundleError(
            f"{folder} holds the bundle {bundle.digest[:12]}, version {version} is {digest[:12]}: it was changed after "
            "it was checked; restore mlruns/ from a backup"
        )
    return bundle


def _check_code(job: Job, version: int, code: Mapping[str, str] | None, warnings: list[str]) -> dict[str, Any]:
    """Refuse to serve a version by other code than it was registered with; the code's identity, for the manifest.

    Raises
    ------
    BundleError
        A file that decides signals differs, and `daily.accepted_code` does not name the code of now.
    """
    if code is None:
        warnings.append(f"version {version} was registered without the digests of its code: it is not compared")
        job.log.warning(warnings[-1])
        return {}
    now = running(code)
    digest = digest_bytes(canonical_json(now).encode())
    if differ := differences(code, now):
        what = f"{differ[0]} and {len(differ) - 1} more" if differ[1:] else differ[0]
        if job.settings.daily.accepted_code != digest:
            raise BundleError(
                f"the code that would serve version {version} is not what it was registered with: {what}; put the code "
                "back (the commit is in its lineage), or train and register again; to serve it by this code, set "
                f"params.yaml: daily.accepted_code: {digest}"
            )
        warnings.append(f"version {version} is served by other code than it was registered with ({what}), as accepted")
        job.log.warning(warnings[-1])
    return {"code": digest}


def show(signals: pd.DataFrame, title: str, ends: int = 5) -> None:
    """Print the first and the last ranks of a day."""
    ordered = signals.sort_values("rank")
    rows = pd.concat([ordered.head(ends), ordered.tail(ends)])
    columns = ["rank", "symbol", "signal", "expected_return", "interval_low", "interval_high", "p_wrong", "stance"]
    columns.append("top_reasons")
    told = rows[columns].map(lambda value: f"{value:.4f}" if isinstance(value, float) else str(value))
    Printer().table(title, columns, told.to_numpy().tolist())


def _import_trees() -> None:
    """Import LightGBM without its wrappers for scikit-learn: they serve nobody here and take a second to load."""
    if "lightgbm" in sys.modules or "sklearn" in sys.modules:
        return
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    try:
        import lightgbm  # noqa: F401
    finally:
        del sys.modules["sklearn"]


def _write_day(
    job: Job, out: Path, bundle: Bundle, session: np.datetime64, origin: Mapping[str, Any], force: bool
) -> Path:
    day = prepare_day(job.source, bundle, session)
    until = bundle.profile["trained_until"]
    in_sample = until is not None and str(session) <= until
    if in_sample:
        job.log.warning(f"{session} is in sample: the bundle learned from outcomes up to {until}")
    rule = job.settings.daily.stance
    folder = out / f"date={session}"
    refuse_foreign(folder)
    manifest = {
        **origin,
        "date": str(session),
        "data": day.data_digest,
        "symbols": len(day.own),
        "in_sample": in_sample,
        "stance": rule.model_dump(),
    }
    where = folder.relative_to(job.root)
    if not force and _stands(folder, manifest, job.log):
        message = f"{where} already holds these signals: nothing to do (--force writes them again)"
        job.log.result("unchanged", message, exit_code=0, folder=str(where))
        return folder
    predicted = bundle.predict(day.rows, day.scale, day.session)
    signals, market = with_outlook(bundle, day.rows, day.session, predicted, rule)
    if not origin.get("preview"):
        _refuse_stopped(job.root, job.settings.governance)  # again: one may have been called since
    publish(folder, signals, {**manifest, "market": market})
    message = f"{len(signals)} signals for {session} in {where}"
    job.log.result("written", message, exit_code=0, folder=str(where), symbols=len(signals))
    return folder


def publish(folder: Path, signals: pd.DataFrame, manifest: Mapping[str, Any]) -> None:
    """Put a day's signals and their manifest in the place of the folder, whole or not at all.

    Raises
    ------
    StorageError
        The disk refused; what stood there stands.
    """
    with atomic_directory(folder) as temporary:
        write_parquet(temporary / "signals.parquet", signals)
        mark = next((line for kind, line in _MARKS.items() if manifest.get(kind)), "")
        write_text(temporary / "signals.csv", mark + signals.to_csv(index=False, float_format="%.6g"))
        write_manifest(temporary, manifest)


def whole_day(folder: Path) -> dict[str, Any] | None:
    """Manifest of a day's folder; None unless it is there and every file is as it was written."""
    try:
        manifest, problems = read_output(folder)
    except DataError:
        return None
    return None if problems else manifest


def _refuse_stopped(root: Path, policy: GovernanceRule) -> None:
    from governance.guard import refuse_stopped
    from governance.trust import state_now

    refuse_stopped(state_now(root, policy))


def _stands(folder: Path, manifest: Mapping[str, Any], log: Log) -> bool:
    """Whether the folder holds, whole, the signals that the manifest describes.

    Raises
    ------
    DataError
        It holds, whole or not, signals made by another bundle, from other data or by another rule of stances, or its
        manifest does not tell what made them.
    """
    if is_empty(folder):
        return False
    try:
        found, problems = read_output(folder)
    except DataError as error:
        raise DataError(f"signals for {manifest['date']} were already served, by what is unknown: {error}") from error
    for part, reason in _MADE_BY.items():
        if found.get(part) != manifest.get(part):
            changed = f" ({folder.name}/{problems[0]} after it was written)" if problems else ""
            raise DataError(
                f"signals for {manifest['date']} were already served {reason}{changed}: look at the difference, then "
                "pass --force to replace them"
            )
    if problems:
        log.warning(f"{folder.name} is not as it was written ({problems[0]}): it is written again")
    return not problems
