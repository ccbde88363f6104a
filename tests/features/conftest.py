"""Synthetic panels for the tests of features: correlated prices with gaps, and dated events."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from features.assemble import assemble
from features.panel import Panel
from features.universe import UniverseRule

SECTORS = ("Energy", "Financials", "Health Care", "Technology")
RULE = UniverseRule(min_dollar_volume=1e5, coverage_sessions=63, break_sessions=63)


def make_tables(sessions: int = 700, symbols: int = 24, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Cleaned tables as `sources.cleaning` hands them over, small and with every kind of gap."""
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2012-01-02", periods=sessions).as_unit("s")
    names = np.array([f"S{i:03d}" for i in range(symbols)])
    sector = np.arange(symbols) % len(SECTORS)
    return {
        "prices": _prices(rng, dates, names, sector),
        "filings": _filings(rng, dates, names),
        "earnings": _earnings(rng, dates, names),
        "posts": _posts(rng, dates, names),
        "securities": pd.DataFrame(
            {
                "symbol": names,
                "name": names,
                "exchange": "X",
                "sector": [SECTORS[code] if i != 1 else None for i, code in enumerate(sector)],
                "industry": "I",
            }
        ),
        "macro": _macro(dates, rng.uniform(10, 40, sessions)),
    }


def _macro(dates, vix) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    draws = rng.normal(size=(4, len(dates)))
    spreads = np.cumsum(0.05 * draws[:2], axis=1)
    prices = np.exp(np.cumsum(0.01 * draws[2:], axis=1))
    series = {
        "VIX_CLOSE": vix,
        "VXVCLS": 0.5 * vix + 10,
        "BAA10Y": 2.5 + spreads[0],
        "T10Y2Y": 1.5 + spreads[1],
        "DCOILWTICO": 70 * prices[0],
        "DTWEXB": 105 * prices[1],
    }
    rows = [pd.DataFrame({"session": dates, "series": name, "value": value})[5:] for name, value in series.items()]
    return pd.concat(rows, ignore_index=True)


