"""One session as the daily job sees it: read, cleaned, computed and found fit, or refused.

Reads only the sessions that the features look back on, through the same cleaning and the same
feature functions as training.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.dates import date_option
from core.errors import BundleError, DataError, SessionError
from core.files import canonical_json, digest_bytes
from features.feeds import stopped
from features.kernels.blocks import threads
from features.panel import Panel
from features.registry import Feature
from features.returns import market_return
from features.risk import LOOKBACK as RISK_LOOKBACK
from features.risk import risk_scale
from models.bundle import Bundle
from models.dataset import Dataset, assemble_dataset
from models.profile import missing_features
from models.scoring import MIN_NAMES
from pipelines.asof import read_as_of
from pipelines.inputs import Inputs, parse_inputs
from pipelines.panels import closing_remedy
from sources.base import Source, last_session
from sources.calendar import last_completed, sessions

# A session with fewer prices than this share of the usual number is a broken delivery, not a market.
MIN_COVERAGE = 0.8
# What decides a feature's value; the rest of a declaration is words.
_DECIDING = ("family", "lookback", "inputs", "units")


@dataclass(frozen=True, eq=False)
class Day:
    """Everything the prediction of one session needs, and what it was made from.

    Attributes
    ----------
    rows
        The session's rows, after those of the sessions that the layers look back on.
    session
        Index of the session in `rows.dates`.
    scale
        Risk scale of the session's own rows.
    """

    panel: Panel
    rows: Dataset
    session: int
    scale: NDArray[np.float32]
    data_digest: str

    @property
    def own(self) -> Dataset:
        """The rows of the session itself."""
        return self.rows.since(self.session)


def prepare_day(source: Source, bundle: Bundle, session: np.datetime64) -> Day:
    """Everything that a bundle needs to predict a session.

    Raises
    ------
    BundleError
        The bundle is not one that this code can feed.
    SessionError
        The data does not reach the session, or not far enough before it.
    DataError
        A table or a feature is missing, the session is thin, or a feed has stopped.
    """
    inputs = parse_inputs(bundle.params)
    require_same_features(bundle, inputs)
    day = read_day(source, inputs, bundle.features, session, bundle.lookback, bundle.market_lookback)
    refuse_silent(day, bundle, session)
    return day


def resolve_session(as_of: str | None, source: Source) -> np.datetime64:
    """The session that `as_of` names (see `infer`).

    Raises
    ------
    SessionError
        It is no date or no session of the exchange.
    """
    if as_of == "latest":
        return last_session(source)
    if as_of is None:
        return last_completed(datetime.datetime.now(datetime.UTC))
    day = date_option("--as-of", as_of, SessionError, ", or latest")
    near = sessions(day - datetime.timedelta(days=14), day)
    if near[-1] != np.datetime64(day):
        raise SessionError(f"{day} is no session of the exchange: the one before it is {near[-1]}")
    return near[-1]


def read_day(
    source: Source,
    inputs: Inputs,
    names: Sequence[str],
    session: np.datetime64,
    lookback: int = 1,
    market_lookback: int = 0,
) -> Day:
    """Read, clean and compute what the named features need at one session, and no more.

    Parameters
    ----------
    lookback
        Sessions of rows, the wanted one included, that the layers read.
    market_lookback
        Sessions of the market's return that regimes are told from.

    Raises
    ------
    SessionError
        The data does not reach the session, or not far enough before it.
    DataError
        A table or a feature that the bundle was trained with is missing, or the session is thin.
    """
    declared = {feature.name: feature for feature in inputs.features}
    features = [declared[name] for name in names]
    # a session's market return is of those in the universe at the close before
    reach = max(max(feature.lookback for feature in features) + lookback - 1, market_lookback + 1)
    tables = {name: _reach(features, name, lookback) for name in source.tables()}
    known = read_as_of(source, session, reach, inputs.universe, tables)
    panel = known.panel
    _refuse_thin(panel, session)
    rows, scale = _design(panel, features, inputs.target.horizon, lookback)
    return Day(panel, rows, len(panel.dates) - 1, scale, data_digest=digest_tables(known.raw))


def require_same_features(bundle: Bundle, inputs: Inputs) -> None:
    """Refuse a bundle whose features this code does not have, or declares otherwise.

    Raises
    ------
    BundleError
        Names the first such feature.
    """
    remedy = "check out the commit that the version names, or train and promote a version with this code"
    known = {feature.name: feature for feature in inputs.features}
    for told in bundle.declared:
        name = told["name"]
        if name not in known:
            raise BundleError(f"this code has no feature {name!r}: {remedy}")
        for part in _DECIDING:
            value = getattr(known[name], part)
            # the bundle's JSON knows no tuples
            value = list(value) if isinstance(value, tuple) else value
            if value != told[part]:
                raise BundleError(
                    f"feature {name!r} is declared with {part} {value!r}, the bundle was made with "
                    f"{told[part]!r}: {remedy}"
                )


def refuse_silent(day: Day, bundle: Bundle, session: np.datetime64) -> None:
    """Refuse a day on which a feed has stopped, or a feature is known for far fewer symbols than in training.

    Raises
    ------
    DataError
        Names the feed or the feature, and what is usual.
    """
    for table, limit in stopped(bundle.profile["feeds"], day.panel).items():
        raise DataError(
            f"{session}: the table {table!r} has been silent for more than {limit} sessions, as it never was in the "
            "last year of training: the feed has stopped; deliver it, or train and promote a version without it"
        )
    missing = missing_features(bundle.profile, day.own)
    if missing:
        first = max(missing, key=lambda found: found.floor - found.coverage)
        raise DataError(
            f"{session}: {first.feature} is known for {first.coverage:.0%} of the symbols, never for fewer than "
            f"{first.floor:.0%} in the last year of training ({len(missing)} such features): the delivery is "
            f"incomplete; deliver it again{closing_remedy(day.panel)}"
        )


def _reach(features: Sequence[Feature], table: str, lookback: int) -> int | None:
    """Sessions of a table that the features read; None where no feature names its events."""
    events = {"fundamentals": "filings"}.get(table, table)
    readers = (one for one in features if any(name.partition(":")[0] == events for name in one.reads))
    return max((one.lookback + lookback - 1 for one in readers), default=None)


def _refuse_thin(panel: Panel, session: np.datetime64) -> None:
    priced = np.isfinite(panel["close"][-22:]).sum(axis=1)
    usual = float(np.median(priced[:-1])) if len(priced) > 1 else 0.0
    if priced[-1] < MIN_COVERAGE * usual:
        raise DataError(
            f"{session}: only {priced[-1]} symbols have a usable price, {usual:.0f} are usual: "
            f"the delivery is incomplete; deliver it again{closing_remedy(panel)}"
        )
    members = int(panel.universe[-1].sum())
    if members < MIN_NAMES:
        raise SessionError(
            f"{session}: the universe has {members} symbols, {MIN_NAMES} are needed: "
            "the session lies too near the start of the data, or universe.* is too strict"
        )


def _design(
    panel: Panel, features: Sequence[Feature], horizon: int, lookback: int
) -> tuple[Dataset, NDArray[np.float32]]:
    """The last sessions' rows of the design matrix, and the risk scale of the very last's."""
    last = len(panel.dates) - 1
    lacking = {feature.name: ", ".join(missing) for feature in features if (missing := feature.missing(panel))}
    if lacking:
        name, inputs = next(iter(lacking.items()))
        raise DataError(
            f"the bundle was trained with {name} ({len(lacking)} such features) but the source lacks {inputs}: "
            "restore what it lacks, or train and promote a version without it"
        )
    values = last_rows(panel, features, min(lookback, len(panel.dates)))
    first = len(panel.dates) - len(values)
    session, symbol = np.nonzero(panel.universe[first:])
    unknown = np.full(len(session), np.nan, dtype=np.float32)
    rows = assemble_dataset(
        dates=panel.dates,
        symbols=panel.symbols,
        sector=panel.sector,
        session=first + session,
        symbol=symbol,
        X=values[session, symbol],
        features=[feature.name for feature in features],
        label=unknown,
        forward=unknown,
        raw=unknown,
        horizon=horizon,
        market=market_return(panel),
        signs=[feature.sign for feature in features],
    )
    scale = risk_scale(panel.tail(last, RISK_LOOKBACK), horizon)[-1, panel.universe[last]].astype(np.float32)
    return rows, scale


def last_rows(panel: Panel, features: Sequence[Feature], sessions: int = 1) -> NDArray[np.float32]:
    """Features of the last sessions, `(sessions, N, F)`, each from what it looks back on: the bits of the history."""
    last = len(panel.dates) - 1
    columns: dict[str, NDArray[np.float32]] = {}

    def compute(lookback: int) -> None:
        window = panel.tail(last, lookback, sessions)
        for feature in features:
            if feature.lookback == lookback:
                columns[feature.name] = feature(window)[-sessions:]

    with ThreadPoolExecutor(threads()) as pool:
        for done in [pool.submit(compute, one) for one in sorted({one.lookback for one in features}, reverse=True)]:
            done.result()
    return np.stack([columns[feature.name] for feature in features], axis=-1)


def digest_tables(tables: Mapping[str, pd.DataFrame]) -> str:
    """One digest of the content of raw tables."""
    sums = {
        name: [len(table), list(table.columns), int(pd.util.hash_pandas_object(table, index=False).to_numpy().sum())]
        for name, table in sorted(tables.items())
    }
    return digest_bytes(canonical_json(sums).encode())
