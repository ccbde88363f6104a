import numpy as np
import pytest

from core.errors import ConfigError
from market.games.convergence import convergence


def test_observed_orders():
    found = convergence(lambda n, m: {"a": 3 / n**2, "b": 1 / m, "none": 0.0}, [(10, 5), (20, 10), (60, 30)])
    assert found.errors["a"].tolist() == [3 / 100, 3 / 400, 3 / 3600]
    assert found.orders["a"] == pytest.approx([2, 2])
    assert found.orders["b"] == pytest.approx([1, 1])
    assert np.isnan(found.orders["none"]).all()
    for meshes in ([(10, 10)], [(10, 10), (10, 20)], []):
        with pytest.raises(ConfigError, match="at least two, each with more cells"):
            convergence(lambda n, m: {}, meshes)
