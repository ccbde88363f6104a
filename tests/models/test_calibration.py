import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from models.calibration import brier, ece, log_loss, reliability

P = (0.1, 0.4, 0.35, 0.8, 0.65, 0.9, 0.2, 0.55)
Y = (0, 0, 1, 1, 1, 1, 0, 0)


def test_check_values():
    assert brier(P, Y) == pytest.approx(0.138438, abs=1e-6)
    assert log_loss(P, Y) == pytest.approx(0.430868, abs=1e-6)
    assert ece(P, Y, bins=4) == pytest.approx(0.131250, abs=1e-6)


def test_unknown_rows_are_left_out():
    assert brier([*P, np.nan, 0.5], [*Y, 1, np.nan]) == brier(P, Y)
    assert all(np.isnan(f([], [])) for f in (brier, log_loss, ece))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50), st.booleans())
def test_reliability_keeps_every_row_and_ece_is_bounded(pairs, equal_count):
    p, y = zip(*pairs, strict=True)
    table = reliability(p, y, equal_count=equal_count)
    assert table["rows"].sum() == len(p)
    assert ((table["stated"] >= table["low"] - 1e-12) & (table["stated"] <= table["high"] + 1e-12)).all()
    assert 0 <= ece(p, y) <= 1


def test_bins_of_equal_count():
    p = np.linspace(0.4, 0.5, 1000)
    table = reliability(p, p > 0.45, bins=4, equal_count=True)
    assert table["rows"].tolist() == [250] * 4
    assert table["realised"].tolist() == [0, 0, 1, 1]


def test_probability_outside_the_unit_interval():
    with pytest.raises(DataError, match=r"1\.2 lies outside"):
        brier([1.2], [1])
