from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sources.cleaning.past import Past, log_distance, median_of_known

rows = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 25), st.booleans()), max_size=30, unique_by=lambda row: row[:2]
).map(sorted)


@settings(max_examples=200, deadline=None)
@given(rows, st.integers(1, 12), st.integers(1, 4))
def test_look_ups_against_a_plain_loop(rows: list[tuple[int, int, bool]], reach: int, depth: int) -> None:
    group, time, allowed = (np.array(column, dtype=kind) for column, kind in zip(
        zip(*rows, strict=True) if rows else ((), (), ()), (np.int64, np.int64, bool), strict=True
    ))  # fmt: skip
    values = np.arange(1.0, len(rows) + 1)
    past = Past(group, time, reach)

    def seen(row: int, earlier: int) -> bool:
        return earlier >= 0 and group[row] == group[earlier] and time[row] - time[earlier] <= reach

    for row in range(len(rows)):
        above = [values[row - back] if seen(row, row - back) else np.nan for back in range(1, depth + 1)]
        for back in range(1, depth + 1):
            np.testing.assert_equal(past.shifted(values, back)[row], above[back - 1])
        np.testing.assert_equal(past.window(np.array([row]), values, depth, reach)[0], above)
        found = [earlier for earlier in range(row) if allowed[earlier]]
        expected = values[found[-1]] if found and seen(row, found[-1]) else np.nan
        np.testing.assert_equal(past.last(allowed, values, reach)[row], expected)
    assert past.last(allowed, values, reach).shape == values.shape


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.just(np.nan) | st.floats(-9, 9), min_size=5, max_size=5), min_size=1), st.integers(1, 3))
def test_median_of_known(table: list[list[float]], least: int) -> None:
    values = np.array(table)
    for row, found in zip(values, median_of_known(values, least), strict=True):
        known = row[np.isfinite(row)]
        assert found == pytest.approx(np.median(known) if len(known) >= least else np.nan, nan_ok=True)


def test_log_distance() -> None:
    found = log_distance(np.array([2.0, 0.0, np.nan, 1.0]), np.array([1.0, 1.0, 1.0, 0.0]))
    assert found == pytest.approx([np.log(2), 0, 0, 0])
