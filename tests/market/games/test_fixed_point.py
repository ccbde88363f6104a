import numpy as np
import pytest

from core.errors import ConfigError
from market.games.fixed_point import Anderson


def _steps(image, start, way, limit=500):
    """Images computed until the point stays, or the limit."""
    point = start
    for count in range(1, limit + 1):
        new = image(point)
        if np.abs(new - point).max() < 1e-11:
            return count, point
        point = way.propose(point, new)
    return limit, point


def test_a_linear_map_takes_as_many_steps_as_dimensions():
    # Eigenvalues beyond 1: repeating the map goes astray.
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    matrix = basis @ np.diag([-3.0, -1.5, 0.5, 0.2, -0.4, 2.0]) @ basis.T
    offset = rng.normal(size=6)
    exact = np.linalg.solve(np.eye(6) - matrix, offset)
    count, point = _steps(lambda z: matrix @ z + offset, np.zeros(6), Anderson(depth=6))
    assert count <= 9
    assert point == pytest.approx(exact)


def test_fewer_steps_than_picard():
    start = np.array([1.0, 0.5, -0.2])
    counts = []
    for way in (Anderson(depth=0), Anderson(depth=3), Anderson(depth=3, mixing=0.5)):
        count, point = _steps(np.cos, start, way)
        assert point == pytest.approx(0.7390851332151607)
        counts.append(count)
    assert counts[0] > 60
    assert max(counts[1:]) < 15


def test_no_depth_is_damped_picard():
    way = Anderson(depth=0, mixing=0.3)
    for point in (np.array([1.0, 2.0]), np.array([-4.0, 0.5])):
        assert way.propose(point, point**2) == pytest.approx(0.7 * point + 0.3 * point**2)


def test_a_point_that_does_not_move_is_no_trouble():
    way = Anderson(depth=4)
    for _ in range(5):
        assert way.propose(np.ones(3), np.ones(3)) == pytest.approx(1)


def test_refusals():
    for change in ({"depth": -1}, {"mixing": 0.0}, {"mixing": 1.5}):
        with pytest.raises(ConfigError, match="0 < mixing <= 1"):
            Anderson(**change)
