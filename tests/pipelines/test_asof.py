"""Reading as of a session gives what the complete history gives, to each of its users."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from core.errors import SessionError
from core.files import write_parquet
from features.assemble import assemble
from features.panel import Panel
from features.registry import build_features
from features.target import TargetRule, make_target
from features.universe import UniverseRule
from pipelines.asof import read_as_of
from pipelines.day import last_rows, read_day
from pipelines.inputs import Inputs
from pipelines.monitor import read_prices
from sources.base import Source, open_source
from sources.calendar import sessions, sessions_until
from sources.cleaning import clean

DAYS = sessions("2012-01-03", "2015-12-31")
RULE = UniverseRule(
    min_dollar_volume=5e6, min_coverage=0.8, coverage_sessions=60, break_sessions=60, dollar_volume_sessions=21
)
TARGET = TargetRule(horizon=5, beta_window=60)
LAST = DAYS[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """60 symbols with gaps, listings, delistings and jumps of the price level."""
    rng = np.random.default_rng(5)
    shape = (len(DAYS), 60)
    close = 40 * np.exp(np.cumsum(rng.normal(0, 0.012, shape) + rng.normal(0, 0.008, (len(DAYS), 1)), axis=0))
    there = rng.random(shape) > 0.03
    for symbol in np.repeat(np.arange(60), 4):
        begin, gap = rng.integers(200, len(DAYS) - 70), rng.integers(0, 62)
        there[begin : begin + gap, symbol] = False
        close[begin + gap :, symbol] *= rng.choice([0.1, 0.4, 0.65, 1.5, 10.0])
    there[: len(DAYS) - 90, 5] = there[len(DAYS) - 50 : -7, 6] = False
    there[-1] = True
    session, symbol = np.nonzero(there)
    price = close[session, symbol]
    frame = pd.DataFrame({"date": DAYS[session].astype("datetime64[ns]"), "symbol": [f"S{k:02d}" for k in symbol]})
    frame = frame.assign(
        open=price, high=1.01 * price, low=0.99 * price, close=price, volume=rng.lognormal(12, 1, len(price))
    )
    folder = tmp_path_factory.mktemp("tables")
    write_parquet(folder / "prices.parquet", frame)
    return open_source("files", folder, {})


@pytest.fixture(scope="module")
def full(source: Source) -> Panel:
    return assemble(clean({"prices": source.read("prices")}, DAYS[0].item(), LAST.item()).tables, DAYS, RULE)


def agree(full: Panel, part: Panel, count: int) -> None:
    """The last sessions of a part hold what the complete panel holds; symbols that it lacks have no price there."""
    end = int(full.dates.searchsorted(part.dates[-1])) + 1
    assert np.array_equal(part.dates[-count:], full.dates[end - count : end])
    here = np.isin(full.symbols, part.symbols)
    assert np.array_equal(part["close"][-count:], full["close"][end - count : end, here], equal_nan=True)
    assert np.array_equal(part.universe[-count:], full.universe[end - count : end, here])
    assert np.isnan(full["close"][end - count : end, ~here]).all()


@pytest.mark.parametrize(("count", "backs"), [(1, range(1, 200, 2)), (2, [2, 9]), (63, [1, 40]), (250, [1])])
def test_a_window_is_the_end_of_the_complete_history(source: Source, full: Panel, count: int, backs) -> None:
    for back in backs:
        panel = read_as_of(source, DAYS[-back], count, RULE, {"prices": None}).panel
        assert len(panel.dates) == count + RULE.lookback - 1
        agree(full, panel, count)
        assert 0 < panel.universe[-1].sum() < panel.universe.shape[1]


def test_the_daily_job_and_the_monitor_see_the_same_market(source: Source, full: Panel) -> None:
    built = [one for one in build_features({"market": None}) if one.lookback <= 70 and "close" in one.inputs][:6]
    day = read_day(source, Inputs(RULE, TARGET, tuple(built)), [one.name for one in built], LAST, 20)
    first = DAYS[-20].astype(datetime.date)
    watched = read_prices(source, RULE, TARGET, first, LAST)
    assert len(watched.dates) == 20 + TARGET.beta_window + 2 + RULE.lookback - 1
    for panel in (day.panel, watched):
        agree(full, panel, 20)
    held = full.universe[-20:]
    whole = last_rows(full, built, 20)[held]
    assert np.array_equal(day.rows.X.view(np.uint32), whole.view(np.uint32))
    wanted, found = (make_target(panel, TARGET).residual[-20:-6] for panel in (full, watched))
    assert np.array_equal(wanted[:, np.isin(full.symbols, watched.symbols)], found, equal_nan=True)
    assert np.isfinite(found).any()


def test_nothing_before_the_first_price_is_in_a_panel(source: Source) -> None:
    panel = read_as_of(source, DAYS[99], 500, RULE, {"prices": None}).panel
    assert np.array_equal(panel.dates, DAYS[:100])


def test_a_session_that_the_data_does_not_reach_is_refused(source: Source) -> None:
    after, before = sessions("2016-01-04", "2016-01-04")[0], DAYS[0] - np.timedelta64(400, "D")
    with pytest.raises(SessionError, match="the last before it is 2015-12-31"):
        read_as_of(source, after, 1, RULE, {"prices": None})
    with pytest.raises(SessionError, match="none before it"):
        read_as_of(source, sessions_until(before, 1)[0], 1, RULE, {"prices": None})
