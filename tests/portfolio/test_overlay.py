import numpy as np
import pytest

from core.errors import DataError
from portfolio.hedge import HedgeRule, hedge, put_payoff, put_price
from portfolio.overlay import NO_OVERLAY, Overlay, adjust, carry

RULE = HedgeRule()


def test_a_future_is_settled_and_charged_as_a_hedge():
    bought, cost = adjust(NO_OVERLAY, "future", -500.0, 1000.0, RULE, np.nan)
    assert cost == pytest.approx(1000 * hedge("future", 0.5, RULE).cost)
    held, gain = carry(bought, 0.02, np.nan)
    assert gain == pytest.approx(-10.0)
    assert held.notional == pytest.approx(-510.0)
    kept, cost = adjust(held, "future", -510.0, 1000.0, RULE, np.nan)
    assert cost == pytest.approx(510 * 10e-4 / 252)
    assert kept.notional == held.notional
    gone, cost = adjust(held, "none", 0.0, 1000.0, RULE, np.nan)
    assert gone == NO_OVERLAY
    assert cost == pytest.approx(510 * 0.5e-4)


@pytest.mark.parametrize("end", [0.8, 0.95, 1.1])
def test_a_put_pays_its_payoff_for_its_premium(end):
    rule = HedgeRule(put_sessions=10)
    bought, cost = adjust(NO_OVERLAY, "put", 1000.0, 5000.0, rule, 0.2)
    premium = 1000 * put_price(0.95, 0.2, 10 / 252)[0]
    assert bought.mark == pytest.approx(premium)
    assert cost == pytest.approx(0.05 * premium)
    position, gains = bought, 0.0
    for _ in range(10):
        position, gain = carry(position, end ** (1 / 10) - 1, 0.3)
        gains += gain
        kept, cost = adjust(position, "put" if position.left else "none", 900.0, 5000.0, rule, 0.2)
        assert kept == position
        assert cost == 0
    assert position == NO_OVERLAY
    assert gains == pytest.approx(1000 * put_payoff(0.95, end - 1) - premium, abs=1e-9)


def test_a_put_gains_where_the_market_falls_and_is_sold_at_its_mark():
    bought, _ = adjust(NO_OVERLAY, "put", 1000.0, 5000.0, RULE, 0.2)
    fallen, gain = carry(bought, -0.05, 0.2)
    assert gain > 0
    assert fallen.mark == pytest.approx(950 * put_price(1.0, 0.2, 62 / 252)[0])
    sold, cost = adjust(fallen, "none", 0.0, 5000.0, RULE, 0.2)
    assert sold == NO_OVERLAY
    assert cost == pytest.approx(fallen.mark * 0.05)
    changed, both = adjust(fallen, "future", -100.0, 5000.0, RULE, 0.2)
    assert changed == Overlay("future", -100.0)
    assert both == pytest.approx(cost + 5000 * hedge("future", 0.02, RULE).cost)
    back, cost = adjust(changed, "put", 100.0, 5000.0, RULE, 0.2)
    assert back.kind == "put"
    assert cost == pytest.approx(100 * 0.5e-4 + back.mark * 0.05)
    assert adjust(NO_OVERLAY, "put", 0.0, 5000.0, RULE, np.nan) == (NO_OVERLAY, 0.0)


def test_what_cannot_be_valued_is_refused():
    with pytest.raises(DataError, match="index has no return"):
        carry(Overlay("future", -1.0), np.nan, 0.2)
    bought, _ = adjust(NO_OVERLAY, "put", 1.0, 5.0, RULE, 0.2)
    with pytest.raises(DataError, match="implied volatility"):
        carry(bought, 0.0, np.nan)
    assert carry(NO_OVERLAY, np.nan, np.nan) == (NO_OVERLAY, 0.0)
    assert Overlay.from_dict(bought.to_dict()) == bought
