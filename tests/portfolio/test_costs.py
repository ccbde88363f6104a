import numpy as np
import pytest

from core.errors import ConfigError
from core.params import parse
from portfolio.costs import CostRule, peak_impact


@pytest.mark.parametrize(("share", "bps"), [(0.001, 6.32), (0.01, 20.0), (0.05, 44.7), (0.10, 63.2)])
def test_square_root_law(share, bps):
    assert peak_impact(share * 1e6, 1e6, 0.02) * 1e4 == pytest.approx(bps, abs=0.05)


def test_an_order_pays_two_thirds_of_the_peak_and_the_fixed_part():
    rule = CostRule(commission_bps=1.0, half_spread_bps=2.0)
    np.testing.assert_allclose(rule.rate([1e4], [1e6], [0.02]), [3e-4 + 2 / 3 * 20e-4])
    assert CostRule(impact=0.0).rate(1e9, 1.0, 0.5) == pytest.approx(3e-4)


def test_negative_cost_is_refused():
    with pytest.raises(ConfigError, match="impact"):
        parse(CostRule, {"impact": -1.0}, "backtest.costs")
