import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DataError
from market.catalogue import Proxy, Scenario, load_catalogue
from market.scenarios import PARTS, Book, crowd_returns, stress

FACTORS = ("size", "value", "momentum")
SECTORS = ("Energy", "Financials", "Utilities", "")


def _book(seed=0, count=7, **changes):
    rng = np.random.default_rng(seed)
    parts = {
        "symbols": [f"S{i}" for i in range(count)],
        "weights": rng.normal(0, 0.3, count),
        "beta": rng.uniform(0.3, 1.8, count),
        "exposures": rng.normal(size=(count, 3)),
        "factors": FACTORS,
        "sectors": [SECTORS[k] for k in rng.integers(0, 4, count)],
        "crowd": rng.normal(0, 0.02, count),
    }
    return Book(**{**parts, **changes})


def _scenario(seed=0, size=0.01):
    rng = np.random.default_rng(seed)
    market, crowd, *moves = size * rng.uniform(-1, 1, 6)
    names = ("size", "value", "Energy", "Financials")
    shocks = dict(zip(names, moves, strict=True))
    return Scenario(
        "x",
        "X",
        market,
        crowd=crowd,
        factors={k: shocks[k] for k in names[:2]},
        sectors={k: shocks[k] for k in names[2:]},
    )


def test_by_hand():
    book = Book(
        symbols=["A", "B"], weights=[0.6, -0.4], beta=[1.2, 0.5], exposures=[[1.0, 0.0], [-0.5, 2.0]],
        factors=["value", "momentum"], sectors=["Financials", ""], crowd=[-0.01, 0.02],
    )  # fmt: skip
    scenario = Scenario(
        "x", "X", -0.3, factors={"value": 0.1}, crowd=2.0,
        proxies=(Proxy("BAC", -0.5, "Financials"), Proxy("MTUM", -0.4, factor="momentum")),
    )  # fmt: skip
    result = stress(book, scenario)
    # A: -.36 + .1 - .2 - .02 = -.48; B: -.15 - .05 - .2 + 0 + .04 = -.36.
    assert result.returns[:, 0] == pytest.approx([-0.36, 0.1, -0.2, -0.02, 0])
    assert result.returns[:, 1] == pytest.approx([-0.15, -0.25, 0, 0.04, 0])
    assert result.by_symbol == pytest.approx([-0.288, 0.144])
    assert result.by_part == pytest.approx(
        {"market": -0.156, "factors": 0.16, "sector": -0.12, "crowd": -0.028, "floor": 0.0}
    )
    assert result.total == pytest.approx(-0.144)
    assert result.unmet == ()


def _plain(book, scenario):
    """Returns by part, symbol by symbol and shock by shock."""
    rows = []
    for i, beta in enumerate(book.beta):
        factors = sum(
            book.exposures[i, k] * scenario.factor_shocks().get(name, 0) for k, name in enumerate(book.factors)
        )
        parts = [beta * scenario.market, factors, scenario.sector_shocks().get(book.sectors[i], 0)]
        parts.append(scenario.crowd * book.crowd[i])
        parts.append(-1 - sum(parts) if sum(parts) < -1 else 0.0)
        rows.append(parts)
    return np.array(rows).T


@pytest.mark.parametrize("name", list(load_catalogue()))
def test_every_scenario_equals_the_plain_sum(name):
    scenario = load_catalogue()[name]
    for seed in range(5):
        book = _book(seed)
        result = stress(book, scenario)
        plain = _plain(book, scenario)
        assert result.returns == pytest.approx(plain, abs=1e-12)
        assert result.contributions == pytest.approx(plain * book.weights, abs=1e-12)
        assert (result.returns.sum(axis=0) >= -1 - 1e-12).all()


seeds = st.integers(0, 10_000)


