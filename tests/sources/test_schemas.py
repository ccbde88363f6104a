from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from sources.schemas import TABLES, normalise


def prices() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "symbol": ["BB", "AA", "BB", "AA"],
            "date": ["2016-01-05", "2016-01-05", "2016-01-04", "2016-01-04"],
            "open": [1.0, 2.0, 3.0, 4.0], "high": [1.0, 2.0, 3.0, 4.0], "low": [1.0, 2.0, 3.0, 4.0],
            "close": [1.0, 2.0, np.inf, 4.0], "volume": [1, 2, 3, 4], "note": ["x"] * 4,
        }
    )  # fmt: skip


def posts() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "symbol": ["AA"], "created_at": ["2016-01-05T12:00:00+00:00"], "user_hash": [-9039021296507169892],
            "followers": [1.0], "is_retweet": [True], "lang": [None], "text": ["up"],
        }
    )  # fmt: skip


def test_normalised_prices() -> None:
    out = normalise("prices", prices(), "p.parquet")
    assert list(out) == ["date", "symbol", "open", "high", "low", "close", "volume"]
    assert out["symbol"].tolist() == ["AA", "BB", "AA", "BB"]
    assert out["date"].dtype == "datetime64[ms]"
    assert out["volume"].dtype == np.float64
    assert np.isnan(out["close"].iloc[1])


def test_times_and_integers_keep_their_bits() -> None:
    out = normalise("posts", posts(), "social.parquet")
    assert out["user_hash"].iloc[0] == -9039021296507169892
    assert out["created_at"].iloc[0] == pd.Timestamp("2016-01-05 12:00", tz="UTC")
    assert out["followers"].dtype == np.int64


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(4)), st.lists(st.integers(0, 3), max_size=4))
def test_order_and_repeats_do_not_matter(order: list[int], repeats: list[int]) -> None:
    shuffled = prices().iloc[[*order, *repeats]]
    pd.testing.assert_frame_equal(normalise("prices", shuffled, "p"), normalise("prices", prices(), "p"))


def test_repeated_filing_keys_have_an_order_of_their_own() -> None:
    row: dict[str, object] = dict.fromkeys(TABLES["fundamentals"].columns, 1.0)
    row |= {"symbol": "AA", "source": "s", "fiscal_period": "Q", "amended": False, "income_months": 3}
    row |= {"cashflow_months": 3, "available_date": "2015-05-01", "period_end": "2015-03-31"}
    frame = pd.DataFrame([row, row | {"revenue": 2.0}, row])
    out = normalise("fundamentals", frame, "f")
    assert out["revenue"].tolist() == [1.0, 2.0]
    pd.testing.assert_frame_equal(out, normalise("fundamentals", frame.iloc[::-1], "f"))


def change(column: str, row: int, value: object) -> pd.DataFrame:
    frame = prices().astype(object)
    frame.loc[row, column] = value
    return frame.infer_objects()


FUTURE = (datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1)).isoformat()


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (prices().drop(columns="close"), ["'close' is missing", "add it", "open"]),
        (prices().iloc[:0], ["no rows", "remove the file"]),
        (change("close", 1, "n/a"), ["'close'", "'n/a'", "2016-01-05", "AA", "number"]),
        (prices().assign(close=["1", "2", "3", "4"]), ["'close'", "'1'", "BB", "not text"]),
        (change("date", 0, "05.01.2016"), ["'date'", "05.01.2016", "BB", "such as 2016-10-18"]),
        (prices().assign(date=20160104), ["'date'", "20160104", "must be a date"]),
        (prices().assign(date=pd.Timestamp("2016-01-04 16:00")), ["'date'", "without a time of day"]),
        (prices().assign(symbol=1), ["'symbol'", "must be text"]),
        (change("symbol", 2, ""), ["'symbol' is empty", "2016-01-04"]),
        (change("date", 2, None), ["'date' is empty", "BB"]),
        (change("date", 3, FUTURE), ["'date' lies in the future", FUTURE, "AA"]),
        (pd.concat([prices(), change("close", 1, 7.0).iloc[[1]]]), ["AA", "2016-01-05", "twice", "'close'", "7.0"]),
    ],
)
def test_bad_prices_are_one_clear_line(frame: pd.DataFrame, words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        normalise("prices", frame, "folder/prices.parquet")
    message = str(caught.value)
    assert message.startswith("folder/prices.parquet: ")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("created_at", "2016-01-05T12:00:00", "with its zone"),
        ("created_at", pd.Timestamp("2016-01-05"), "with its zone"),
        ("is_retweet", "yes", "true or false"),
        ("followers", 1.5, "whole number"),
        ("followers", np.nan, "whole number"),
        ("created_at", "2999-01-05T12:00:00Z", "future"),
    ],
)
def test_bad_posts(column: str, value: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        normalise("posts", posts().assign(**{column: [value]}), "posts.csv")


def test_a_short_window_may_be_empty() -> None:
    out = normalise("prices", prices().iloc[:0].astype({"date": "datetime64[s]"}), "p", allow_empty=True)
    assert len(out) == 0
    assert out["date"].dtype == "datetime64[ms]"


def test_unknown_table() -> None:
    with pytest.raises(ConfigError, match="unknown table 'quotes'"):
        normalise("quotes", prices(), "q")


def own_series(**columns: object) -> pd.DataFrame:
    frame = pd.DataFrame(
        {"series": ["b", "a"], "symbol": "AA", "date": ["2016-01-04", "2016-01-05"], "value": [1.0, 2.0]}
    )
    return frame.assign(**columns)


def test_a_declared_lag_says_when_a_series_was_known() -> None:
    out = normalise("alternative", own_series(), "alternative.csv", lag_days={"a": 3, "b": 0})
    assert list(out) == ["series", "symbol", "date", "available_date", "value"]
    assert out["available_date"].tolist() == [pd.Timestamp("2016-01-08"), pd.Timestamp("2016-01-04")]
    assert out["available_date"].dtype == "datetime64[ms]"
    pd.testing.assert_frame_equal(out, normalise("alternative", out, "again"))


@pytest.mark.parametrize("columns", [{}, {"available_date": [None, "2016-01-06"]}, {"available_date": [pd.NaT] * 2}])
def test_a_series_without_date_and_lag_is_refused(columns: dict[str, object]) -> None:
    for lags in (None, {"a": 1}):
        with pytest.raises(DataError, match=r"series b, symbol AA.*set data\.files\.lag_days\.b to the days after"):
            normalise("alternative", own_series(**columns), "alternative.csv", lag_days=lags)


def test_a_lag_may_end_after_today_but_a_value_may_not_lie_there() -> None:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    out = normalise("alternative", own_series(date=today), "a", lag_days={"a": 9, "b": 9})
    pd.testing.assert_frame_equal(out, normalise("alternative", out, "again"))
    with pytest.raises(DataError, match="'date' lies in the future"):
        normalise("alternative", own_series(date=FUTURE), "a", lag_days={"a": 9, "b": 9})


def test_a_value_that_is_told_twice_for_one_day_is_refused() -> None:
    frame = own_series(series="a", date="2016-01-04", available_date=[None, "2016-01-06"])
    with pytest.raises(DataError, match=r"twice with different values in column 'value'"):
        normalise("alternative", frame, "a", lag_days={"a": 2})
