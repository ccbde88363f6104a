"""Fundamental features: check values, hand-made panels, what a value may depend on, and real filings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.errors import ConfigError
from core.params import parse
from features.families.fundamental import FundamentalParams, fundamental, market_value
from features.panel import Events, Panel
from features.surprise import new_reports, scaled_surprises, standardised_change
from features.trailing import BALANCES, CASH_FLOWS, INCOME_FLOWS

FEATURES = {feature.name: feature for feature in fundamental.build()}
NAN = float("nan")
EPS = [1, 1.1, 1.2, 1.3, 1.1, 1.25, 1.3, 1.5, 1.3, 1.35, 1.5, 1.6, 1.7]


def make(filings: list[dict] | None = None, earnings: list[dict] | None = None, sessions: int = 40) -> Panel:
    """One symbol that closes at 10, with hand-made events."""
    shape = (sessions, 1)
    fields = {name: np.full(shape, 10.0) for name in ("open", "high", "low", "close", "volume")}
    events = {}
    if filings is not None:
        text = {"source": "simulated", "amended": False, "income_months": 12, "cashflow_months": 12}
        numbers = dict.fromkeys((*INCOME_FLOWS, *CASH_FLOWS, *BALANCES), NAN)
        events["filings"] = as_events(filings, {"period_end": np.datetime64("2010-12-31"), **text, **numbers})
    if earnings is not None:
        events["earnings"] = as_events(earnings, {"eps_estimate": NAN, "eps_actual": NAN})
    return Panel(
        dates=np.datetime64("2011-01-03") + np.arange(sessions),
        symbols=np.array(["A"]),
        fields=fields,
        universe=np.ones(shape, dtype=bool),
        sector=np.zeros(1, dtype=np.int64),
        events=events,
    )


def as_events(rows: list[dict], defaults: dict) -> Events:
    session = np.array([row["session"] for row in rows], dtype=np.int64)
    columns = {name: np.array([row.get(name, default) for row in rows]) for name, default in defaults.items()}
    return Events(session, np.zeros(len(rows), dtype=np.int64), columns)


def value(name: str, panel: Panel, session: int = -1) -> float:
    return float(FEATURES[name](panel)[session, 0])


YEARS = [
    {"session": 3, "period_end": np.datetime64("2009-12-31")}
    | {"revenue": 400.0, "gross_profit": 100.0, "net_income": 20.0, "assets": 500.0, "shares": 8.0}
    | {"long_term_debt": 150.0, "current_assets": 100.0, "current_liabilities": 80.0},
    {"session": 30, "revenue": 500.0, "operating_income": 90.0, "net_income": 50.0, "cash_flow_operating": 80.0}
    | {"gross_profit": 150.0, "assets": 600.0, "equity": 200.0, "shares": 10.0}
    | {"long_term_debt": 120.0, "current_assets": 150.0, "current_liabilities": 100.0, "cash": 40.0},
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("earnings_yield", 50 / 100),
        ("book_to_market", 200 / 100),
        ("sales_yield", 500 / 100),
        ("cash_flow_yield", 80 / 100),
        ("operating_profitability", 90 / 600),
        ("return_on_equity", 50 / 200),
        ("accruals", (50 - 80) / 600),
        ("leverage", 400 / 600),
        ("asset_turnover", 500 / 600),
        ("revenue_growth", 500 / 400 - 1),
        ("income_growth", (50 - 20) / 500),
        ("asset_growth", 600 / 500 - 1),
        ("share_issuance", np.log(10 / 8)),
        ("gross_profitability", 150 / 600),
        ("return_on_assets", 50 / 600),
        ("cash_flow_to_assets", 80 / 600),
        ("net_operating_assets", (200 + 120 - 40) / 500),
        ("return_on_assets_change", 50 / 600 - 20 / 500),
        ("debt_change", 120 / 600 - 150 / 500),
        ("current_ratio_change", 1.5 - 1.25),
        ("gross_margin_change", 0.3 - 0.25),
        ("asset_turnover_change", 500 / 600 - 400 / 500),
        # Everything but the shares that were issued.
        ("f_score", 8.0),
        ("earnings_yield_relative", 0.0),
        ("book_to_market_relative", 0.0),
        ("days_since_report", 9.0),
        ("restated", 0.0),
    ],
)
def test_hand_computed(name, expected):
    panel = make(YEARS)
    assert value(name, panel) == pytest.approx(expected, rel=1e-6)
    # On the eve of the second report only the first is known.
    known = {"earnings_yield": 20 / 80, "sales_yield": 400 / 80, "asset_turnover": 400 / 500}
    known |= {"return_on_assets": 20 / 500, "gross_profitability": 100 / 500, "earnings_yield_relative": 0.0}
    before = {**known, "days_since_report": 26.0, "restated": 0.0}.get(name, NAN)
    assert value(name, panel, 29) == pytest.approx(before, rel=1e-6, nan_ok=True)
    assert np.isnan(value(name, panel, 2))


def years(**second: float) -> Panel:
    """`YEARS` with other figures in the second one."""
    return make([YEARS[0], YEARS[1] | second])


@pytest.mark.parametrize(
    ("second", "signs"),
    [
        ({"net_income": -1.0}, 8 - 2),
        ({"cash_flow_operating": -1.0}, 8 - 2),
        ({"cash_flow_operating": 49.0}, 8 - 1),
        ({"net_income": 23.0}, 8 - 1),
        ({"long_term_debt": 181.0}, 8 - 1),
        ({"current_assets": 124.0}, 8 - 1),
        ({"gross_profit": 124.0}, 8 - 1),
        ({"revenue": 479.0}, 8 - 1),
        ({"shares": 8.0}, 9),
        ({"shares": 7.0}, 9),
    ],
)
def test_each_sign_of_strength_counts(second, signs):
    assert value("f_score", years(**second)) == signs


def test_the_score_of_what_is_known_is_scaled_to_nine():
    assert value("f_score", years(gross_profit=NAN)) == pytest.approx(7 * 9 / 8)
    # Net income is in three of the signs, and its growth in one of those.
    assert value("f_score", years(net_income=NAN)) == pytest.approx(5 * 9 / 6)
    assert np.isnan(value("f_score", years(net_income=NAN, shares=NAN)))


def test_gross_profit_is_needed_only_by_what_names_it():
    named = {"gross_profitability", "gross_margin_change"}
    panel = make(YEARS)
    filings = panel.events["filings"]
    others = {name: column for name, column in filings.values.items() if name != "gross_profit"}
    unknown = {**others, "gross_profit": np.full(len(filings), NAN)}
    for values in (others, unknown):
        without = replace(panel, events={"filings": replace(filings, values=values)})
        lacking = {name: feature.missing(without) for name, feature in FEATURES.items()}
        assert {name for name, names in lacking.items() if names == ("filings.gross_profit",)} == named
        assert value("f_score", without) == pytest.approx(7 * 9 / 8)
    assert not FEATURES["gross_profitability"].missing(panel)
    assert FEATURES["gross_profitability"].missing(make()) == ("filings",)
    assert FEATURES["gross_profitability"].reads == {"filings"}


def test_share_turnover_is_volume_over_shares():
    panel = make([YEARS[0]], sessions=80)
    volume = np.arange(80.0)[:, None]
    panel = replace(panel, fields={**panel.fields, "volume": volume})
    assert value("share_turnover", panel) == pytest.approx(volume[-63:].mean() / 8)
    assert np.isnan(value("share_turnover", panel, 49))
    assert value("share_turnover", panel, 50) == pytest.approx(25 / 8)


def test_relative_values_are_apart_from_the_sector(long_panel):
    for name in ("earnings_yield", "book_to_market"):
        plain, relative = FEATURES[name](long_panel)[1100], FEATURES[f"{name}_relative"](long_panel)[1100]
        peers = (long_panel.sector == long_panel.sector[8]) & long_panel.universe[1100] & np.isfinite(plain)
        assert peers[8]
        assert peers.sum() >= 3
        assert relative[8] == pytest.approx(plain[8] - plain[peers].mean(), abs=1e-6)


def test_a_close_stands_for_five_sessions():
    panel = make(YEARS)
    close = panel["close"].copy()
    close[31:] = np.nan
    panel = replace(panel, fields={**panel.fields, "close": close})
    assert value("earnings_yield", panel, 34) == 0.5
    assert np.isnan(value("earnings_yield", panel, 35))


@pytest.mark.parametrize("equity", [0.0, -5.0])
def test_return_on_no_equity_is_unknown(equity):
    assert np.isnan(value("return_on_equity", make([{"session": 1, "net_income": 1.0, "equity": equity}])))


def test_sue_check_values():
    quarterly = np.array([EPS[::-1]])
    assert standardised_change(quarterly)[0] == pytest.approx(8.0724, abs=5e-5)
    assert standardised_change(quarterly, drift=True)[0] == pytest.approx(5.1714, abs=5e-5)


def test_sue_is_unknown_without_variation_or_history():
    steady = np.cumsum(np.ones((1, 13)), axis=1)[:, ::-1] * 0.1
    short = np.array([EPS[::-1]])
    short[0, 12] = np.nan
    assert np.isnan(standardised_change(steady)).all()
    assert np.isnan(standardised_change(short)).all()


def test_sue_from_filings():
    month = np.datetime64("2008-01", "M") + 3 * (1 + np.arange(13))
    rows = [
        {"session": 60 * q, "period_end": end.astype("datetime64[D]") - 1, "net_income": e, "income_months": 3}
        for q, (end, e) in enumerate(zip(month, EPS, strict=True))
    ]
    panel = make(rows, sessions=900)
    assert value("sue", panel, 720) == pytest.approx(8.0724, abs=5e-5)
    assert np.isnan(value("sue", panel, 719))
    assert np.isnan(value("sue", panel, 720 + 63))


ANNOUNCED = [
    {"session": 0, "eps_estimate": 1.0, "eps_actual": 1.3},
    {"session": 5, "eps_estimate": 1.0, "eps_actual": 0.6},
    {"session": 10, "eps_estimate": -0.5, "eps_actual": 0.0},
]


def test_surprise_is_scaled_by_estimate_and_usual_miss():
    expected = 0.5 / (0.5 + np.sqrt((0.3**2 + 0.4**2) / 2))
    panel = make(earnings=ANNOUNCED, sessions=80)
    assert np.isnan(value("earnings_surprise_60", panel, 9))
    assert value("earnings_surprise_60", panel, 10) == pytest.approx(expected)
    assert value("earnings_surprise_60", panel, 69) == pytest.approx(expected)
    assert np.isnan(value("earnings_surprise_60", panel, 70))
    assert value("earnings_surprise_fading_60", panel, 10) == pytest.approx(expected)
    assert value("earnings_surprise_fading_60", panel, 40) == pytest.approx(expected / 2)
    assert value("days_since_announcement", panel, 25) == 15.0


def test_the_reaction_to_an_announcement_fades():
    close = np.full((80, 3), 100.0)
    close[9, 0], close[10:, 0], close[10:, 1] = 104.0, 110.0, 95.0
    one = make(earnings=[{"session": 10}, {"session": 1}], sessions=80)
    panel = replace(
        one,
        symbols=np.array(["A", "B", "C"]),
        fields={"close": close},
        universe=np.ones(close.shape, dtype=bool),
        sector=np.zeros(3, dtype=np.int64),
    )
    moved = 0.10 - (0.10 - 0.05) / 3
    got = FEATURES["announcement_return_fading_60"](panel)
    np.testing.assert_allclose(got[[10, 40, 69], 0], [moved, moved / 2, moved / 60], rtol=1e-5)
    # Of the first announcement there is no return, and nobody else announced.
    assert np.isnan(got[[9, 70], 0]).all()
    assert np.isnan(got[:, 1:]).all()


def test_surprise_of_any_unit_is_the_same():
    earnings = make(earnings=ANNOUNCED).events["earnings"]
    cents = replace(earnings, values={name: 64 * column for name, column in earnings.values.items()})
    np.testing.assert_array_equal(scaled_surprises(earnings)[1], scaled_surprises(cents)[1])


def test_an_announcement_of_the_same_session_is_no_earlier_one():
    twice = [*ANNOUNCED[:1], {**ANNOUNCED[1], "session": 0}, ANNOUNCED[0] | {"session": 0, "eps_actual": 9.0}]
    assert np.isnan(FEATURES["earnings_surprise_60"](make(earnings=twice))).all()


def test_declared_lookbacks_reach_the_oldest_rows_that_count():
    """Rows just within each window, and a value just before it expires: one session less would lose it."""
    late = YEARS[0] | {"session": 100}, YEARS[1] | {"session": 100 + 629}
    panel = make(list(late), sessions=1200)
    last = late[1]["session"] + 269
    for name in ("income_growth", "share_issuance", "gross_margin_change", "f_score"):
        assert np.isfinite(value(name, panel, last))
        assert value(name, panel.tail(last, FEATURES[name].lookback)) == value(name, panel, last)
    too_late = make([late[0], late[1] | {"session": 100 + 630}], sessions=1200)
    assert np.isnan(value("income_growth", too_late, 100 + 630))


def test_old_surprises_and_old_reports_are_forgotten():
    old = [*ANNOUNCED[:2], ANNOUNCED[2] | {"session": 559}]
    assert np.isfinite(value("earnings_surprise_60", make(earnings=old, sessions=600), 559))
    old[2]["session"] = 560
    assert np.isnan(value("earnings_surprise_60", make(earnings=old, sessions=600), 560))

    again = make([{"session": 1}, {"session": 252, "source": "stockpup"}], sessions=300)
    assert new_reports(again.events["filings"]).session.tolist() == [1]
    again = make([{"session": 1}, {"session": 253, "source": "stockpup"}], sessions=300)
    assert new_reports(again.events["filings"]).session.tolist() == [1, 253]


def test_second_sources_and_amendments_are_no_news():
    quarter = {"period_end": np.datetime64("2010-12-31")}
    later = {"period_end": np.datetime64("2011-03-31")}
    rows = [
        {"session": 1, **quarter},
        {"session": 4, **quarter, "source": "stockpup"},
        {"session": 6, **quarter, "amended": True},
        {"session": 9, **later},
    ]
    panel = make(rows)
    assert new_reports(panel.events["filings"]).session.tolist() == [1, 9]
    assert FEATURES["restated"](panel)[:, 0].tolist()[1:8] == [0, 0, 0, 0, 0, 1, 1]


def test_features_without_their_table_are_not_available():
    assert not any(feature.available(make()) for feature in FEATURES.values())
    assert {name for name, feature in FEATURES.items() if feature.available(make(earnings=ANNOUNCED))} == {
        "earnings_surprise_20",
        "earnings_surprise_60",
        "earnings_surprise_fading_20",
        "earnings_surprise_fading_60",
        "announcement_return_fading_20",
        "announcement_return_fading_60",
        "days_since_announcement",
    }


def test_unknown_parameter_is_refused():
    with pytest.raises(ConfigError, match="surprise_day: unknown parameter"):
        parse(FundamentalParams, {"surprise_day": [30]}, "features.fundamental")


# --- what a value may depend on ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_panel(make_panel) -> Panel:
    return make_panel(1150, 12, 3)


@pytest.mark.parametrize("name", FEATURES)
def test_past_and_lookback_only(name, long_panel):
    feature = FEATURES[name]
    whole = feature(long_panel)
    for last in (500, 960, 1100):
        np.testing.assert_array_equal(feature(long_panel.cut(last)), whole[: last + 1])
        np.testing.assert_array_equal(feature(long_panel.tail(last, feature.lookback))[-1], whole[last])


@pytest.mark.parametrize("name", FEATURES)
def test_scale_of_a_share_and_order_of_symbols(name, long_panel):
    feature = FEATURES[name]
    whole = feature(long_panel)
    factor = np.where(np.arange(long_panel.shape[1]) == 4, 8.0, 1.0)
    fields = dict(long_panel.fields)
    for field in ("open", "high", "low", "close"):
        fields[field] = fields[field] * factor
    fields["volume"] = fields["volume"] / factor
    filings = long_panel.events["filings"]
    shares = filings.values["shares"] / factor[filings.symbol]
    events = {**long_panel.events, "filings": replace(filings, values={**filings.values, "shares": shares})}
    np.testing.assert_array_equal(feature(replace(long_panel, fields=fields, events=events)), whole)

    turned = long_panel.shape[1] - 1
    mirrored = replace(
        long_panel,
        fields={key: array[:, ::-1] for key, array in long_panel.fields.items()},
        universe=long_panel.universe[:, ::-1],
        sector=long_panel.sector[::-1],
        events={key: replace(rows, symbol=turned - rows.symbol) for key, rows in long_panel.events.items()},
    )
    np.testing.assert_array_equal(feature(mirrored), whole[:, ::-1])


# --- real filings --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_panel(real_data) -> Panel:
    import datetime

    from features.assemble import assemble
    from features.universe import UniverseRule
    from sources import calendar
    from sources.base import open_source
    from sources.cleaning import clean

    first, last = datetime.date(2010, 1, 4), datetime.date(2017, 3, 31)
    source = open_source("files", real_data, {})
    tables = {name: source.read(name, first, last) for name in ("prices", "fundamentals", "earnings", "securities")}
    return assemble(clean(tables, first, last).tables, calendar.sessions(first, last), UniverseRule())


@pytest.mark.real_data
@pytest.mark.slow
def test_known_company(real_panel):
    def at(name: str, day: str, symbol: str = "AAPL") -> float:
        row, column = np.searchsorted(real_panel.dates, np.datetime64(day)), list(real_panel.symbols).index(symbol)
        values = market_value(real_panel) if name == "market_value" else FEATURES[name](real_panel)
        return float(values[row, column])

    # Fiscal 2015: net income 53.4e9 on sales of 233.7e9; worth some 660e9 at the end of November.
    assert at("market_value", "2015-11-30") == pytest.approx(665e9, rel=0.03)
    assert at("earnings_yield", "2015-11-30") * at("market_value", "2015-11-30") == pytest.approx(53.39e9, rel=1e-3)
    assert at("sales_yield", "2015-11-30") * at("market_value", "2015-11-30") == pytest.approx(233.7e9, rel=1e-3)
    # Only the slower source knows the year before; it reports fiscal 2015 at the end of December.
    assert at("revenue_growth", "2016-01-15") == pytest.approx(233.7 / 182.8 - 1, abs=0.01)


@pytest.mark.real_data
@pytest.mark.slow
def test_cross_section_and_coverage(real_panel):
    year = real_panel.dates.astype("datetime64[Y]").astype(int) + 1970
    earnings, equity = FEATURES["earnings_yield"](real_panel), FEATURES["return_on_equity"](real_panel)
    for each, least in ((2012, 0.5), (2013, 0.6), (2014, 0.65), (2016, 0.8)):
        held = real_panel.universe & (year == each)[:, None]
        assert 0.02 < np.nanmedian(earnings[held]) < 0.08
        assert np.isfinite(equity[held]).mean() > least