def _prices(rng, dates, names, sector) -> pd.DataFrame:
    shape = (len(dates), len(names))
    common = rng.normal(0.0003, 0.008, (len(dates), 1)) * rng.uniform(0.6, 1.4, len(names))
    own = 0.005 * rng.normal(size=(len(dates), len(SECTORS)))[:, sector] + 0.015 * rng.standard_t(5, shape)
    close = rng.uniform(8, 200, len(names)) * np.exp(np.cumsum(common + own, axis=0))
    open_ = close * np.exp(0.005 * rng.normal(size=shape))
    high = np.maximum(open_, close) * np.exp(np.abs(0.006 * rng.normal(size=shape)))
    low = np.minimum(open_, close) * np.exp(-np.abs(0.006 * rng.normal(size=shape)))
    volume = np.round(np.exp(rng.normal(11, 0.6, shape)))
    frame = pd.DataFrame(
        {
            "date": np.repeat(dates, len(names)),
            "symbol": np.tile(names, len(dates)),
            "open": open_.ravel(),
            "high": high.ravel(),
            "low": low.ravel(),
            "close": close.ravel(),
            "volume": volume.ravel(),
            "close_unadjusted": np.where(rng.random(shape) < 0.5, np.nan, close).ravel(),
            "vwap": ((high + low + close) / 3).ravel(),
            "level_break": 0.0,
        }
    )
    frame.loc[frame.sample(frac=0.002, random_state=1).index, ["open", "high", "low"]] = np.nan
    frame.loc[frame.sample(frac=0.002, random_state=2).index, "volume"] = np.nan
    frame.loc[(frame["symbol"] == names[2]) & (frame["date"] == dates[len(dates) // 3]), "level_break"] = 1.0
    late = (frame["symbol"] == names[3]) & (frame["date"] < dates[len(dates) // 4])
    gap = (frame["symbol"] == names[4]) & frame["date"].between(dates[len(dates) // 2], dates[len(dates) // 2 + 30])
    missing = (rng.random(len(frame)) < 0.01) | late | gap
    return frame[~missing].reset_index(drop=True)


def _filings(rng, dates, names) -> pd.DataFrame:
    rows = []
    for number, name in enumerate(names[:-2]):
        edgar = number % 3 == 0
        base = np.exp(rng.normal(20, 1))
        for end in pd.date_range("2009-03-31", dates[-1], freq="QE"):
            base *= np.exp(0.02 + 0.1 * rng.normal())
            margin, annual = rng.normal(0.08, 0.05), edgar and end.month == 12
            known = end + pd.Timedelta(days=int(rng.integers(25, 95)))
            for amended in (False, True)[: 1 + (rng.random() < 0.05)]:
                later = known + pd.Timedelta(days=40 * amended)
                months = 12 if annual else 3
                revenue, flow = base * months / 3, base * (end.month / 3 if edgar else 1)
                rows.append(
                    {
                        "session": later,
                        "symbol": name,
                        "period_end": end,
                        "source": "pystock" if edgar else "stockpup",
                        "fiscal_period": "FY" if annual else f"Q{(end.month + 2) // 3}",
                        "amended": amended,
                        "income_months": months,
                        "cashflow_months": end.month if edgar else 3,
                        "revenue": revenue,
                        "operating_income": 1.3 * margin * revenue,
                        "net_income": margin * revenue,
                        "eps_basic": margin * revenue / 1e8,
                        "eps_diluted": margin * revenue / 1.02e8,
                        "dividends_per_share": 0.1,
                        "assets": 4 * base,
                        "current_assets": 1.5 * base,
                        "liabilities": 2.2 * base,
                        "current_liabilities": base,
                        "cash": 0.4 * base,
                        "equity": 1.8 * base,
                        "long_term_debt": 0.8 * base,
                        "goodwill_intangibles": 0.3 * base if rng.random() < 0.8 else np.nan,
                        "preferred_equity": np.nan,
                        "noncontrolling_interest": 0.0,
                        "cash_flow_operating": (margin + rng.normal(0.03, 0.02)) * flow,
                        "cash_flow_investing": -0.05 * flow,
                        "cash_flow_financing": -0.02 * flow,
                        "capex": 0.04 * flow,
                        "gross_profit": (0.35 + margin) * revenue,
                        "shares": 1e8 * np.exp(0.01 * rng.normal()),
                    }
                )
    frame = pd.DataFrame(rows)
    frame["session"] = _session_on(dates, frame["session"])
    return frame.dropna(subset="session").reset_index(drop=True)


def _earnings(rng, dates, names) -> pd.DataFrame:
    days = pd.date_range("2012-01-20", dates[-1], freq="91D")
    frame = pd.DataFrame({"symbol": np.repeat(names[:-1], len(days)), "announce_date": np.tile(days, len(names) - 1)})
    frame["announce_date"] += pd.to_timedelta(rng.integers(0, 30, len(frame)), unit="D")
    frame["session"] = _session_on(dates, frame["announce_date"] + pd.to_timedelta(rng.integers(0, 2, len(frame)), "D"))
    frame["eps_estimate"] = rng.normal(1.0, 0.5, len(frame)).round(2)
    frame["eps_actual"] = (frame["eps_estimate"] + rng.normal(0.02, 0.1, len(frame))).round(2)
    frame["surprise"] = frame["eps_actual"] - frame["eps_estimate"]
    return frame.dropna(subset="session").reset_index(drop=True)


def _posts(rng, dates, names) -> pd.DataFrame:
    count = 30 * len(dates)
    weight = 1.0 / np.arange(1, len(names) + 1)
    day = rng.integers(0, len(dates), count)
    second = rng.integers(0, 24 * 3600, count)
    after_close = second >= 20 * 3600
    time = pd.to_timedelta(second, unit="s")
    frame = pd.DataFrame(
        {
            "session": dates.append(pd.DatetimeIndex([pd.NaT]))[day + after_close],
            "symbol": rng.choice(names, count, p=weight / weight.sum()),
            "created_at": (dates[day] + time).tz_localize("UTC"),
            "user_hash": rng.integers(0, 400, count),
            "followers": rng.integers(0, 5000, count).astype(np.int64),
            "is_retweet": rng.random(count) < 0.25,
            "lang": rng.choice(["en", "es", "und"], count, p=[0.85, 0.1, 0.05]),
            "sentiment": np.clip(rng.normal(0.1, 0.4, count), -1, 1).round(4),
            "is_repeat": rng.random(count) < 0.15,
        }
    )
    return frame.dropna(subset="session").drop_duplicates().reset_index(drop=True)


def _session_on(dates: pd.DatetimeIndex, days: pd.Series) -> pd.Series:
    """First session at or after each day; NaT past the end, and before the first session NaT as well."""
    place = dates.searchsorted(days)
    out = pd.Series(dates.append(pd.DatetimeIndex([pd.NaT]))[place], index=days.index)
    return out.mask(days < dates[0])


def build_panel(sessions: int = 700, symbols: int = 24, seed: int = 0) -> Panel:
    """`make_tables` as a panel."""
    tables = make_tables(sessions, symbols, seed)
    dates = pd.bdate_range("2012-01-02", periods=sessions).to_numpy("datetime64[D]")
    return assemble(tables, dates, RULE)


@pytest.fixture(scope="session")
def tables() -> dict[str, pd.DataFrame]:
    """Cleaned tables of 24 symbols over 700 sessions; do not change them in place."""
    return make_tables()


@pytest.fixture(scope="session")
def make_panel() -> Callable[..., Panel]:
    """`make_panel(T, N, seed)`: a fresh synthetic panel with prices, filings, earnings, posts, macro."""
    return build_panel


@pytest.fixture(scope="session")
def panel() -> Panel:
    """The default synthetic panel, shared; do not change it in place."""
    return build_panel()
