import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from core.errors import ConfigError, DataError
from portfolio.hedge import HedgeRule, hedge, put_payoff, put_price

RULE = HedgeRule(future_bps=1.0, roll_bps=25.2, put_sessions=63, put_markup=0.1)


def test_a_future_takes_the_beta_away():
    first = hedge("future", 0.4, RULE)
    assert (first.notional, first.beta) == (-0.4, 0.0)
    # .4 traded at one basis point, .4 held at a tenth of one a session.
    assert first.cost == pytest.approx(0.4e-4 + 0.4e-5)
    later = hedge("future", 0.4, RULE, before=first.notional)
    assert later.cost == pytest.approx(0.4e-5)
    assert hedge("future", -0.3, RULE, before=-0.4).cost == pytest.approx(0.7e-4 + 0.3e-5)
    assert hedge("future", 0.0, RULE, before=-0.4).cost == pytest.approx(0.4e-4)


@pytest.mark.parametrize("moneyness", [0.9, 1.0, 1.1])
def test_a_put_is_worth_its_expected_payoff(moneyness):
    # Lognormal index without drift: the price is the mean of what the put pays.
    spread = 0.2 * np.sqrt(0.25)

    def paid(z):
        return put_payoff(moneyness, np.exp(spread * z - 0.5 * spread**2) - 1.0) * norm.pdf(z)

    price, delta = put_price(moneyness, 0.2, 0.25)
    assert price == pytest.approx(quad(paid, -10, 10, limit=400)[0], abs=1e-7)
    # Delta: the change of a put on one unit of strike `moneyness` when the index moves.
    step = 1e-5
    up, down = ((1 + s) * put_price(moneyness / (1 + s), 0.2, 0.25)[0] for s in (step, -step))
    assert delta == pytest.approx((up - down) / (2 * step), abs=1e-6)


def test_a_put_at_the_money():
    # 2 Phi(sigma sqrt(T) / 2) - 1, and delta -Phi(-sigma sqrt(T) / 2).
    price, delta = put_price(1.0, 0.2, 0.25)
    assert price == pytest.approx(2 * norm.cdf(0.05) - 1)
    assert delta == pytest.approx(-norm.cdf(-0.05))


def test_a_put_costs_its_premium_evenly():
    insured = hedge("put", 0.5, RULE, volatility=0.2)
    premium, delta = put_price(0.95, 0.2, 63 / 252)
    assert insured.cost * 63 == pytest.approx(0.5 * premium * 1.1)
    assert insured.notional == 0.5
    assert insured.beta == pytest.approx(0.5 * (1 + delta))
    assert hedge("put", 0.5, RULE, volatility=0.4).cost > insured.cost


def test_refusals():
    with pytest.raises(ConfigError, match="'collar': choose future or put"):
        hedge("collar", 0.1, RULE)
    with pytest.raises(DataError, match="implied volatility nan"):
        hedge("put", 0.1, RULE)
    with pytest.raises(DataError, match="hedge it with a future"):
        hedge("put", -0.1, RULE, volatility=0.2)
    with pytest.raises(DataError, match="estimate the betas first"):
        hedge("future", np.nan, RULE)
