import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, ConvergenceError, DataError
from core.params import parse
from portfolio.construction import TOLERANCE, ConstructionRule, construct
from portfolio.costs import CostRule
from portfolio.covariance.form import Covariance
from portfolio.limits import LimitRule
from portfolio.prospects import Prospects

SIGMA = np.array([0.1, 0.2, 0.3])
MATRIX = np.array([[1, 0.2, 0.5], [0.2, 1, 0.1], [0.5, 0.1, 1]]) * np.outer(SIGMA, SIGMA)
MU = np.array([0.05, 0.06, 0.08])
FREE = CostRule(commission_bps=0.0, half_spread_bps=0.0, impact=0.0, borrow_bps=0.0)


NO_LIMITS = {
    "net_low": None,
    "net_high": None,
    "position": None,
    "sector": None,
    "factors": {},
    "participation": 0.1,
    "effective_names": None,
}


def _prospects(alpha=MU, matrix=MATRIX, **given):
    count = len(alpha)
    values = {
        "symbols": [f"S{i}" for i in range(count)],
        "alpha": np.asarray(alpha, dtype=float),
        "covariance": Covariance.of(matrix),
        "held": np.zeros(count),
        "adv": np.full(count, 1e12),
        "volatility": np.full(count, 0.02),
    }
    return Prospects(**(values | given))


def _rule(costs=FREE, risk_aversion=4.0, capital=1e7, sessions=5, **limits):
    limits = NO_LIMITS | {"gross": 10.0} | limits
    return ConstructionRule(
        risk_aversion=risk_aversion, capital=capital, sessions=sessions, limits=LimitRule(**limits), costs=costs
    )


def _book(count=12, seed=0):
    """A book with everything: alphas, a factor covariance, holdings, liquidity, groups and exposures."""
    rng = np.random.default_rng(seed)
    return _prospects(
        rng.normal(0, 0.01, count),
        np.eye(count),
        covariance=Covariance(rng.normal(0, 0.01, (count, 3)), rng.uniform(1e-4, 9e-4, count)),
        held=rng.normal(0, 0.03, count),
        adv=rng.lognormal(18, 1, count),
        volatility=rng.uniform(0.01, 0.03, count),
        sector=np.arange(count) % 3,
        industry=np.arange(count) % 5,
        factors={"market": rng.uniform(0.5, 1.5, count), "size": rng.normal(size=count)},
    )


# --- known solutions -----------------------------------------------------------------------------------------


def test_unconstrained():
    found = construct(_prospects(), _rule())
    assert found.weights == pytest.approx([1.118056, 0.260417, 0.018519], abs=1e-6)
    assert found.status == "optimal"
    assert found.binding == found.relaxed == ()


def test_budget_cap_cost_and_turnover():
    costs = CostRule(commission_bps=20.0, half_spread_bps=0.0, impact=0.0, borrow_bps=0.0)
    limits = {"net_low": 1.0, "net_high": 1.0, "position": 0.5, "turnover": 0.3}
    found = construct(_prospects(held=np.array([0.3, 0.3, 0.4])), _rule(costs, **limits))
    assert found.weights == pytest.approx([0.45, 0.30, 0.25], abs=1e-6)
    assert found.objective == pytest.approx(0.02669, abs=1e-7)
    assert found.trading_cost == pytest.approx(0.002 * 0.3, abs=1e-8)
    assert {row.kind for row in found.binding} == {"net", "turnover"}


def test_minimum_variance():
    found = construct(_prospects(np.zeros(3)), _rule(net_low=1.0, net_high=1.0))
    assert found.weights == pytest.approx([0.927329, 0.138178, -0.065507], abs=2e-6)


def test_impact_against_its_first_order_condition():
    # One symbol: alpha - gamma sigma^2 w - 3/2 k sqrt(w) = 0, solved for s = sqrt(w).
    costs = CostRule(commission_bps=0.0, half_spread_bps=0.0, impact=1.0, borrow_bps=0.0)
    k = 2 / 3 * 0.02 * np.sqrt(1e7 / 1e8)
    root = (-1.5 * k + np.sqrt((1.5 * k) ** 2 + 4 * 4 * 0.01 * 0.005)) / (2 * 4 * 0.01)
    one = _prospects([0.005], np.array([[0.01]]), adv=np.array([1e8]))
    found = construct(one, _rule(costs))
    assert found.weights == pytest.approx([root**2], rel=1e-3)
    assert found.impact_cost == pytest.approx(k * root**3, rel=1e-3)
    # The cost that the optimiser sees is the one that the backtest charges.
    charged = found.trades * costs.rate(np.abs(found.trades) * 1e7, 1e8, 0.02)
    assert charged == pytest.approx([found.impact_cost])


