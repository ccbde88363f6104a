"""Carrying events to sessions: hand-made cases, and a plain oracle on random events."""

from __future__ import annotations

import gc
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DataError
from features.asof import age, bucket_count, bucket_mean, bucket_sum, carry, fill_forward
from features.memo import remembered
from features.panel import Events

SHAPE = (12, 3)


def events(rows: list[tuple[int, int, float, int, bool]]) -> Events:
    """Events from (session, symbol, value, period, amended), sorted by session only."""
    rows = sorted(rows, key=lambda row: row[0])
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), (), ()]
    return Events(
        np.array(columns[0], dtype=np.int64),
        np.array(columns[1], dtype=np.int64),
        {
            "value": np.array(columns[2], dtype=float),
            "period_end": np.array(columns[3], dtype=np.int64).astype("datetime64[D]"),
            "amended": np.array(columns[4], dtype=bool),
        },
    )


ROWS = st.lists(
    st.tuples(
        st.integers(0, SHAPE[0] - 1),
        st.integers(0, SHAPE[1] - 1),
        st.sampled_from([0.1, 0.2, 0.3, -1.7, float("nan")]),
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=30,
)


def carried_slowly(found: Events, max_age: int) -> np.ndarray:
    out = np.full(SHAPE, np.nan)
    rows = list(
        zip(
            found.session.tolist(),
            found.values["period_end"].astype(np.int64).tolist(),
            found.values["amended"].tolist(),
            found.values["value"].tolist(),
            found.symbol.tolist(),
            strict=True,
        )
    )
    for t in range(SHAPE[0]):
        for n in range(SHAPE[1]):
            known = [row for row in rows if row[4] == n and row[0] <= t and row[3] == row[3]]
            if known and t - max(known)[0] < max_age:
                out[t, n] = max(known)[3]
    return out


@given(ROWS, st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_carry_agrees_with_a_search_of_all_events(rows, max_age):
    found = events(rows)
    np.testing.assert_array_equal(carry(found, found.values["value"], SHAPE, max_age), carried_slowly(found, max_age))


@given(ROWS, st.integers(1, 6), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_rows_changes_nothing(rows, max_age, random):
    mixed = rows.copy()
    random.shuffle(mixed)
    one, other = events(rows), events(mixed)
    for function in (bucket_sum, bucket_mean):
        np.testing.assert_array_equal(
            function(one, one.values["value"], SHAPE), function(other, other.values["value"], SHAPE)
        )
    np.testing.assert_array_equal(
        carry(one, one.values["value"], SHAPE, max_age), carry(other, other.values["value"], SHAPE, max_age)
    )


@given(ROWS, st.integers(1, 6), st.integers(0, SHAPE[0] - 1))
@settings(max_examples=60, deadline=None)
def test_a_session_depends_on_the_last_max_age_sessions(rows, max_age, last):
    found = events(rows)
    start = max(0, last + 1 - max_age)
    recent = found.between(start, last + 1)
    shape = (last + 1 - start, SHAPE[1])
    for whole, part in (
        (carry(found, found.values["value"], SHAPE, max_age), carry(recent, recent.values["value"], shape, max_age)),
        (age(found, SHAPE, max_age), age(recent, shape, max_age)),
    ):
        np.testing.assert_array_equal(whole[last], part[-1])


def test_a_value_is_invisible_before_its_session_and_expires():
    found = events([(3, 1, 7.0, 0, False)])
    expected = np.full(SHAPE, np.nan)
    expected[3:7, 1] = 7.0
    np.testing.assert_array_equal(carry(found, found.values["value"], SHAPE, 4), expected)


def test_later_period_then_amended_wins_within_a_session():
    found = events([(2, 0, 5.0, 9, False), (2, 0, 1.0, 8, True), (2, 0, 4.0, 9, True), (2, 0, 99.0, 7, False)])
    assert carry(found, found.values["value"], SHAPE, 1)[2, 0] == 4.0


def test_age_counts_sessions():
    found = events([(2, 0, 1.0, 0, False), (5, 0, 1.0, 0, False)])
    nan = np.nan
    np.testing.assert_array_equal(age(found, SHAPE, 4)[:, 0], [nan, nan, 0, 1, 2, 0, 1, 2, 3, nan, nan, nan])


def test_buckets():
    found = events([(1, 0, 0.5, 0, False), (1, 0, 1.5, 1, False), (1, 0, np.nan, 0, False), (4, 2, -3.0, 0, False)])
    value = found.values["value"]
    count, total, mean = bucket_count(found, SHAPE), bucket_sum(found, value, SHAPE), bucket_mean(found, value, SHAPE)
    assert (count[1, 0], total[1, 0], mean[1, 0]) == (3.0, 2.0, 1.0)
    assert (count[4, 2], total[4, 2], mean[4, 2]) == (1.0, -3.0, -3.0)
    assert count.sum() == 4.0
    assert np.isfinite(mean).sum() == 2


def test_sums_do_not_round_with_the_order_of_rows():
    values = (0.1, 0.7, -0.3, 1e9, 0.2, -1e9)
    # Added one by one: `sum` has made up for rounding since Python 3.12.
    assert reduce(add, values) != reduce(add, values[::-1])
    rows = [(1, 0, value, 0, False) for value in values]
    one, other = events(rows), events(rows[::-1])
    assert bucket_sum(one, one.values["value"], SHAPE)[1, 0] == bucket_sum(other, other.values["value"], SHAPE)[1, 0]


def test_no_events_at_all():
    found = events([])
    assert np.isnan(carry(found, found.values["value"], SHAPE, 3)).all()
    assert (bucket_count(found, SHAPE) == 0).all()


def test_fill_forward_starts_anew_at_each_value():
    values = np.array([[np.nan], [1.0], [np.nan], [np.nan], [2.0], [np.nan]])
    np.testing.assert_array_equal(fill_forward(values, 2)[:, 0], [np.nan, 1, 1, np.nan, 2, 2])


def test_values_of_another_length_are_refused():
    found = events([(1, 0, 0.5, 0, False)])
    with pytest.raises(DataError, match="one number an event"):
        carry(found, np.zeros(2), SHAPE, 3)


class Subject:
    """Anything that can be held weakly."""


def test_results_are_remembered_for_the_object_only():
    calls: list[int] = []

    @remembered
    def answer(subject: Subject, by: int) -> int:
        calls.append(by)
        return len(calls)

    one, other = Subject(), Subject()
    assert [answer(one, 1), answer(one, 1), answer(one, 2), answer(other, 1)] == [1, 1, 2, 3]
    del one
    gc.collect()
    # A new object may get the old one's identity; it must not get its answers.
    assert [answer(Subject(), 1) for _ in range(3)] == [4, 5, 6]
