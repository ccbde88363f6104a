"""A small dirty world for the cleaning tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from sources import calendar
from sources.schemas import FUNDAMENTAL_VALUES, normalise

SYMBOLS = [f"S{k:02d}" for k in range(12)]


def make_prices(closes: dict[str, np.ndarray], start: str = "2012-01-03") -> pd.DataFrame:
    """Flat bars (open = high = low = close) of the given closes, one a session; NaN is no row."""
    length = max(map(len, closes.values()))
    dates = calendar.sessions(start, "2016-12-30")[:length]
    parts = [
        pd.DataFrame({"date": dates[: len(close)].astype("datetime64[ms]"), "symbol": symbol, "close": close})
        for symbol, close in closes.items()
    ]
    frame = pd.concat(parts, ignore_index=True).dropna()
    return frame.assign(
        open=frame["close"], high=frame["close"] * 1.01, low=frame["close"] * 0.99, volume=1000.0
    ).reset_index(drop=True)


@pytest.fixture(scope="session")
def bars_of() -> Callable[..., pd.DataFrame]:
    """Makes raw bars of given closes."""
    return make_prices


@pytest.fixture(scope="session")
def dirty() -> dict[str, pd.DataFrame]:
    """Normalised tables with every kind of defect, 500 sessions from 2012-01-03, fixed seed."""
    rng = np.random.default_rng(5)
    closes = {s: 50 * np.exp(np.cumsum(0.015 * rng.standard_normal(500))) for s in SYMBOLS}
    for k, symbol in enumerate(SYMBOLS[:8]):
        at = rng.choice(np.arange(80, 490), 6, replace=False)
        closes[symbol][at[0]] *= 0.1
        closes[symbol][at[1]] *= 2
        closes[symbol][at[2] :] *= 0.5 if k % 2 else 3
        closes[symbol][at[3] : at[3] + 3] *= 0.5
        closes[symbol][at[4] : at[4] + 4 + 9 * (k % 3)] = np.nan
        closes[symbol][at[5]] = 0.0
    frame = make_prices(closes)
    hit = rng.random((6, len(frame))) < 0.01
    frame.loc[hit[0], "open"] = 0.0
    frame.loc[hit[1], "high"] = frame["low"] * 0.9
    frame.loc[hit[2], "low"] = frame["close"] * 3
    frame.loc[hit[3], "volume"] = 0.0
    frame.loc[hit[4], "volume"] = -1.0
    frame.loc[hit[5], "low"] = frame["close"] * 0.01
    frame.loc[rng.random(len(frame)) < 0.01, "low"] = frame["close"] * 1.005
    saturday = frame.iloc[[100, 3000]].assign(date=pd.Timestamp("2012-06-02"))
    frame = pd.concat([frame, saturday], ignore_index=True)

    dates = calendar.sessions("2012-01-03", "2016-12-30")[:500]
    filings = []
    for symbol in SYMBOLS:
        for source, step, lag in (("stockpup", 63, 30), ("annual", 250, 60)):
            for day in range(int(rng.integers(0, step)), 430, step):
                scale = rng.choice([1, 1, 1, 1, 0.01, 7, 2])
                row = dict.fromkeys(FUNDAMENTAL_VALUES, 100.0 * scale) | {
                    "symbol": symbol, "source": source, "fiscal_period": "Q", "amended": False,
                    "period_end": dates[day], "available_date": dates[day] + (lag if rng.random() < 0.95 else -1),
                    "income_months": 3, "cashflow_months": 3, "goodwill_intangibles": rng.choice([0.0, 5.0]),
                    "shares_outstanding": 10.0 * rng.choice([1, 1, 1, 2]), "split_factor_2017": 1.0,
                }  # fmt: skip
                filings.append(row)
                if rng.random() < 0.2:
                    filings.append(row | {"revenue": 7.0})
    seconds = pd.to_timedelta(rng.integers(0, 700 * 86400, 3000), "s")
    posts = pd.DataFrame(
        {
            "symbol": rng.choice(SYMBOLS, 3000),
            "created_at": pd.Timestamp("2012-01-03", tz="UTC") + seconds,
            "user_hash": rng.integers(-(2**62), 2**62, 3000), "followers": 1, "is_retweet": False, "lang": "en",
            "text": rng.choice(["buy", "RT @user: buy", "sell now", "weak", "", "great earnings"], 3000),
        }
    )  # fmt: skip
    day = dates[rng.integers(0, 490, 150)]
    earnings = pd.DataFrame(
        {
            "symbol": rng.choice(SYMBOLS, 150), "announce_date": day, "available_date": day + 1, "eps_estimate": 1.0,
            "eps_actual": np.where(rng.random(150) < 0.1, np.nan, 1.1), "surprise": 0.1,
        }
    )  # fmt: skip
    every = np.arange("2012-01-01", "2013-12-20", dtype="datetime64[D]")
    macro = pd.DataFrame(
        {"series": "VIX", "date": every, "available_date": every + 1, "value": rng.choice([20.0, np.nan], len(every))}
    )
    securities = pd.DataFrame({"symbol": SYMBOLS, "name": "n", "exchange": "X", "sector": None, "industry": "I"})
    own = pd.DataFrame(
        {
            "series": rng.choice(["card", "visits"], 800), "symbol": rng.choice(SYMBOLS, 800),
            "date": every[rng.integers(0, len(every) - 30, 800)], "value": rng.choice([1.0, 2.0, np.nan], 800),
        }
    ).drop_duplicates(["series", "symbol", "date"])  # fmt: skip
    own["available_date"] = own["date"] + pd.to_timedelta(rng.integers(-1, 9, len(own)), "D")
    revised = own.assign(value=3.0, available_date=own["available_date"] + pd.Timedelta(days=2))
    tables = {"prices": frame, "fundamentals": pd.DataFrame(filings), "posts": posts}
    tables |= {"earnings": earnings, "macro": macro, "securities": securities, "alternative": pd.concat([own, revised])}
    return {name: normalise(name, table, name) for name, table in tables.items()}