def test_shorts_pay_for_being_borrowed():
    costs = CostRule(commission_bps=0.0, half_spread_bps=0.0, impact=0.0, borrow_bps=252.0)
    one = _prospects([-0.002], np.array([[0.01]]))
    # 252 basis points a year are one a session: 10 sessions take half of the alpha.
    found = construct(one, _rule(costs, sessions=10))
    assert found.weights == pytest.approx([-0.001 / (4 * 0.01)], abs=1e-6)
    assert found.borrow_cost == pytest.approx(0.001 * 0.025, abs=1e-8)
    assert construct(one, _rule(costs, sessions=21)).weights == pytest.approx([0.0], abs=2e-5)


def test_the_form_of_the_covariance_does_not_matter():
    book = _book()
    plain = _prospects(**{**vars(book), "covariance": Covariance.of(book.covariance.matrix())})
    rule = _rule(CostRule(), position=0.1, turnover=0.4)
    assert construct(plain, rule).weights == pytest.approx(construct(book, rule).weights, abs=1e-5)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10_000))
def test_no_allowed_book_is_better(excesses, seed):
    rng = np.random.default_rng(seed)
    book = _book(6, seed)
    rule = _rule(
        CostRule(), position=0.2, gross=1.0, turnover=0.6, sector=0.2, effective_names=10.0, factors={"market": 0.1},
        relax=[],
    )  # fmt: skip
    try:
        found = construct(book, rule)
    except ConvergenceError:
        return
    others = found.weights + rng.normal(0, 10.0 ** rng.uniform(-5, -1, (200, 1)), (200, 6))
    others = np.vstack([others, found.weights + rng.random((30, 1)) * (book.held - found.weights)])
    allowed = [w for w in others if not excesses(w, book, rule)]
    best = max((_utility(w, book, rule) for w in allowed), default=-np.inf)
    assert best <= _utility(found.weights, book, rule) + 1e-7
    assert found.objective == pytest.approx(_utility(found.weights, book, rule), abs=1e-12)


def _utility(w, book, rule):
    """The objective in plain words, one order at a time."""
    value = 0.0
    for i, weight in enumerate(w):
        order = abs(weight - book.held[i])
        notional = order * rule.capital
        value += 0.0 if np.isnan(book.alpha[i]) else book.alpha[i] * weight
        value -= order * float(rule.costs.rate(notional, book.adv[i], book.volatility[i]))
        value -= max(-weight, 0.0) * rule.costs.borrow_bps * 1e-4 * rule.sessions / 252
    return value - 0.5 * rule.risk_aversion * w @ book.covariance.matrix() @ w


# --- each limit binds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        ({"gross": 0.3}, "gross"),
        ({"net_low": 2.2}, "net"),
        ({"net_high": -0.1}, "net"),
        ({"position": 0.02}, "position"),
        ({"sector": 0.01}, "sector"),
        ({"industry": 0.01}, "industry"),
        ({"factors": {"size": 0.001}}, "factor"),
        ({"turnover": 0.05}, "turnover"),
        ({"effective_names": 50.0}, "concentration"),
        ({"correlation": 0.5, "correlated_weight": 0.01}, "correlation"),
        ({"participation": 0.0005}, "participation"),
    ],
)
def test_a_limit_binds_and_its_price_is_what_it_costs(excesses, limits, kind):
    book = _book()
    rule = _rule(CostRule(), **{"gross": 3.0, "position": 3.0, "relax": []} | limits)
    found = construct(book, rule)
    assert not excesses(found.weights, book, rule)
    rows = [row for row in found.binding if row.kind == kind]
    assert rows
    assert found.objective < construct(book, _rule(CostRule(), gross=3.0, position=3.0)).objective
    name = next(iter(limits))
    if name in ("gross", "net_low", "net_high", "position", "sector", "turnover"):
        # All rows of the limit move together, and the objective by their prices.
        step = 1e-4 * (-1 if name == "net_low" else 1)
        wider = construct(book, _rule(CostRule(), **{"gross": 3.0, "position": 3.0} | {name: limits[name] + step}))
        assert (wider.objective - found.objective) / 1e-4 == pytest.approx(sum(row.price for row in rows), rel=0.05)


