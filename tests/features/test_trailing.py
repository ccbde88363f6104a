"""Trailing-twelve-month figures: every habit of filing, and a plain oracle on random filings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.panel import Events
from features.trailing import BALANCES, CASH_FLOWS, INCOME_FLOWS, quarters, trailing

FIRST_YEAR = 2000
ITEMS = (*INCOME_FLOWS, *CASH_FLOWS, *BALANCES)
NAN = float("nan")


def quarter_end(quarter: int) -> np.datetime64:
    """Last day of the quarter with this number."""
    month = np.datetime64(f"{FIRST_YEAR}-01", "M") + 3 * (quarter + 1)
    return month.astype("datetime64[D]") - 1


def filings(rows: list[dict]) -> Events:
    """Events from rows of session, symbol, quarter (or period_end), source, amended, months, values."""
    rows = sorted(rows, key=lambda row: row["session"])
    column = lambda name, default: [row.get(name, default) for row in rows]  # noqa: E731
    ends = [row.get("period_end", quarter_end(row.get("quarter", 0))) for row in rows]
    return Events(
        np.array(column("session", 0), dtype=np.int64),
        np.array(column("symbol", 0), dtype=np.int64),
        {
            "period_end": np.array(ends, dtype="datetime64[D]"),
            "source": np.array(column("source", "stockpup"), dtype=str),
            "amended": np.array(column("amended", False), dtype=bool),
            "income_months": np.array(column("months", 3), dtype=np.int64),
            "cashflow_months": np.array(column("cash_months", None), dtype=float)
            if any("cash_months" in row for row in rows)
            else np.array(column("months", 3), dtype=np.int64),
            **{name: np.array(column(name, NAN), dtype=float) for name in ITEMS},
        },
    )


def latest(found: Events, item: str, window: int = 10_000) -> float:
    return float(trailing(found, window).now[item][-1])


# --- the habits ----------------------------------------------------------------------------------------------

FLOW = [float(3 * q * q + 7) for q in range(16)]
"""Single quarters of a flow; quarter 0 is the first of its year."""


def single_quarters(last: int) -> list[dict]:
    return [{"session": 60 * q, "quarter": q, "net_income": FLOW[q]} for q in range(last + 1)]


def quarters_and_years(last: int) -> list[dict]:
    rows = []
    for q in range(last + 1):
        annual = q % 4 == 3
        value = sum(FLOW[q - 3 : q + 1]) if annual else FLOW[q]
        rows.append({"session": 60 * q, "quarter": q, "months": 12 if annual else 3, "net_income": value})
    return rows


def years_to_date(last: int) -> list[dict]:
    rows = []
    for q in range(last + 1):
        part = q % 4 + 1
        value = sum(FLOW[q + 1 - part : q + 1])
        rows.append({"session": 60 * q, "quarter": q, "months": 3 * part, "net_income": value})
    return rows


@pytest.mark.parametrize("last", range(8, 16))
@pytest.mark.parametrize("habit", [single_quarters, quarters_and_years, years_to_date])
def test_every_habit_gives_the_sum_of_four_quarters(habit, last):
    found = filings(habit(last))
    figures = trailing(found, 10_000)
    assert figures.now["net_income"][-1] == sum(FLOW[last - 3 : last + 1])
    assert figures.year_ago["net_income"][-1] == sum(FLOW[last - 7 : last - 3])
    _, single = quarters(found, "net_income", 5, 10_000)
    np.testing.assert_array_equal(single[-1], FLOW[last - 4 : last + 1][::-1])


@pytest.mark.parametrize("part", [1, 2, 3])
def test_the_year_to_date_needs_no_other_quarters(part):
    rows = [
        {"session": 1, "quarter": part - 1, "months": 3 * part, "net_income": 10.0},
        {"session": 2, "quarter": 3, "months": 12, "net_income": 100.0},
        {"session": 3, "quarter": part + 3, "months": 3 * part, "net_income": 17.0},
    ]
    assert latest(filings(rows), "net_income") == 107.0


def test_cash_flows_have_months_of_their_own():
    rows = [
        {"session": 9 * q, "quarter": q, "months": 12 if q % 4 == 3 else 3, "cash_months": 3 * (q % 4 + 1)}
        | {"net_income": 1.0 * (4 if q % 4 == 3 else 1), "cash_flow_operating": 2.0 * (q % 4 + 1)}
        for q in range(7)
    ]
    assert (latest(filings(rows), "net_income"), latest(filings(rows), "cash_flow_operating")) == (4.0, 8.0)


def test_an_item_without_a_column_is_unknown():
    found = filings(single_quarters(4))
    values = {name: column for name, column in found.values.items() if name != "gross_profit"}
    figures = trailing(Events(found.session, found.symbol, values), 10_000)
    assert figures.now["net_income"][-1] == sum(FLOW[1:5])
    assert np.isnan(figures.now["gross_profit"]).all()
    del values["net_income"]
    with pytest.raises(KeyError, match="net_income"):
        trailing(Events(found.session, found.symbol, values), 10_000)


def test_a_missing_quarter_leaves_the_year_unknown():
    rows = single_quarters(9)
    assert latest(filings(rows[:7] + rows[8:]), "net_income") != latest(filings(rows[:7] + rows[8:]), "net_income")


def test_fifty_two_week_years_and_sixteen_week_quarters_are_found():
    weeks = np.cumsum([0, 12, 12, 12, 16, 12, 12, 12, 17, 12, 12])
    ends = np.datetime64("2010-11-21") + 7 * weeks
    rows = [{"session": 60 * q, "period_end": end, "net_income": FLOW[q]} for q, end in enumerate(ends)]
    figures = trailing(filings(rows), 10_000)
    np.testing.assert_array_equal(figures.now["net_income"][3:], [sum(FLOW[q - 3 : q + 1]) for q in range(3, 11)])
    np.testing.assert_array_equal(figures.year_ago["net_income"][7:], [sum(FLOW[q - 7 : q - 3]) for q in range(7, 11)])


# --- point in time -------------------------------------------------------------------------------------------


def test_a_restatement_counts_from_its_own_session_on():
    rows = [*single_quarters(5), {"session": 320, "quarter": 3, "amended": True, "net_income": FLOW[3] + 1000}]
    timeline, now = trailing(filings(rows), 10_000).timeline, trailing(filings(rows), 10_000).now["net_income"]
    dense = timeline.spread(now, (400, 1), 400)[:, 0]
    assert dense[319] == sum(FLOW[2:6])
    assert dense[320] == sum(FLOW[2:6]) + 1000
    assert np.isnan(dense[179])
    assert dense[180] == sum(FLOW[:4])


def test_an_amended_filing_of_the_same_session_wins():
    rows = [
        {"session": 5, "quarter": 3, "months": 12, "amended": True, "net_income": 1.0},
        {"session": 5, "quarter": 3, "months": 12, "amended": False, "net_income": 2.0},
    ]
    assert latest(filings(rows), "net_income") == 1.0


def test_unlike_copies_of_one_filing_do_not_depend_on_their_order():
    copies = [{"session": 5, "quarter": 3, "months": 12, "net_income": value} for value in (1.0, 2.0)]
    assert latest(filings(copies), "net_income") == latest(filings(copies[::-1]), "net_income")


def test_filings_older_than_the_window_are_ignored():
    found = filings(single_quarters(3))
    assert latest(found, "net_income", window=181) == sum(FLOW[:4])
    assert np.isnan(latest(found, "net_income", window=180))


def two_sources(fresher: float = 2.0) -> Events:
    return filings(
        [
            {"session": 10, "quarter": 3, "months": 12, "source": "stockpup", "assets": 1.0, "net_income": 1.0},
            {"session": 20, "quarter": 3, "months": 12, "source": "pystock", "assets": NAN, "net_income": fresher},
            {"session": 30, "quarter": 4, "months": 12, "source": "zebra", "assets": 4.0, "net_income": 3.0},
        ]
    )


def test_the_freshest_source_is_used_and_preference_breaks_ties():
    figures = trailing(two_sources(), 10_000)
    income = figures.timeline.spread(figures.now["net_income"], (60, 1), 25)[:, 0]
    assert np.isnan(income[9])
    np.testing.assert_array_equal(income[[10, 19, 20, 29, 30, 54]], [1, 1, 2, 2, 3, 3])
    assert np.isnan(income[55])
    # A source that does not give the figure is passed over.
    assets = figures.timeline.spread(figures.now["assets"], (60, 1), 25)[:, 0]
    np.testing.assert_array_equal(assets[[20, 29, 30]], [1, 1, 4])
    other = figures.timeline.spread(figures.now["net_income"], (60, 1), 25, ["stockpup", "pystock"])[:, 0]
    np.testing.assert_array_equal(other[[20, 30]], [1, 3])


def test_a_preferred_source_may_lag_by_less_than_a_quarter_only():
    def chosen(days: int) -> float:
        rows = [
            {"session": 1, "period_end": np.datetime64("2010-12-31"), "months": 12, "source": "pystock"},
            {"session": 2, "period_end": np.datetime64("2010-12-31") + days, "months": 12, "source": "stockpup"},
        ]
        found = filings([row | {"net_income": float(at)} for at, row in enumerate(rows)])
        figures = trailing(found, 100)
        return float(figures.timeline.spread(figures.now["net_income"], (3, 1), 9)[2, 0])

    assert (chosen(45), chosen(46)) == (0.0, 1.0)


# --- the oracle ----------------------------------------------------------------------------------------------

SHAPE, WINDOW, MAX_AGE = (40, 2), 17, 6
PRIORITY = ("pystock", "stockpup")

ROW = st.fixed_dictionaries(
    {
        "session": st.integers(0, SHAPE[0] - 1),
        "symbol": st.integers(0, SHAPE[1] - 1),
        "quarter": st.integers(0, 9),
        "source": st.sampled_from(PRIORITY),
        "amended": st.booleans(),
        "months": st.sampled_from([3, 3, 3, 6, 9, 12]),
        "net_income": st.sampled_from([1.0, 2.0, 5.0, 11.0, NAN]),
        "assets": st.sampled_from([100.0, 200.0, NAN]),
    }
)


def slow(rows: list[dict], item: str, flow: bool) -> tuple[np.ndarray, np.ndarray]:
    """Figure now and a year ago at every session and symbol, from all rows, one at a time."""
    now, before = np.full(SHAPE, NAN), np.full(SHAPE, NAN)
    for t in range(SHAPE[0]):
        for n in range(SHAPE[1]):
            per_source = []
            for rank, source in enumerate(PRIORITY):
                own = [r for r in rows if r["symbol"] == n and r["source"] == source and r["session"] <= t]
                if own and t - max(r["session"] for r in own) < MAX_AGE:
                    moment = max(r["session"] for r in own)
                    seen = [r for r in own if r["session"] > moment - WINDOW]
                    newest = max(r["quarter"] for r in seen)
                    back = newest - 4 if any(r["quarter"] == newest - 4 for r in seen) else None
                    figures = [figure(seen, item, flow, q) for q in (newest, back)]
                    per_source.append((newest, -rank, figures))
            for at, out in enumerate((now, before)):
                usable = [(newest, rank, both[at]) for newest, rank, both in per_source if both[at] == both[at]]
                if usable:
                    out[t, n] = max(usable)[2]
    return now, before


def figure(seen: list[dict], item: str, flow: bool, quarter: int | None) -> float:
    if quarter is None:
        return NAN

    def value(q: int, months: int | None) -> float:
        known = [r for r in seen if r["quarter"] == q and months in (None, r["months"]) and r[item] == r[item]]
        return max(known, key=order)[item] if known else NAN

    def order(r: dict) -> tuple:
        ties = tuple(-np.inf if r.get(name, NAN) != r.get(name, NAN) else r[name] for name in reversed(ITEMS))
        nans = tuple(r.get(name, NAN) != r.get(name, NAN) for name in reversed(ITEMS))
        return (r["session"], r["amended"], *(x for pair in zip(nans, ties, strict=True) for x in pair))

    def first(*candidates: float) -> float:
        return next((x for x in candidates if x == x), NAN)

    def alone(q: int) -> float:
        found = value(q, 3)
        for months in (6, 9, 12):
            others = sum(value(q - k, 3) for k in range(1, months // 3))
            found = first(found, value(q, months) - value(q - 1, months - 3), value(q, months) - others)
        return found

    if not flow:
        return value(quarter, None)
    to_date = (value(quarter, m) + value(quarter - m // 3, 12) - value(quarter - 4, m) for m in (9, 6, 3))
    return first(value(quarter, 12), *to_date, sum(alone(quarter - k) for k in range(4)))


@given(st.lists(ROW, max_size=40))
@settings(max_examples=150, deadline=None)
def test_figures_agree_with_a_search_of_all_filings(rows):
    figures = trailing(filings(rows), WINDOW)
    for item, flow in (("net_income", True), ("assets", False)):
        for fast, plain in zip((figures.now, figures.year_ago), slow(rows, item, flow), strict=True):
            np.testing.assert_array_equal(
                figures.timeline.spread(fast[item], SHAPE, MAX_AGE, PRIORITY), plain, err_msg=item
            )


@given(st.lists(ROW, max_size=40), st.integers(0, SHAPE[0] - 1))
@settings(max_examples=60, deadline=None)
def test_a_session_depends_on_window_and_age_only(rows, last):
    def at_last(found: Events, sessions: int) -> np.ndarray:
        figures = trailing(found, WINDOW)
        return figures.timeline.spread(figures.now["net_income"], (sessions, SHAPE[1]), MAX_AGE)[-1]

    found = filings(rows)
    start = max(0, last + 1 - WINDOW - MAX_AGE)
    expected = at_last(found.between(0, last + 1), last + 1)
    np.testing.assert_array_equal(at_last(found.between(start, last + 1), last + 1 - start), expected)
