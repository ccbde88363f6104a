"""The daily job: one session's signals from the champion, or a preview of them from the candidate.

Reads only the sessions that the features look back on, through the same cleaning and the same
feature functions as training. Fails closed: whatever does not fit ends it with one line, and the
previous output stays as it was.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.errors import DataError, SessionError
from core.files import (
    atomic_directory,
    canonical_json,
    digest_bytes,
    digest_tree,
    read_json,
    read_parquet,
    write_json,
    write_parquet,
    write_text,
)
from features.assemble import assemble
from features.panel import Panel
from features.registry import Feature
from features.risk import LOOKBACK as RISK_LOOKBACK
from features.risk import risk_scale
from models.bundle import Bundle
from models.dataset import Dataset, assemble_dataset
from pipelines.console import Printer
from pipelines.layout import BUNDLE, PARAMS, PREVIEW, SIGNALS, find_root
from pipelines.params import Inputs, load_settings, parse_inputs
from sources.base import Source
from sources.calendar import sessions
from sources.cleaning import LOOKBACKS, clean

MIN_NAMES = 20
# A session with fewer prices than this share of the usual number is a broken delivery, not a market.
MIN_COVERAGE = 0.8


@dataclass(frozen=True, eq=False)
class Day:
    """Everything the prediction of one session needs, and what it was made from."""

    rows: Dataset
    scale: np.ndarray
    data_digest: str


def infer(as_of: str | None = None, force: bool = False) -> Path:
    """Write the session's signals of the champion; return their folder.

    Parameters
    ----------
    as_of
        Session as YYYY-MM-DD, "latest" (the last session of the data), or None: the last session
        that the exchange has completed.
    force
        Write again even where the same signals stand already, or others made from other data.

    Raises
    ------
    SessionError
        The date is no session or lies outside the data.
    DataError
        The data is stale, thin or broken, or signals made from other data stand for that session.
    GovernanceError
        There is no valid champion.
    """
    from governance.guard import serving

    root = find_root()
    policy = load_settings(root / PARAMS).governance
    served = serving(root, policy.model, policy.require_second_person)
    for warning in served.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    origin = {"version": served.version, "bundle": served.digest, "warnings": list(served.warnings)}
    return _write_day(root, root / SIGNALS, Bundle.load(served.bundle_path), as_of, origin, force)


def preview(as_of: str = "latest") -> Path:
    """Write what the latest candidate would say, apart from the served signals and marked PREVIEW."""
    root = find_root()
    bundle = Bundle.load(root / BUNDLE)
    origin = {"preview": True, "bundle": bundle.digest}
    folder = _write_day(root, root / PREVIEW, bundle, as_of, origin, force=True)
    show(read_parquet(folder / "signals.parquet"), "PREVIEW, not promoted: the five best and the five worst")
    return folder


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
    day = read_day(source, parse_inputs(bundle.params), bundle.features, session)
    folder = out / f"date={session}"
    manifest = {**origin, "date": str(session), "data": day.data_digest, "symbols": len(day.rows)}
    if not force and _stands(folder, manifest):
        print(f"{folder.relative_to(root)} already holds these signals: nothing to do (--force writes them again)")
        return folder
    signals = bundle.predict(day.rows, day.scale)
    with atomic_directory(folder) as temporary:
        write_parquet(temporary / "signals.parquet", signals)
        mark = "# PREVIEW: not promoted, not for trading\n" if origin.get("preview") else ""
        write_text(temporary / "signals.csv", mark + signals.to_csv(index=False, float_format="%.6g"))
        write_json(temporary / "manifest.json", {**manifest, "files": digest_tree(temporary)})
    print(f"{len(signals)} signals for {session} in {folder.relative_to(root)}")
    return folder


def _stands(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether the folder holds, whole, the signals that the manifest describes.

    Raises
    ------
    DataError
        It holds signals of the same champion made from other data.
    """
    if not (folder / "manifest.json").is_file():
        return False
    found = read_json(folder / "manifest.json")
    if found.get("files") != digest_tree(folder, skip=("manifest.json",)):
        return False
    if found["bundle"] != manifest["bundle"]:
        return False
    if found["data"] != manifest["data"]:
        raise DataError(
            f"signals for {found['date']} were already served from other data (the source has changed since): "
            "look at the difference, then pass --force to replace them"
        )
    return True


