"""The harness must catch every kind of leak by name, and pass what is clean."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from core.errors import LeakageError
from features import kernels as k
from features.invariance import INVARIANCES, prove, require, spread_cuts
from features.panel import Panel, positions
from features.registry import FAMILIES, Feature, build_features

CUTS = [300, 520]


def feature(name, compute, lookback=1, inputs=("close",)) -> Feature:
    return Feature(name, "mutant", lookback, inputs, "1", 0, "none", "", compute)


def failures(report: pd.DataFrame) -> dict[str, set[str]]:
    failed = report[~report["ok"]]
    return {name: set(part["invariance"]) for name, part in failed.groupby("feature")}


def by_period_end(panel: Panel):
    """The last filing's revenue growth, placed at the end of its period instead of when it became known."""
    filings = panel.events["filings"]
    out = np.full(panel.shape, np.nan)
    row = np.searchsorted(panel.dates, filings.values["period_end"])
    inside = (row < len(panel.dates)) & (filings.values["period_end"] >= panel.dates[0])
    out[row[inside], filings.symbol[inside]] = filings.values["net_income"][inside] / filings.values["revenue"][inside]
    return pd.DataFrame(out).ffill(limit=200).to_numpy()


def full_sample_zscore(panel: Panel):
    ret = pd.DataFrame(k.change(panel["close"]))
    return ((ret - ret.mean()) / ret.std()).to_numpy()


def centred(panel: Panel):
    return pd.DataFrame(panel["close"]).rolling(11, center=True, min_periods=1).mean().to_numpy() / panel["close"]


def tomorrow(panel: Panel):
    out = np.full(panel.shape, np.nan)
    out[:-1] = panel["close"][1:] / panel["close"][:-1] - 1
    return out


def backfilled(panel: Panel):
    return pd.DataFrame(k.change(panel["volume"])).bfill(limit=3).to_numpy()


def next_universe(panel: Panel):
    held = np.vstack([panel.universe[1:], panel.universe[-1:]])
    return np.where(held, k.change(panel["close"]), 0.0)


def running_sum(panel: Panel):
    total = np.cumsum(np.nan_to_num(panel["volume"]), axis=0, dtype=np.float32)
    return (total - k.shift(total, 19)) / k.rolling_sum(panel["volume"], 20, 1)


def by_column(panel: Panel):
    return k.change(panel["close"]) + 1e-3 * np.cumsum(np.nan_to_num(k.change(panel["close"], 2)), axis=1)


def by_announcement(panel: Panel):
    """The surprise placed on the day of the announcement, also where it is known only the day after."""
    events = panel.events["earnings"]
    frame = pd.DataFrame({"date": events.values["announce_date"], "symbol": panel.symbols[events.symbol]})
    inside = np.isin(frame["date"].to_numpy("datetime64[D]"), panel.dates)
    row, col = positions(frame[inside], panel.dates, panel.symbols)
    out = np.full(panel.shape, np.nan)
    out[row, col] = np.sign(events.values["surprise"][inside])
    return pd.DataFrame(out).ffill(limit=250).to_numpy()


def by_calendar_day(panel: Panel):
    """Posts counted on the day they were written, also those that were written after the close."""
    posts = panel.events["posts"]
    day = posts.values["created_at"].astype("datetime64[D]")
    row = np.searchsorted(panel.dates, day)
    inside = (row < len(panel.dates)) & (day >= panel.dates[0])
    out = np.zeros(panel.shape)
    np.add.at(out, (row[inside], posts.symbol[inside]), 1.0)
    return out


