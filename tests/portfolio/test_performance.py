"""The parts of a tear sheet against figures worked out by hand, and plain loops."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from portfolio.performance import (
    by_label,
    by_year,
    checked_daily,
    drawdown_state,
    month_table,
    rolling_beta,
    rolling_sharpe,
    wealth,
    worst_drawdowns,
)


def frame(net, start="2015-12-29", **columns):
    net = np.asarray(net, dtype=float)
    values = {"gross": net + 1e-4, "cost": 1e-4, "net": net, "turnover": 0.1, "long": 0.5, "short": -0.5, "names": 40}
    dates = pd.bdate_range(start, periods=len(net))
    return pd.DataFrame({"date": dates, **values, "market": np.linspace(-0.01, 0.01, len(net)), **columns})


FALLS = frame([0.10, -0.10, 0.00, 0.20, -0.50, 0.10])
"""Wealth 1, 1.1, .99, .99, 1.188, .594, .6534."""


def test_drawdowns_by_hand():
    table = worst_drawdowns(FALLS)
    days = FALLS["date"]
    assert table["depth"].to_numpy() == pytest.approx([0.5, 0.1])
    assert table["peak"].tolist() == [days[3], days[0]]
    assert table["trough"].tolist() == [days[4], days[1]]
    assert pd.isna(table["recovered"][0])
    assert table["recovered"][1] == days[3]
    assert table["sessions"].tolist() == [2, 3]


def test_a_fall_from_the_start_has_no_peak_and_a_rise_has_no_fall():
    table = worst_drawdowns(frame([-0.1, -0.1, 0.5]))
    assert table["depth"].tolist() == pytest.approx([0.19])
    assert pd.isna(table["peak"][0])
    assert table["sessions"].tolist() == [3]
    assert worst_drawdowns(frame([0.1, 0.1])).empty


def test_the_state_at_the_end():
    state = drawdown_state(FALLS)
    assert state.now == pytest.approx(1 - 0.6534 / 1.188)
    assert state.worst == pytest.approx(0.5)
    assert state.peak == FALLS["date"][3]
    assert state.sessions == 2
    assert drawdown_state(frame([-0.1])).peak is None
    top = drawdown_state(frame([0.1, 0.1]))
    assert (top.now, top.sessions) == (0.0, 0)


@settings(deadline=None)
@given(st.lists(st.floats(-0.3, 0.3).map(lambda x: round(x, 3)), min_size=1, max_size=40))
def test_drawdowns_are_those_of_a_plain_loop(net):
    daily = frame(net)
    peak, level, falls, deepest = 1.0, 1.0, [], 0.0
    for move in net:
        level *= 1 + move
        if level >= peak:
            falls += [deepest] if deepest else []
            peak, deepest = level, 0.0
        deepest = max(deepest, 1 - level / peak)
    falls += [deepest] if deepest else []
    assert worst_drawdowns(daily, 100)["depth"].to_numpy() == pytest.approx(sorted(falls, reverse=True))
    assert drawdown_state(daily).worst == pytest.approx(max(falls, default=0.0))
    assert drawdown_state(daily).now == pytest.approx(1 - level / peak)


def test_years_and_months_compound():
    daily = frame([0.01, 0.02, 0.03, -0.01, 0.05])  # 29-31 December, 1 and 4 January
    table = by_year(daily)
    assert table["year"].tolist() == [2015, 2016]
    assert table["return"].to_numpy() == pytest.approx([1.01 * 1.02 * 1.03 - 1, 0.99 * 1.05 - 1])
    assert table["days"].tolist() == [3, 2]
    assert table["net_return"][0] == pytest.approx(0.02 * 252)
    months = month_table(daily)
    assert months.columns.tolist()[:2] == ["year", "Jan"]
    assert months["Dec"][0] == pytest.approx(table["return"][0])
    assert months["Jan"][1] == pytest.approx(table["return"][1])
    assert months["Year"].to_numpy() == pytest.approx(table["return"].to_numpy())
    assert months.drop(columns=["year", "Year", "Jan", "Dec"]).isna().all().all()


def test_labels_leave_out_sessions_without_one():
    daily = frame([0.01, 0.03, -0.02, 0.5])
    table = by_label(daily, ["calm", "calm", "stress", None], "regime")
    assert table["regime"].tolist() == ["calm", "stress"]
    assert table["net_return"].to_numpy() == pytest.approx([0.02 * 252, -0.02 * 252])
    assert table["days"].tolist() == [2, 1]


def test_rolling_figures_are_those_of_a_plain_loop():
    rng = np.random.default_rng(1)
    market = rng.normal(0, 0.01, 60)
    net = 0.5 * market + rng.normal(0, 0.002, 60)
    sharpe, beta = rolling_sharpe(net, 20), rolling_beta(net, market, 20)
    assert np.isnan(sharpe[:19]).all()
    assert np.isnan(beta[:19]).all()
    for t in range(19, 60):
        part, base = net[t - 19 : t + 1], market[t - 19 : t + 1]
        assert sharpe[t] == pytest.approx(part.mean() / part.std(ddof=1) * np.sqrt(252))
        assert beta[t] == pytest.approx(np.cov(part, base)[0, 1] / base.var(ddof=1))


def test_what_never_moves_has_no_ratio():
    assert np.isnan(rolling_sharpe(np.full(9, 0.01), 3)).all()
    assert np.isnan(rolling_beta(np.arange(9.0), np.zeros(9), 3)).all()


def test_wealth_starts_at_one():
    assert wealth([0.1, -0.5]) == pytest.approx([1, 1.1, 0.55])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d.drop(columns="market"), "no column 'market'"),
        (lambda d: d[:0], "has no session"),
        (lambda d: pd.concat([d, d[1:2]]), "2015-12-30 is there twice"),
        (lambda d: d.assign(net=[0.1, np.nan, 0, 0, 0, 0]), "net of 2015-12-30 is not finite"),
    ],
)
def test_frames_that_are_none_are_refused(spoil, message):
    with pytest.raises(DataError, match=message):
        checked_daily(spoil(FALLS))


def test_impossible_asks_are_refused():
    with pytest.raises(ConfigError, match="window of 1"):
        rolling_sharpe([0.1, 0.2], 1)
    with pytest.raises(DataError, match="session 1 loses the whole capital"):
        wealth([0.0, -1.0])
    with pytest.raises(DataError, match="finite numbers"):
        wealth([0.0, np.nan])


def test_order_does_not_matter():
    shuffled = FALLS.sample(frac=1.0, random_state=0)
    pd.testing.assert_frame_equal(checked_daily(shuffled), FALLS)