def resolve_session(as_of: str | None, source: Source) -> np.datetime64:
    """The session that `as_of` names (see `infer`).

    Raises
    ------
    SessionError
        It is no date or no session of the exchange.
    """
    if as_of == "latest":
        return source.read("prices")["date"].max().to_numpy().astype("datetime64[D]")
    if as_of is None:
        today = datetime.datetime.now(datetime.UTC).date()
        return sessions(today - datetime.timedelta(days=14), today - datetime.timedelta(days=1))[-1]
    try:
        day = datetime.date.fromisoformat(as_of)
    except ValueError:
        raise SessionError(f"--as-of {as_of!r} is no date: write YYYY-MM-DD, or latest") from None
    near = sessions(day - datetime.timedelta(days=14), day)
    if near[-1] != np.datetime64(day):
        raise SessionError(f"{day} is no session of the exchange: the one before it is {near[-1]}")
    return near[-1]


def read_day(source: Source, inputs: Inputs, names: Sequence[str], session: np.datetime64) -> Day:
    """Read, clean and compute what the named features need at one session, and no more.

    Raises
    ------
    SessionError
        The data does not reach the session, or not far enough before it.
    DataError
        A table or a feature that the bundle was trained with is missing, or the session is thin.
    """
    declared = {feature.name: feature for feature in inputs.features}
    unknown = [name for name in names if name not in declared]
    if unknown:
        raise DataError(f"this code has no feature {unknown[0]!r}: check out the commit that the version names")
    features = [declared[name] for name in names]
    wanted = max(feature.lookback for feature in features) + inputs.universe.lookback - 1
    last = session.astype(datetime.date)
    days = sessions(last - datetime.timedelta(days=int((wanted + max(LOOKBACKS.values())) * 1.5) + 30), last)
    first = days[-wanted].astype(datetime.date)
    tables = {}
    for name in source.tables():
        back = _reach(features, name, wanted) + LOOKBACKS.get(name, 1) - 1
        tables[name] = source.read(name, days[-back].astype(datetime.date), last)
    prices = tables["prices"]
    if prices.empty or prices["date"].max() < pd.Timestamp(session):
        newest = "none before it" if prices.empty else f"the last before it is {prices['date'].max():%Y-%m-%d}"
        raise SessionError(f"the data has no prices for {session} ({newest}): deliver that session, or pick another")
    cleaned = clean(tables, first, last)
    panel = assemble(cleaned.tables, days[-wanted:], inputs.universe)
    _refuse_thin(panel, session)
    return Day(*_design(panel, features, inputs.target.horizon), data_digest=digest_tables(tables))


def _reach(features: Sequence[Feature], table: str, wanted: int) -> int:
    """Sessions of a table that the features read; all that are wanted where none names its events."""
    events = {"fundamentals": "filings"}.get(table, table)
    return max((feature.lookback for feature in features if events in feature.inputs), default=wanted)


def _refuse_thin(panel: Panel, session: np.datetime64) -> None:
    priced = np.isfinite(panel["close"][-22:]).sum(axis=1)
    usual = float(np.median(priced[:-1])) if len(priced) > 1 else 0.0
    if priced[-1] < MIN_COVERAGE * usual:
        raise DataError(
            f"{session}: only {priced[-1]} symbols have a usable price, {usual:.0f} are usual: "
            "the delivery is incomplete; deliver it again"
        )
    members = int(panel.universe[-1].sum())
    if members < MIN_NAMES:
        raise SessionError(
            f"{session}: the universe has {members} symbols, {MIN_NAMES} are needed: "
            "the session lies too near the start of the data, or universe.* is too strict"
        )


def _design(panel: Panel, features: Sequence[Feature], horizon: int) -> tuple[Dataset, np.ndarray]:
    """The last session's rows of the design matrix, and their risk scale."""
    last = len(panel.dates) - 1
    missing = [feature.name for feature in features if not feature.available(panel)]
    if missing:
        raise DataError(
            f"the bundle was trained with {missing[0]} ({len(missing)} such features) but the source lacks its table: "
            "restore the table, or train and promote a version without it"
        )
    members = np.flatnonzero(panel.universe[last])
    windows = {lookback: panel.tail(last, lookback) for lookback in sorted({f.lookback for f in features})}
    columns = [feature(windows[feature.lookback])[-1, members] for feature in features]
    unknown = np.full(len(members), np.nan, dtype=np.float32)
    rows = assemble_dataset(
        dates=panel.dates,
        symbols=panel.symbols,
        sector=panel.sector,
        session=np.full(len(members), last),
        symbol=members,
        X=np.column_stack(columns),
        features=[feature.name for feature in features],
        label=unknown,
        forward=unknown,
        raw=unknown,
    )
    scale = risk_scale(panel.tail(last, RISK_LOOKBACK), horizon)[-1, members].astype(np.float32)
    return rows, scale


def digest_tables(tables: Mapping[str, pd.DataFrame]) -> str:
    """One digest of the content of raw tables."""
    sums = {
        name: [len(table), list(table.columns), int(pd.util.hash_pandas_object(table, index=False).to_numpy().sum())]
        for name, table in sorted(tables.items())
    }
    return digest_bytes(canonical_json(sums).encode())