def test_pairs_that_move_alike_count_as_one_position():
    # 0 and 1 move alike, 2 against them; 3 is alone and is bounded by nothing.
    matrix = np.full((4, 4), 0.0)
    matrix[:3, :3] = 0.9
    matrix[2, :2] = matrix[:2, 2] = -0.9
    np.fill_diagonal(matrix, 1.0)
    book = _prospects([0.01, 0.01, -0.005, 0.01], matrix * 1e-4)
    rule = _rule(correlation=0.8, correlated_weight=0.3, risk_aversion=1.0, gross=5.0)
    w = construct(book, rule).weights
    assert w[0] + w[1] - w[2] == pytest.approx(0.3, abs=1e-6)
    assert w[3] > 0.3


@pytest.mark.parametrize("seed", range(2))
def test_a_book_of_many_names(excesses, seed):
    book = _book(450, seed)
    book = _prospects(**{**vars(book), "held": book.held / 20})
    rule = _rule(
        CostRule(),
        risk_aversion=10.0, capital=1e8, gross=2.0, net_low=-0.02, net_high=0.02, position=0.02, sector=0.05,
        industry=0.03, factors={"market": 0.02, "size": 0.1}, effective_names=60.0, correlation=0.9,
        correlated_weight=0.04,
    )  # fmt: skip
    found = construct(book, rule)
    assert found.status == "optimal"
    assert found.relaxed == ()
    assert not excesses(found.weights, book, rule)
    assert (found.weights == 0).any()


# --- what is never done --------------------------------------------------------------------------------------


def test_what_cannot_be_traded_is_not_traded():
    book = _book()
    tradable = np.ones(12, dtype=bool)
    tradable[0] = False
    adv, volatility, held = book.adv.copy(), book.volatility.copy(), book.held.copy()
    adv[1], adv[2], volatility[3], held[2] = 0.0, np.nan, np.nan, 0.0
    halted = _prospects(**{**vars(book), "tradable": tradable, "adv": adv, "volatility": volatility, "held": held})
    found = construct(halted, _rule(CostRule(), position=0.1))
    assert (found.weights[:4] == held[:4]).all()
    assert (found.trades[:4] == 0).all()
    assert np.count_nonzero(found.trades[4:]) == 8
    nothing = construct(_prospects(**{**vars(book), "adv": np.zeros(12)}), _rule(CostRule()))
    assert nothing.status == "nothing to trade"
    assert (nothing.weights == book.held).all()


def test_without_a_forecast_a_position_is_only_reduced():
    book = _book()
    blind = _prospects(**{**vars(book), "alpha": np.full(12, np.nan)})
    # No forecast and a dear risk: everything is sold, nothing is turned over.
    w = construct(blind, _rule(risk_aversion=1000.0)).weights
    assert ((w * np.sign(book.held) >= 0) & (np.abs(w) <= np.abs(book.held))).all()
    assert np.abs(w).sum() < 0.5 * np.abs(book.held).sum()
    mixed = book.alpha.copy()
    mixed[4] = np.nan
    fresh = np.where(np.arange(12) == 4, 0.0, book.held)
    assert construct(_prospects(**{**vars(book), "alpha": mixed, "held": fresh}), _rule()).weights[4] == 0.0


def test_no_new_longs():
    book = _prospects([0.05, 0.05, 0.05], held=np.array([0.0, 0.1, -0.1]), no_new_longs=np.array([True] * 3))
    found = construct(book, _rule())
    assert found.weights == pytest.approx([0.0, 0.1, 0.0], abs=1e-6)
    assert "direction" in {row.kind for row in found.binding}


# --- limits that conflict ------------------------------------------------------------------------------------


def test_the_first_in_the_order_gives_way():
    # From nothing, a budget of 1 cannot be bought with a turnover of 0.4.
    found = construct(_prospects(), _rule(net_low=1.0, net_high=1.0, turnover=0.4))
    assert [(row.kind, row.asked, row.forced) for row in found.relaxed] == [("turnover", 0.4, False)]
    assert found.relaxed[0].given == pytest.approx(1.0, abs=0.01)
    assert found.weights.sum() == pytest.approx(1.0, abs=TOLERANCE)
    other = construct(_prospects(), _rule(net_low=1.0, net_high=1.0, turnover=0.4, relax=["net", "turnover"]))
    assert [(row.kind, row.asked) for row in other.relaxed] == [("net", 1.0)]
    assert np.abs(other.trades).sum() <= 0.4 + TOLERANCE
    assert str(found.relaxed[0]) == "turnover turnover: 0.4 -> 1.006 (in conflict with limits that matter more)"


