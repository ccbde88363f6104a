"""The daily job: one session's signals from the champion, or a preview of them from the candidate.

Fails closed: whatever does not fit ends it with one line, and the previous output stays as it was.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import ConfigError, DataError, GovernanceError
from core.files import atomic_directory, digest_tree, read_json, read_parquet, write_json, write_parquet, write_text
from governance.outputs import manifest_digest
from governance.policy import load_policy
from models.bundle import Bundle
from pipelines.console import Printer
from pipelines.day import prepare_day, resolve_session
from pipelines.layout import BUNDLE, PARAMS, PREVIEW, SHADOW, SIGNALS, find_root
from pipelines.params import load_settings

_MARKS = {
    "preview": "# PREVIEW: not promoted, not for trading\n",
    "shadow": "# SHADOW: runs beside the champion, not for trading\n",
}


def infer(as_of: str | None = None, force: bool = False) -> Path:
    """Write the session's signals of the champion; return their folder.

    Parameters
    ----------
    as_of
        Session as YYYY-MM-DD, "latest" (the last session of the data), or None: the last session
        that the exchange has completed.
    force
        Write again even where the same signals stand already, or others made from other data or by
        another champion.

    Raises
    ------
    SessionError
        The date is no session or lies outside the data.
    DataError
        The data is stale, thin or broken, or other signals stand for that session.
    BundleError
        The champion is not one that this code can feed.
    GovernanceError
        There is no valid champion.
    """
    from governance.guard import serving

    root = find_root()
    policy = load_policy(root)
    served = serving(root, policy.model, policy.require_second_person, require_signatures=policy.require_signatures)
    waived = [
        f"served under a WAIVER of {waiver['gate']} by {waiver['by']} until {waiver['until']}: {waiver['reason']}"
        for waiver in served.waivers
    ]
    warnings = [*served.warnings, *waived]
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    promoted = f"{served.promotion.seq}:{served.promotion.hash}"
    origin = {"version": served.version, "bundle": served.digest, "promotion": promoted, "warnings": warnings}
    return _write_day(root, root / SIGNALS, Bundle.load(served.bundle_path), as_of, origin, force)


def preview(as_of: str = "latest") -> Path:
    """Write what the latest candidate would say, apart from the served signals and marked PREVIEW."""
    root = find_root()
    bundle = Bundle.load(root / BUNDLE)
    origin = {"preview": True, "bundle": bundle.digest}
    folder = _write_day(root, root / PREVIEW, bundle, as_of, origin, force=True)
    show(read_parquet(folder / "signals.parquet"), "PREVIEW, not promoted: the five best and the five worst")
    return folder


def shadow(as_of: str | None = None, force: bool = False) -> list[Path]:
    """Write what the versions of `monitoring.shadow` would say, apart from the served signals; return the folders.

    Raises
    ------
    ConfigError
        No version is named.
    GovernanceError
        A version is unknown, or its stored files are not those that were registered.
    DataError, SessionError, BundleError
        As in `infer`.
    """
    from governance.guard import file_problems
    from governance.places import resolve
    from governance.promotion import version_number
    from governance.trust import state_now

    root = find_root()
    settings = load_settings(root / PARAMS)
    if not settings.monitoring.shadow:
        raise ConfigError("monitoring.shadow = []: name versions, or aliases such as candidate, to run in shadow")
    state = state_now(root, settings.governance)
    folders = []
    for name in settings.monitoring.shadow:
        version = version_number(root, settings.governance, str(name))
        registration = state.registration(version).payload
        problems = file_problems(root, registration)
        if problems:
            raise GovernanceError(f"version {version} may not run in shadow: {problems[0]}: register it again")
        bundle = Bundle.load(resolve(registration["bundle_uri"], root))
        origin = {"shadow": True, "version": version, "bundle": registration["bundle_digest"], "warnings": []}
        folders.append(_write_day(root, root / SHADOW / f"version={version}", bundle, as_of, origin, force))
    return folders


def show(signals: pd.DataFrame, title: str, ends: int = 5) -> None:
    """Print the first and the last ranks of a day."""
    ordered = signals.sort_values("rank")
    rows = pd.concat([ordered.head(ends), ordered.tail(ends)])
    columns = ["rank", "symbol", "signal", "expected_return", "interval_low", "interval_high", "p_wrong", "top_reasons"]
    told = rows[columns].map(lambda value: f"{value:.4f}" if isinstance(value, float) else str(value))
    Printer().table(title, columns, told.to_numpy().tolist())


def _write_day(
    root: Path, out: Path, bundle: Bundle, as_of: str | None, origin: Mapping[str, Any], force: bool
) -> Path:
    source = load_settings(root / PARAMS).open_source()
    session = resolve_session(as_of, source)
    day = prepare_day(source, bundle, session)
    until = bundle.profile["trained_until"]
    in_sample = until is not None and str(session) <= until
    if in_sample:
        print(f"warning: {session} is in sample: the bundle learned from outcomes up to {until}", file=sys.stderr)
    folder = out / f"date={session}"
    manifest = {
        **origin,
        "date": str(session),
        "data": day.data_digest,
        "symbols": len(day.own),
        "in_sample": in_sample,
    }
    if not force and _stands(folder, manifest):
        print(f"{folder.relative_to(root)} already holds these signals: nothing to do (--force writes them again)")
        return folder
    signals = bundle.predict(day.rows, day.scale, day.session)
    if not origin.get("preview"):
        _refuse_stopped(root)  # again: one may have been called since
    with atomic_directory(folder) as temporary:
        write_parquet(temporary / "signals.parquet", signals)
        mark = next((line for kind, line in _MARKS.items() if origin.get(kind)), "")
        write_text(temporary / "signals.csv", mark + signals.to_csv(index=False, float_format="%.6g"))
        whole = {**manifest, "files": digest_tree(temporary)}
        write_json(temporary / "manifest.json", {**whole, "digest": manifest_digest(whole)})
    print(f"{len(signals)} signals for {session} in {folder.relative_to(root)}")
    return folder


def _refuse_stopped(root: Path) -> None:
    from governance.guard import refuse_stopped
    from governance.trust import state_now

    refuse_stopped(state_now(root, load_policy(root)))


def _stands(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether the folder holds, whole, the signals that the manifest describes.

    Raises
    ------
    DataError
        It holds signals made by another bundle or from other data.
    """
    if not (folder / "manifest.json").is_file():
        return False
    found = read_json(folder / "manifest.json")
    if found.get("files") != digest_tree(folder, skip=("manifest.json",)):
        print(f"warning: {folder.name} is not as it was written: it is written again", file=sys.stderr)
        return False
    for part, reason in (("bundle", "by another champion"), ("data", "from other data (the source has changed since)")):
        if found[part] != manifest[part]:
            raise DataError(
                f"signals for {found['date']} were already served {reason}: look at the difference, then pass "
                "--force to replace them"
            )
    return True