MUTANTS = {
    "post_after_close": (feature("post_after_close", by_calendar_day, 5, ("posts",)), {"prefix", "future"}),
    "centred_window": (feature("centred_window", centred, 11), {"prefix", "future"}),
    "full_sample": (feature("full_sample", full_sample_zscore, 2), {"prefix", "future", "lookback"}),
    "tomorrow": (feature("tomorrow", tomorrow, 2), {"prefix", "future"}),
    "backfilled": (feature("backfilled", backfilled, 4, ("volume",)), {"prefix"}),
    "next_universe": (feature("next_universe", next_universe, 2), {"future"}),
    "period_end": (feature("period_end", by_period_end, 260, ("filings",)), {"prefix", "future"}),
    "announce_date": (feature("announce_date", by_announcement, 260, ("earnings",)), {"future"}),
    "price_level": (feature("price_level", lambda p: np.log(p["close"])), {"rescale"}),
    "trace_of_level": (
        feature("trace_of_level", lambda p: k.change(p["close"]) + 1e-9 * np.log(p["close"]), 2),
        {"rescale"},
    ),
    "share_volume": (feature("share_volume", lambda p: np.log(p["volume"]), 1, ("volume",)), {"rescale"}),
    "raw_eps": (
        feature("raw_eps", lambda p: _latest(p, "earnings", "eps_actual"), 90, ("earnings",)),
        {"rescale"},
    ),
    "shares_level": (feature("shares_level", lambda p: _latest(p, "filings", "shares"), 90, ("filings",)), {"rescale"}),
    "short_lookback": (feature("short_lookback", lambda p: k.change(p["close"], 5), 5), {"lookback"}),
    "expanding": (
        feature("expanding", lambda p: pd.DataFrame(k.change(p["close"])).expanding().mean().to_numpy(), 100),
        {"lookback"},
    ),
    "running_sum": (
        feature("running_sum", running_sum, 20, ("volume",)),
        {"lookback"},
    ),
    "column_order": (feature("column_order", by_column, 3), {"order"}),
    "undeclared": (feature("undeclared", lambda p: k.change(p["close"]) * p["volume"] * p["close"], 2), {"inputs"}),
    "empty": (feature("empty", lambda p: np.full(p.shape, np.nan)), {"defined"}),
}


def _latest(panel: Panel, table: str, column: str):
    events = panel.events[table]
    out = np.full(panel.shape, np.nan)
    out[events.session, events.symbol] = events.values[column]
    return pd.DataFrame(out).ffill(limit=80).to_numpy()


@pytest.fixture(scope="module")
def report(panel) -> pd.DataFrame:
    return prove([mutant for mutant, _ in MUTANTS.values()], panel, CUTS)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_leak_is_caught_by_name(report, name):
    caught = failures(report).get(name, set())
    expected = MUTANTS[name][1]
    assert expected <= caught
    if expected == {"rescale"} or expected == {"order"} or expected == {"inputs"} or expected == {"defined"}:
        assert caught == expected


def test_require_names_feature_invariance_and_place(panel):
    report = prove([MUTANTS["price_level"][0]], panel, CUTS)
    with pytest.raises(LeakageError, match=r"'price_level' fails the invariance 'rescale': .* on 20\d\d"):
        require(report)


def test_market_features_hold(panel):
    features = build_features({"market": None})
    report = prove(features, panel, CUTS)
    assert len(report) == len(features) * len(INVARIANCES)
    assert failures(report) == {}
    require(report)


def test_every_registered_feature_holds(make_panel):
    panel = make_panel(1200, 20, 3)
    features = build_features(dict.fromkeys(FAMILIES.names()))
    assert all(item.available(panel) for item in features)
    require(prove(features, panel, spread_cuts(panel)))


def test_a_feature_that_fails_on_a_changed_panel_is_reported(panel):
    def fragile(p: Panel):
        if np.nanmax(p["close"]) > 5_000:
            raise ValueError("absurd price")
        return k.change(p["close"])

    report = prove([feature("fragile", fragile, 2)], panel, CUTS)
    assert "absurd price" in report[report["invariance"] == "future"]["detail"].iloc[0]


def test_cuts_need_a_future(panel):
    with pytest.raises(LeakageError, match="outside"):
        prove([MUTANTS["price_level"][0]], panel, [len(panel.dates) - 1])


def test_spread_cuts_lie_inside(panel):
    cuts = spread_cuts(panel, 3)
    assert cuts == sorted(set(cuts))
    assert cuts[-1] < len(panel.dates) - 1
    empty = dataclasses.replace(panel, universe=np.zeros(panel.shape, dtype=bool))
    with pytest.raises(LeakageError, match="universe is empty"):
        spread_cuts(empty)
