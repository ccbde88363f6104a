"""Cleaning and universe hold; a rule that looks ahead, or further back than declared, is caught."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from core.errors import LeakageError
from features import cleaning_invariance
from features.invariance import prove_cleaning, require
from features.universe import UniverseRule
from sources.calendar import sessions
from sources.cleaning import clean
from sources.schemas import normalise

DAYS = sessions("2014-01-02", "2015-12-31")
RULE = UniverseRule(min_dollar_volume=1e5, coverage_sessions=63, break_sessions=63)
CUTS = [380]


@pytest.fixture(scope="module")
def raw() -> dict[str, pd.DataFrame]:
    """Raw prices, announcements and securities of 12 symbols with bad ticks and gaps."""
    rng = np.random.default_rng(5)
    names = np.array([f"S{i:02d}" for i in range(12)])
    shape = (len(DAYS), len(names))
    close = 40 * np.exp(np.cumsum(rng.normal(0, 0.015, shape), axis=0))
    prices = pd.DataFrame(
        {
            "date": np.repeat(DAYS, len(names)).astype("datetime64[s]"),
            "symbol": np.tile(names, len(DAYS)),
            "open": close.ravel(),
            "high": 1.01 * close.ravel(),
            "low": 0.99 * close.ravel(),
            "close": close.ravel(),
            "volume": rng.integers(50_000, 500_000, close.size),
        }
    )
    prices.loc[rng.choice(len(prices), 30), "open"] = 0.0
    prices.loc[rng.choice(len(prices), 10), ["high", "low", "close"]] *= 2.0
    prices = prices.drop(index=rng.choice(len(prices), 60, replace=False))
    days = rng.choice(DAYS, 80)
    earnings = pd.DataFrame(
        {
            "symbol": rng.choice(names, 80),
            "announce_date": days.astype("datetime64[s]"),
            "available_date": (days + rng.integers(0, 2, 80)).astype("datetime64[s]"),
            "release_time": "post",
            "quarter_label": "Q",
            "eps_estimate": 1.0,
            "eps_actual": rng.normal(1, 0.1, 80).round(2),
        }
    ).drop_duplicates(["symbol", "announce_date"])
    earnings["surprise"] = earnings["eps_actual"] - earnings["eps_estimate"]
    securities = pd.DataFrame({"symbol": names, "name": names, "exchange": "X", "sector": "S", "industry": "I"})
    tables = {"prices": prices, "earnings": earnings, "securities": securities}
    return {name: normalise(name, frame, name) for name, frame in tables.items()}


def mutate(monkeypatch, change) -> None:
    """Let the cleaned prices pass through `change`."""

    def leaky(*arguments):
        cleaned = clean(*arguments)
        prices = change(cleaned.tables["prices"].copy())
        return dataclasses.replace(cleaned, tables={**cleaned.tables, "prices": prices})

    monkeypatch.setattr(cleaning_invariance, "clean", leaky)


def test_cleaning_and_universe_hold(raw):
    report = prove_cleaning(raw, RULE, CUTS)
    require(report)
    subjects = {"cleaning:prices", "cleaning:earnings", "cleaning:securities", "panel", "universe"}
    assert set(report["feature"]) == subjects
    assert set(report["invariance"]) == {"prefix", "lookback", "order", "rescale"}


def failed(raw) -> set[tuple[str, str]]:
    report = prove_cleaning(raw, RULE, CUTS)
    return set(report.loc[~report["ok"], ["feature", "invariance"]].itertuples(index=False, name=None))


def test_a_repair_that_waits_for_tomorrow_is_caught(raw, monkeypatch):
    def interpolated(prices):
        later = prices.groupby("symbol")["volume"].shift(-1)
        return prices.assign(volume=prices["volume"].where(prices["volume"] > later, later))

    mutate(monkeypatch, interpolated)
    assert ("cleaning:prices", "prefix") in failed(raw)


def test_a_rule_that_looks_further_back_than_declared_is_caught(raw, monkeypatch):
    mutate(monkeypatch, lambda prices: prices.assign(volume=prices.groupby("symbol")["volume"].cummax()))
    caught = failed(raw)
    assert ("cleaning:prices", "lookback") in caught
    assert ("cleaning:prices", "prefix") not in caught


def test_a_universe_of_full_sample_liquidity_is_caught(raw, monkeypatch):
    def leaky(fields, rule):
        total = np.nansum(fields["volume"], axis=0)
        return np.broadcast_to(total > np.median(total), fields["close"].shape) & ~np.isnan(fields["close"])

    monkeypatch.setattr("features.assemble.universe", leaky)
    assert ("universe", "prefix") in failed(raw)


def test_a_universe_by_price_level_is_caught(raw, monkeypatch):
    def leaky(fields, rule):
        return fields["close"] > 40.0

    monkeypatch.setattr("features.assemble.universe", leaky)
    monkeypatch.setattr(cleaning_invariance, "universe", leaky)
    assert failed(raw) == {("universe", "rescale")}


def test_cuts_need_a_future(raw):
    with pytest.raises(LeakageError, match="outside"):
        prove_cleaning(raw, RULE, [len(DAYS) - 1])


@pytest.mark.slow
@pytest.mark.real_data
def test_everything_holds_on_real_data(real_data):
    """Every registered feature, cleaning and the universe, on 450 symbols and 13 years."""
    from features.assemble import assemble
    from features.invariance import prove, spread_cuts
    from features.registry import FAMILIES, build_features
    from sources.base import open_source

    source = open_source("files", real_data, {})
    tables = {name: source.read(name) for name in source.tables()}
    days = sessions(tables["prices"]["date"].min().date(), tables["prices"]["date"].max().date())
    require(prove_cleaning(tables, UniverseRule(), [2800]))
    panel = assemble(clean(tables, days[0].astype(object), days[-1].astype(object)).tables, days, UniverseRule())
    features = [item for item in build_features(dict.fromkeys(FAMILIES.names())) if item.available(panel)]
    report = prove(features, panel, spread_cuts(panel), symbols=60)
    require(report)
    assert len(features) > 60
    assert set(report["feature"]) == {feature.name for feature in features}
