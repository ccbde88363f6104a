import numpy as np

from models.regimes import RegimeModel, RegimeRule
from models.stress import walk_forward_stress

RULE = RegimeRule(window=60)


def market(seed=0):
    rng = np.random.default_rng(seed)
    calm, wild = rng.normal(0.001, 0.006, 700), rng.normal(-0.002, 0.025, 700)
    return np.where((np.arange(700) // 100) % 3 == 2, wild, calm)


def test_each_block_is_told_by_its_own_past():
    returns = market()
    found = walk_forward_stress(returns, [400, 550], RULE)
    assert np.isnan(found[:400]).all()
    assert found[510:590].mean() > 0.8
    assert found[430:495].mean() < 0.2
    alone = RegimeModel.fit(returns[:550], RULE).states(returns)[:, 0]
    assert found[550:].tobytes() == alone[550:].tobytes()
    # What comes later changes nothing.
    other = returns.copy()
    other[600:] *= -3
    assert walk_forward_stress(other, [400, 550], RULE)[:600].tobytes() == found[:600].tobytes()


def test_a_short_past_tells_nothing():
    found = walk_forward_stress(market(), [100, 500], RULE)
    assert np.isnan(found[:500]).all()
    assert np.isfinite(found[500:]).all()
