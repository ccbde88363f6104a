from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from sources.cleaning.events import clean_alternative, clean_earnings, clean_macro, clean_posts, clean_securities
from sources.cleaning.filings import HISTORY_DAYS, clean_filings
from sources.schemas import FUNDAMENTAL_VALUES, normalise

FIRST, LAST = np.datetime64("2010-01-01"), np.datetime64("2016-12-30")


def quarters(count: int, **changes: dict[int, Any]) -> pd.DataFrame:
    """Quarterly filings of one company, every value 100, shares 10; `changes[column][row]` differ."""
    ends = pd.date_range("2012-03-31", periods=count, freq="QE")
    frame = pd.DataFrame(dict.fromkeys(FUNDAMENTAL_VALUES, 100.0), index=range(count)).assign(
        symbol="AA", source="stockpup", fiscal_period="Q", amended=False, income_months=3, cashflow_months=3,
        period_end=ends, available_date=ends + pd.Timedelta(days=45), shares_outstanding=10.0, split_factor_2017=0.5,
    )  # fmt: skip
    for column, rows in changes.items():
        for row, value in rows.items():
            frame.loc[row, column] = value
    return frame


def filings(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    out, found = clean_filings(normalise("fundamentals", frame, "f"), FIRST, LAST)
    return out, found.set_index("rule")["rows"].to_dict()


def test_clean_filings_pass() -> None:
    out, found = filings(quarters(6))
    assert found == {}
    assert len(out) == 6
    assert (out["shares"] == 5.0).all()
    assert out["session"].iloc[0] == pd.Timestamp("2012-05-15")
    assert out["session"].iloc[2] == pd.Timestamp("2012-11-14")


def test_weekends_move_to_the_next_session() -> None:
    out, _ = filings(quarters(1, available_date={0: pd.Timestamp("2012-05-26")}))
    assert out["session"].iloc[0] == pd.Timestamp("2012-05-29")


def test_zero_means_missing_only_where_the_source_says_so() -> None:
    out, found = filings(quarters(6, goodwill_intangibles={2: 0.0}, dividends_per_share={2: 0.0}))
    assert np.isnan(out["goodwill_intangibles"].iloc[2])
    assert out["dividends_per_share"].iloc[2] == 0
    assert found == {"goodwill_intangibles_zero": 1}
    other, _ = filings(quarters(6, goodwill_intangibles={2: 0.0}, operating_income={3: 0.0}).assign(source="pystock"))
    assert other["goodwill_intangibles"].iloc[2] == 0
    assert np.isnan(other["operating_income"].iloc[3])


def test_other_entity_is_dropped() -> None:
    out, found = filings(quarters(8, assets={5: 5.0}))
    assert found == {"other_entity": 1}
    assert pd.Timestamp("2013-06-30") not in out["period_end"].tolist()
    by_revenue, found = filings(quarters(8, revenue={5: 5.0}).assign(assets=np.nan))
    assert found == {"other_entity": 1}
    assert len(by_revenue) == 7


def test_an_item_that_not_every_source_has_comes_through_where_it_is() -> None:
    assert "gross_profit" not in filings(quarters(3))[0]
    out, found = filings(quarters(3).assign(gross_profit=[40.0, np.nan, 0.0]))
    assert found == {}
    np.testing.assert_array_equal(out["gross_profit"], [40.0, np.nan, 0.0])


def test_old_filings_are_no_measure() -> None:
    frame = quarters(3, assets={2: 5.0})
    assert filings(frame)[1] == {"other_entity": 1}
    frame.loc[2, "available_date"] = frame.loc[1, "available_date"] + pd.Timedelta(days=HISTORY_DAYS)
    # The first of the two is now too old, and one alone decides nothing.
    assert filings(frame)[1] == {}


def test_jumps_lose_one_filing() -> None:
    out, found = filings(quarters(8, revenue={4: 700.0}, shares_outstanding={6: 100.0, 7: 100.0}))
    assert found == {"revenue_jump": 1, "shares_jump": 1}
    assert np.isnan(out["revenue"].iloc[4])
    assert out["revenue"].notna().sum() == 7
    assert np.isnan(out["shares"].iloc[6])
    assert out["shares"].iloc[7] == 50.0


def test_an_annual_figure_is_no_jump() -> None:
    out, found = filings(quarters(8, revenue={3: 400.0, 7: 400.0}, income_months={3: 12, 7: 12}))
    assert found == {}
    assert out["revenue"].notna().all()


def test_period_after_availability_is_dropped() -> None:
    out, found = filings(quarters(4, available_date={1: pd.Timestamp("2012-06-29")}))
    assert found == {"period_after_available": 1}
    assert len(out) == 3


@pytest.mark.parametrize(
    ("day", "rule"),
    [
        ("2012-06-29", "period_after_available"),
        ("2012-06-30", "period_after_available"),
        ("2012-07-01", "known_too_early"),
        ("2012-07-06", "known_too_early"),
        ("2012-07-07", None),
    ],
)
def test_a_filing_known_before_any_company_files_is_dropped(day: str, rule: str | None) -> None:
    out, found = filings(quarters(4, available_date={1: pd.Timestamp(day)}))
    assert found == ({} if rule is None else {rule: 1})
    assert len(out) == (4 if rule is None else 3)


@pytest.mark.parametrize("days", [-3, 0, 6])
def test_a_source_whose_filings_are_known_too_early_is_refused(days: int) -> None:
    frame = quarters(24)
    for name in ("period_end", "available_date"):
        frame[name] -= pd.DateOffset(years=2)
    early = frame.assign(available_date=frame["period_end"] + pd.Timedelta(days=days))
    mixed = pd.concat([early.iloc[:13], frame.iloc[13:]])
    for wrong, count in ((early, 24), (mixed, 13)):
        with pytest.raises(DataError, match=rf"{count} of 24 rows of source .* fewer than 7 days .*2010-03-31"):
            filings(wrong)
    kept, _ = filings(pd.concat([early.iloc[:12], frame.iloc[12:]]))
    assert len(kept) == 12


def test_restated_filing_keeps_both_rows_in_their_own_sessions() -> None:
    frame = quarters(4)
    restated = frame.iloc[[1]].assign(revenue=110.0, available_date=pd.Timestamp("2012-11-30"))
    same_day = frame.iloc[[2]].assign(revenue=120.0)
    out, found = filings(pd.concat([frame, restated, same_day]))
    assert found == {"repeated_in_one_session": 1}
    again = out[out["period_end"] == pd.Timestamp("2012-06-30")]
    assert again["revenue"].tolist() == [100.0, 110.0]
    assert again["session"].is_monotonic_increasing
    assert out.loc[out["period_end"] == pd.Timestamp("2012-09-30"), "revenue"].tolist() == [120.0]


def posts(*rows: tuple[str, str, str]) -> tuple[pd.DataFrame, dict[str, int]]:
    frame = pd.DataFrame(rows, columns=["symbol", "created_at", "text"])
    frame = frame.assign(user_hash=range(len(frame)), followers=1, is_retweet=False, lang="en")
    out, found = clean_posts(normalise("posts", frame, "p"), FIRST, LAST)
    return out, found.groupby("rule")["rows"].sum().to_dict()


def test_repeats_within_the_window() -> None:
    out, found = posts(
        ("AA", "2014-01-06T15:00:00Z", "buy"),
        ("AA", "2014-01-06T15:00:01Z", "RT @user: buy"),
        ("BB", "2014-01-06T15:00:01Z", "buy"),
        ("AA", "2014-01-07T15:00:00Z", "RT @user: RT @user: buy"),
        ("AA", "2014-02-05T20:00:00Z", "buy"),
        ("AA", "2014-03-07T15:00:00Z", "buy"),
        ("AA", "2014-03-07T15:00:00Z", ""),
    )
    mine = out[out["symbol"] == "AA"].set_index("created_at")["is_repeat"]
    # 2014-02-05 is 20 sessions after 01-07; 03-07 is 21 sessions after 02-05.
    assert mine.tolist() == [False, True, True, True, False]
    assert not out.loc[out["symbol"] == "BB", "is_repeat"].any()
    assert found == {"no_text": 1, "repeated_text": 3}
    assert (out["sentiment"] > 0).all()
    assert out["is_repeat"].dtype == bool


@pytest.mark.parametrize(
    ("close", "session", "after"),
    [
        ("2014-03-07T21:00:00Z", "2014-03-07", "2014-03-10"),  # a Friday in winter time
        ("2014-03-10T20:00:00Z", "2014-03-10", "2014-03-11"),  # the Monday after, in summer time
        ("2014-10-31T20:00:00Z", "2014-10-31", "2014-11-03"),  # and back
        ("2014-11-03T21:00:00Z", "2014-11-03", "2014-11-04"),
        ("2014-11-28T18:00:00Z", "2014-11-28", "2014-12-01"),  # a half day
        ("2014-12-24T18:00:00Z", "2014-12-24", "2014-12-26"),  # a half day before a holiday
    ],
)
def test_a_post_after_the_close_is_for_the_next_session(close: str, session: str, after: str) -> None:
    late = f"{pd.Timestamp(close) + pd.Timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
    out, _ = posts(("AA", close, "up"), ("AA", late, "down"))
    assert out["session"].tolist() == [pd.Timestamp(session), pd.Timestamp(after)]


def test_earnings() -> None:
    frame = pd.DataFrame(
        {
            "symbol": ["AA", "AA", "BB"], "announce_date": ["2014-01-02", "2014-04-03", "2014-04-05"],
            "available_date": ["2014-01-02", "2014-04-04", "2014-04-04"], "eps_estimate": 1.0,
            "eps_actual": [1.1, np.nan, 2.0], "surprise": 0.1,
        }
    )  # fmt: skip
    out, found = clean_earnings(normalise("earnings", frame, "e"), FIRST, LAST)
    assert out["eps_actual"].tolist() == [1.1]
    assert set(found["rule"]) == {"no_actual_figure", "available_before_announced"}


def test_macro_keeps_the_latest_observation_of_a_session() -> None:
    frame = pd.DataFrame(
        {
            "series": "X", "date": ["2014-01-02", "2014-01-03", "2014-01-06", "2014-01-07"],
            "available_date": ["2014-01-04", "2014-01-05", "2014-01-08", "2014-01-09"],
            "value": [1.0, 2.0, np.nan, 3.0],
        }
    )  # fmt: skip
    out, found = clean_macro(normalise("macro", frame, "m"), FIRST, LAST)
    assert out["session"].tolist() == [pd.Timestamp("2014-01-06"), pd.Timestamp("2014-01-09")]
    assert out["value"].tolist() == [2.0, 3.0]
    assert found["symbol"].tolist() == ["X"]


def test_a_series_of_the_users_own_keeps_its_revisions() -> None:
    frame = pd.DataFrame(
        {
            "series": "card", "symbol": "AA", "date": ["2014-01-02"] * 4 + ["2014-01-09", "2014-01-10"],
            "available_date": ["2014-01-03", "2014-01-04", "2014-01-05", "2014-01-07", "2014-01-08", "2014-01-10"],
            "value": [1.0, 2.0, 3.0, 4.0, 5.0, np.nan],
        }
    )  # fmt: skip
    out, found = clean_alternative(normalise("alternative", frame, "a"), FIRST, LAST)
    assert out["session"].tolist() == [pd.Timestamp(day) for day in ("2014-01-03", "2014-01-06", "2014-01-07")]
    assert out["value"].tolist() == [1.0, 3.0, 4.0]
    assert list(out) == ["session", "symbol", "series", "date", "value"]
    assert dict(zip(found["rule"], found["symbol"], strict=True)) == {
        "available_before_observed": "card",
        "no_value": "card",
    }


def test_a_value_known_on_its_own_day_is_kept_and_named() -> None:
    days = pd.to_datetime(["2014-01-31", "2014-02-28"])
    frame = pd.DataFrame({"series": "sales", "symbol": "AA", "date": days, "available_date": days, "value": 1.0})
    frame.loc[1, "available_date"] += pd.Timedelta(days=6)
    for table, clean in (("macro", clean_macro), ("alternative", clean_alternative)):
        columns = frame.drop(columns="symbol") if table == "macro" else frame
        out, found = clean(normalise(table, columns, table), FIRST, LAST)
        assert len(out) == 2
        assert found[["rule", "rows", "action"]].values.tolist() == [["known_on_the_day_observed", 1, "row kept"]]


def test_securities() -> None:
    frame = pd.DataFrame(
        {"symbol": ["B", "A"], "name": "n", "exchange": "X", "sector": [None, "E"], "industry": ["I", ""]}
    )
    out, found = clean_securities(normalise("securities", frame, "s"))
    assert out["sector"].fillna("none").tolist() == ["E", "none"]
    assert out["industry"].fillna("none").tolist() == ["none", "I"]
    assert len(found) == 2