def test_only_what_must_gives_way_and_only_where_it_must():
    # Sector 0 is one symbol, held at 0.4 and unable to trade; sector 1 can be brought inside.
    book = _prospects(
        held=np.array([0.4, 0.4, 0.0]), sector=np.array([0, 1, 1]), tradable=np.array([False, True, True])
    )
    found = construct(book, _rule(sector=0.2, position=0.3, turnover=0.3))
    assert {(row.kind, row.member, row.forced) for row in found.relaxed} == {
        ("sector", "0", True),
        ("position", "S0", True),
    }
    assert abs(found.weights[1]) <= 0.3 + TOLERANCE
    assert abs(found.weights[1:].sum()) <= 0.2 + TOLERANCE
    assert "out of reach of today's trades" in str(found.relaxed[0])


def test_an_important_limit_is_not_spent_on_lesser_ones():
    # The net of 1 conflicts with the caps, the caps with nothing else: lexicographically the net yields to them
    # where they matter more, whatever the turnover and the concentration ask.
    limits = {"net_low": 1.0, "net_high": 1.0, "position": 0.1, "turnover": 0.1, "effective_names": 300.0}
    order = ["turnover", "concentration", "net", "position", "gross"]
    found = construct(_prospects(), _rule(**limits, relax=order))
    assert {row.kind for row in found.relaxed} == {"turnover", "concentration", "net"}
    assert found.weights == pytest.approx([0.1, 0.1, 0.1], abs=0.01)


def test_what_may_not_give_way_does_not():
    with pytest.raises(ConvergenceError, match=r"gross, net, position, turnover cannot all hold.*name it in relax"):
        construct(_prospects(), _rule(net_low=1.0, net_high=1.0, turnover=0.4, position=0.5, relax=[]))
    with pytest.raises(ConvergenceError, match="gross, net, turnover cannot all hold"):
        construct(_prospects(), _rule(net_low=1.0, net_high=1.0, turnover=0.4, position=0.5, relax=["position"]))


# --- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"held": np.zeros(2)}, "held has shape"),
        ({"held": np.array([0, np.nan, 0])}, "held of S1 is not finite"),
        ({"alpha": np.array([np.inf, 0, 0])}, "alpha of S0 is infinite: NaN is the mark"),
        ({"covariance": Covariance.of(np.eye(2))}, "covariance of 2 symbols for 3"),
        ({"factors": {"size": np.array([0, 1, np.nan])}}, "factor size of S2 is not finite"),
        ({"sector": np.zeros(4)}, "sector has shape"),
        ({"symbols": []}, "no symbols"),
    ],
)
def test_prospects_that_are_none(change, message):
    with pytest.raises(DataError, match=message):
        _prospects(**change)


def test_a_limit_without_exposures():
    with pytest.raises(DataError, match="no exposures to value: give them, or drop their limit"):
        construct(_prospects(), _rule(factors={"value": 0.1}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"net_low": 0.1, "net_high": -0.1}, "net_low 0.1 is above"),
        ({"correlation": 0.5}, "together, or neither"),
        ({"relax": ["gross", "gross"]}, "names a limit twice"),
        ({"relax": ["participation"]}, "limits.relax.0"),
        ({"gross": 0.0}, "limits.gross"),
        ({"positions": 0.1}, "unknown parameter"),
    ],
)
def test_limits_that_are_none(values, message):
    with pytest.raises(ConfigError, match=message):
        parse(LimitRule, values, "limits")


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 10_000))
def test_the_order_of_symbols_does_not_matter(seed):
    book, order = _book(8, seed), np.random.default_rng(seed).permutation(8)
    rule = _rule(CostRule(), position=0.1, sector=0.05, turnover=0.3)

    def taken(values):
        return values[order] if isinstance(values, np.ndarray) else values

    other = _prospects(
        **{name: taken(values) for name, values in vars(book).items()}
        | {
            "covariance": Covariance(book.covariance.loadings[order], book.covariance.specific[order]),
            "factors": {name: values[order] for name, values in book.factors.items()},
        }
    )
    assert construct(other, rule).weights == pytest.approx(construct(book, rule).weights[order], abs=1e-4)