@settings(deadline=None, max_examples=60)
@given(seeds, seeds)
def test_parts_and_symbols_add_up(a, b):
    result = stress(_book(a), _scenario(b, size=0.9))
    assert list(result.by_part) == list(PARTS)
    assert sum(result.by_part.values()) == pytest.approx(result.total, abs=1e-12)
    assert result.by_symbol.sum() == pytest.approx(result.total, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(seeds, seeds, st.floats(-3, 3))
def test_linear_in_the_weights(a, b, times):
    book, other, scenario = _book(a), np.random.default_rng(b).normal(size=7), _scenario(b, size=0.9)
    mixed = dataclasses.replace(book, weights=times * book.weights + other)
    alone = stress(dataclasses.replace(book, weights=other), scenario).total
    assert stress(mixed, scenario).total == pytest.approx(times * stress(book, scenario).total + alone, abs=1e-10)


@settings(deadline=None, max_examples=60)
@given(seeds, seeds)
def test_scenarios_add_up_where_no_price_is_lost(a, b):
    book, one, two = _book(a), _scenario(a), _scenario(b)
    both = Scenario(
        "y", "Y", one.market + two.market, crowd=one.crowd + two.crowd,
        factors={k: one.factors[k] + two.factors[k] for k in one.factors},
        sectors={k: one.sectors[k] + two.sectors[k] for k in one.sectors},
    )  # fmt: skip
    assert stress(book, both).total == pytest.approx(stress(book, one).total + stress(book, two).total, abs=1e-12)


@pytest.mark.parametrize("name", ["lehman_2008", "dotcom_2000"])
def test_long_and_short_are_opposite(name):
    book, scenario = _book(3), load_catalogue()[name]
    short = dataclasses.replace(book, weights=-book.weights)
    assert (stress(short, scenario).contributions == -stress(book, scenario).contributions).all()
    nothing = stress(dataclasses.replace(book, weights=np.zeros(7)), scenario)
    assert (nothing.total, set(nothing.by_part.values())) == (0.0, {0.0})
    assert not nothing.by_symbol.any()


def test_the_order_of_symbols_and_factors_changes_nothing():
    book, order, columns = _book(4), np.random.default_rng(1).permutation(7), [2, 0, 1]
    other = Book(
        [book.symbols[i] for i in order], book.weights[order], book.beta[order], book.exposures[order][:, columns],
        [FACTORS[k] for k in columns], [book.sectors[i] for i in order], book.crowd[order],
    )  # fmt: skip
    for scenario in load_catalogue().values():
        assert stress(other, scenario).by_symbol == pytest.approx(stress(book, scenario).by_symbol[order], abs=1e-14)


def test_a_stock_like_the_proxies_moves_as_they_did():
    # The market must not be counted twice: beta one, no factor, no crowd.
    lehman = load_catalogue()["lehman_2008"]
    book = Book(["B", "W"], [1, 1], [1, 1], np.zeros((2, 0)), [], ["Financials", "Consumer Staples"], [0, 0])
    assert stress(book, lehman).by_symbol == pytest.approx([-0.55, -0.19])


def test_no_price_falls_below_zero():
    book = Book(["A", "B"], [0.5, -0.5], [2.5, 2.5], np.zeros((2, 0)), [], ["Energy", "Energy"], [-0.1, 0.0])
    result = stress(book, Scenario("x", "X", -0.5))
    # -1.25 - .1 and -1.25: both symbols lose all, and the floor gives back .35 and .25.
    assert result.returns.sum(axis=0) == pytest.approx([-1, -1])
    assert result.by_part == pytest.approx({"market": 0, "factors": 0, "sector": 0, "crowd": -0.05, "floor": 0.05})


def test_shocks_that_meet_nothing_are_told():
    covid = load_catalogue()["covid_2020"]
    book = Book(["A"], [1], [1], [[0.5]], ["size"], ["Energy"], [0])
    assert stress(book, covid).unmet == ("value", "momentum", "low_volatility", "Consumer Staples")
    # A sector of a factor's name does not hide it.
    book = Book(["A"], [1], [1], np.zeros((1, 0)), [], ["size"], [0])
    assert "size" in stress(book, covid).unmet


def test_the_crowd_that_leaves():
    # Cardaliaguet-Lehalle, E0 = .5: alpha = 1 drifts by -.497246, alpha = 2 by -.998114 daily standard deviations.
    got = crowd_returns([1, 2, 0], [0.5, 0.5, 0.5], [0.5 - 0.497246, 0.5 - 0.998114 / 2, 0.0], [0.02, 0.01, 0.03])
    assert got == pytest.approx([-0.497246 * 0.02, -0.998114 * 0.01, 0], abs=1e-12)
    # A crowd that is short buys back, and the price rises.
    assert crowd_returns([1.0], [-0.5], [0.0], [0.02]) == pytest.approx([0.01])
    with pytest.raises(DataError, match=r"remaining \(1,\), volatility \(2,\): need one number a symbol each"):
        crowd_returns([1, 1], [1, 1], [0], [0.01, 0.01])
    with pytest.raises(DataError, match="impact of row 1 is negative"):
        crowd_returns([1, -1], [1, 1], [0, 0], [0.01, 0.01])
    with pytest.raises(DataError, match="volatility of row 0 is negative"):
        crowd_returns([1], [1], [0], [-0.01])


@pytest.mark.parametrize("name", ["weights", "beta", "exposures", "crowd"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none_is_refused_with_its_symbol(name, value):
    values = np.array(getattr(_book(), name))
    values[3, ...] = value
    with pytest.raises(DataError, match=f"book: {name} of S3 not finite: give a number or leave the symbol out"):
        _book(**{name: values})
    values[5, ...] = value
    with pytest.raises(DataError, match=r"of S3 not finite \(and of 1 more symbols\)"):
        _book(**{name: values})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.zeros(6)}, r"weights \(6,\), need \(7,\)"),
        ({"exposures": np.zeros((7, 2))}, r"exposures \(7, 2\), need \(7, 3\)"),
        ({"sectors": ["Energy"]}, "1 sectors for 7 symbols"),
        ({"symbols": ["A", "B", "C", "A", "D", "E", "F"]}, "symbol A is there twice"),
        ({"factors": ("size", "value", "size")}, "factor size is there twice"),
        (
            {"factors": ("size", "value", "market")},
            "factor market is there twice: keep one; the market's loadings are b",
        ),
    ],
)
def test_a_book_that_is_none(change, message):
    with pytest.raises(DataError, match=message):
        _book(**change)


def test_an_empty_book_gains_nothing():
    book = Book([], [], [], np.zeros((0, 3)), FACTORS, [], [])
    assert stress(book, load_catalogue()["covid_2020"]).total == 0
