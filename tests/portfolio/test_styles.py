"""Style portfolios against a plain loop, and loadings that get back what was put in."""

import numpy as np
import pytest

from core.errors import DataError
from market.catalogue import Scenario
from market.scenarios import stress
from portfolio.styles import STYLES, Loadings, loadings, style_returns

RNG = np.random.default_rng(8)
T, N = 600, 12
RETURNS = RNG.normal(0, 0.01, (T, N))
RETURNS[RNG.random((T, N)) < 0.02] = np.nan
TRADED = np.exp(RNG.normal(15, 1, (T, N)))
UNIVERSE = RNG.random((T, N)) < 0.95
FOUND = style_returns(RETURNS, TRADED, UNIVERSE)


def spread(trait, t):
    """Top less bottom third of a trait at t - 1, in plain words; no ties here."""
    known = [i for i in range(N) if UNIVERSE[t - 1, i] and np.isfinite(trait(t - 1, i))]
    ranked = sorted(known, key=lambda i: trait(t - 1, i))
    place = {i: (k + 1) / len(ranked) for k, i in enumerate(ranked)}
    top = [RETURNS[t, i] for i in known if place[i] > 2 / 3]
    bottom = [RETURNS[t, i] for i in known if place[i] <= 1 / 3]
    return np.nanmean(top) - np.nanmean(bottom)


@pytest.mark.parametrize(
    ("name", "trait"),
    [
        ("size", lambda t, i: -TRADED[t - 62 : t + 1, i].mean()),
        ("momentum", lambda t, i: np.nansum(np.log1p(RETURNS[t - 251 : t - 20, i]))),
        ("low_volatility", lambda t, i: -np.nanstd(RETURNS[t - 62 : t + 1, i], ddof=1)),
        ("reversal", lambda t, i: -RETURNS[t, i]),
    ],
)
def test_a_style_is_that_of_a_plain_loop(name, trait):
    for t in range(300, 330):
        assert FOUND[name][t] == pytest.approx(spread(trait, t), abs=1e-12)


def test_styles_are_causal():
    cut = style_returns(RETURNS[:400], TRADED[:400], UNIVERSE[:400])
    for name in STYLES:
        np.testing.assert_array_equal(cut[name], FOUND[name][:400])
        later = RETURNS.copy()
        later[400:] = 9.0
        np.testing.assert_array_equal(style_returns(later, TRADED, UNIVERSE)[name][:400], FOUND[name][:400])


def test_few_symbols_make_no_portfolio():
    narrow = UNIVERSE.copy()
    narrow[310] = False
    narrow[310, :5] = True
    again = style_returns(RETURNS, TRADED, narrow)
    assert np.isnan(again["size"][311])
    assert np.isfinite(again["size"][312])


def planted():
    market = RNG.normal(0, 0.01, T)
    styles = {"size": 0.4 * market + RNG.normal(0, 0.004, T), "momentum": RNG.normal(0, 0.005, T)}
    true = RNG.normal(1, 0.3, (N, 3))
    returns = np.column_stack([market, *styles.values()]) @ true.T
    return market, styles, true, returns


def test_loadings_get_back_what_was_put_in():
    market, styles, true, returns = planted()
    returns[-50, 0] = np.nan
    found = loadings(returns, market, styles)
    assert found.names == ("size", "momentum")
    np.testing.assert_allclose(np.column_stack([found.market, found.styles]), true, atol=1e-9)
    assert not found.assumed.any()
    base = market[-252:]
    alone = [np.polyfit(base, returns[-252:, k], 1)[0] for k in range(1, N)]
    np.testing.assert_allclose(found.beta[1:], alone, atol=1e-9)


def test_a_symbol_without_a_past_is_the_market_and_marked():
    market, styles, _, returns = planted()
    returns[:-100, 3] = np.nan
    found = loadings(returns, market, styles)
    assert np.flatnonzero(found.assumed).tolist() == [3]
    assert found.beta[3] == found.market[3] == 1.0
    assert not found.styles[3].any()


def test_styles_that_cannot_be_told_are_left_out():
    market, styles, _, returns = planted()
    found = loadings(returns, market, {"size": np.full(T, np.nan), "momentum": styles["momentum"]})
    assert found.names == ("momentum",)
    assert found.styles.shape == (N, 1)


def test_a_market_that_is_not_known_is_refused():
    with pytest.raises(DataError, match="100 of the last 252"):
        loadings(RETURNS[-100:], np.linspace(-0.01, 0.01, 100), {})
    with pytest.raises(DataError, match="use one panel"):
        style_returns(RETURNS, TRADED[:-1], UNIVERSE)


def test_a_style_of_which_the_scenario_is_silent_moves_with_the_market():
    told = Loadings(
        np.array([1.0]), np.array([[0.5, 2.0]]), ("size", "momentum"), np.array([0.4, -0.3]), np.zeros(1, bool)
    )

    def total(**factors):
        scenario = Scenario("s", "s", -0.2, factors=factors)
        return stress(told.book(["A"], np.array([1.0]), [""], scenario), scenario).total

    assert total() == pytest.approx(-0.2 * told.beta[0]) == pytest.approx(-0.2 * (1 + 0.5 * 0.4 - 2 * 0.3))
    assert total(size=-0.1) == pytest.approx(-0.2 * (1 - 2 * 0.3) - 0.1 * 0.5)
    assert total(size=-0.1, momentum=0.05) == pytest.approx(-0.2 - 0.1 * 0.5 + 0.05 * 2)
