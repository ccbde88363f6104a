"""The panel, its assembly from tables, the universe, and how features are declared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from core.errors import ConfigError, DataError, LeakageError
from core.params import Params
from features.assemble import SERIES_STALE, assemble, group_codes
from features.cleaning_invariance import _panel_difference
from features.panel import Events, Panel, pivot
from features.registry import FAMILIES, Family, Feature, build_features
from features.universe import UniverseRule, universe
from pipelines.tables import sectors_of

DATES = pd.bdate_range("2012-01-02", periods=700).to_numpy("datetime64[D]")
RULE = UniverseRule(min_dollar_volume=1e5, coverage_sessions=63, break_sessions=63)


def shuffled(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return frame.iloc[rng.permutation(len(frame)), rng.permutation(len(frame.columns))].reset_index(drop=True)


def test_assembly_does_not_depend_on_the_order_of_rows_or_columns(tables, panel):
    other = assemble({name: shuffled(frame, 4) for name, frame in tables.items()}, DATES, RULE)
    assert _panel_difference(panel, other) == ""


def test_prices_round_trip(tables, panel):
    prices = tables["prices"]
    back = pd.DataFrame(panel["close"], index=DATES, columns=panel.symbols).stack().dropna()
    expected = prices.set_index(["date", "symbol"])["close"].sort_index()
    assert len(back) == len(expected)
    np.testing.assert_array_equal(back.sort_index().to_numpy(), expected.to_numpy())


def test_a_window_equals_its_own_assembly(tables, panel):
    part = assemble(tables, DATES[200:500], RULE)
    cut = replace(panel.window(200, 500), universe=part.universe)
    assert _panel_difference(cut, part) == ""
    assert (part.universe[63:] == panel.universe[263:500]).all()


def test_sectors_are_codes_of_sorted_names(panel):
    assert panel.sector[:6].tolist() == [0, -1, 2, 3, 0, 1]
    assert group_codes(None, "sector", panel.symbols).tolist() == [-1] * 24


@pytest.mark.parametrize("column", ["sector", "industry"])
def test_sectors_and_industries_are_grouped_alike(column):
    named = {"A": "Energy", "B": "", "C": None, "D": "Banks", "E": "Energy", "Z": "Air"}
    table = pd.DataFrame({"symbol": list(named), column: list(named.values())})
    symbols = np.array(["D", "A", "B", "C", "E", "F"])
    codes = group_codes(table, column, symbols)
    assert codes.tolist() == [1, 2, -1, -1, 2, -1]
    assert group_codes(table.drop(columns=column), column, symbols).tolist() == [-1] * 6
    if column == "sector":
        assert sectors_of(table) == {"A": "Energy", "D": "Banks", "E": "Energy", "Z": "Air"}
        known = pd.Series(symbols).map(sectors_of(table)).notna()
        assert known.tolist() == (codes >= 0).tolist()


def test_series_are_as_of_and_go_stale():
    prices = pd.DataFrame({"date": DATES.repeat(2), "symbol": ["A", "B"] * 700, "close": 1.0, "volume": 1.0})
    prices[["open", "high", "low"]] = 1.0
    macro = pd.DataFrame({"session": DATES[[10, 20]].astype("datetime64[s]"), "series": "X", "value": [1.0, 2.0]})
    series = assemble({"prices": prices, "macro": macro}, DATES, RULE).series["X"]
    assert np.isnan(series[9])
    assert (series[10:20] == 1).all()
    assert (series[20 : 20 + SERIES_STALE] == 2).all()
    assert np.isnan(series[20 + SERIES_STALE :]).all()
    later = assemble({"prices": prices, "macro": macro}, DATES[15:], RULE).series["X"]
    np.testing.assert_array_equal(later, series[15:])
    with pytest.raises(DataError, match=r"'macro'.*twice"):
        assemble({"prices": prices, "macro": pd.concat([macro, macro])}, DATES, RULE)


def test_bad_tables_are_refused(tables):
    prices, panel_symbols = tables["prices"], np.array(["S000"])
    with pytest.raises(DataError, match="occurs twice"):
        assemble({"prices": pd.concat([prices, prices.head(1)])}, DATES, RULE)
    with pytest.raises(DataError, match="no price row"):
        assemble({"prices": prices}, DATES + np.timedelta64(9999, "D"), RULE)
    with pytest.raises(DataError, match="not a session"):
        assemble({"prices": prices}, np.delete(DATES, 300), RULE)
    event = tables["filings"].head(1).assign(session=pd.Timestamp("2012-01-07"))
    with pytest.raises(DataError, match=r"event session 20.* is not a session"):
        assemble({"prices": prices, "filings": event}, DATES, RULE)
    doubled = pd.concat([tables["securities"]] * 2)
    with pytest.raises(DataError, match=r"'securities'.*twice"):
        group_codes(doubled, "sector", panel_symbols)
    with pytest.raises(DataError, match="not in the panel"):
        pivot(prices, "close", DATES, panel_symbols)
    nobody = prices.assign(symbol=prices["symbol"].where(prices.index > 0))
    with pytest.raises(DataError, match="not in the panel"):
        pivot(nobody, "close", DATES, np.array(sorted(prices["symbol"].unique())))


def test_a_field_of_another_shape_is_refused(panel):
    with pytest.raises(DataError, match="'close' has shape"):
        replace(panel, fields={**panel.fields, "close": panel["close"][:5]})


def test_events_are_seen_from_their_session_on(panel):
    filings = panel.events["filings"]
    middle = int(filings.session[100])
    seen = panel.cut(middle - 1).events["filings"]
    assert len(seen) == np.searchsorted(filings.session, middle)
    tail = panel.tail(middle, 10)
    assert tail.dates[-1] == panel.dates[middle]
    assert tail.shape == (10, 24)
    assert (tail.events["filings"].session < 10).all()
    np.testing.assert_array_equal(
        tail.dates[tail.events["filings"].session],
        panel.dates[filings.session[(filings.session > middle - 10) & (filings.session <= middle)]],
    )


def flat(sessions=20, close=10.0, volume=1e6) -> dict[str, np.ndarray]:
    shape = (sessions, 2)
    return {"close": np.full(shape, close), "volume": np.full(shape, volume), "level_break": np.zeros(shape)}


SMALL = UniverseRule(dollar_volume_sessions=5, coverage_sessions=10, break_sessions=4)


def test_universe_needs_history_and_today():
    fields = flat()
    fields["close"][15, 0] = np.nan
    held = universe(fields, SMALL)
    assert held[:, 1].tolist() == [False] * 8 + [True] * 12
    assert held[:, 0].tolist() == [False] * 8 + [True] * 7 + [False] + [True] * 4
    fields["close"][16, 0] = np.nan
    assert not universe(fields, SMALL)[17, 0]
    assert universe(fields, SMALL.model_copy(update={"min_coverage": 0.8}))[17, 0]


def test_universe_needs_money_traded():
    fields = flat(volume=1e5)
    assert universe(fields, SMALL)[-1].all()
    assert not universe(flat(volume=0.9e5), SMALL)[-1].any()
    fields["volume"][-3:] = np.nan
    assert not universe(fields, SMALL)[-1].any()


def test_universe_waits_after_a_break_and_looks_at_traded_prices():
    fields = flat()
    fields["level_break"][12, 0] = 1.0
    assert universe(fields, SMALL)[:, 0].tolist() == [False] * 8 + [True] * 4 + [False] * 4 + [True] * 4
    fields["close_unadjusted"] = np.full((20, 2), np.nan)
    fields["close_unadjusted"][-1] = [0.99, 1.0]
    assert universe(fields, SMALL)[-2:].tolist() == [[True, True], [False, True]]


def test_universe_lookback_is_exact(panel):
    money = {"min_dollar_volume": 5e5, "dollar_volume_sessions": 80, "coverage_sessions": 60, "break_sessions": 0}
    jump = {"min_dollar_volume": 0.0, "coverage_sessions": 40, "break_sessions": 100}
    broken = int(np.argmax(panel["level_break"].any(axis=1)))
    for rule in (RULE, UniverseRule(**money), UniverseRule(**jump)):
        full = universe(panel.fields, rule)
        for day in (300, broken + 99, 523, 699):
            tail = panel.tail(day, rule.lookback)
            assert (universe(tail.fields, rule)[-1] == full[day]).all()
            assert (universe(panel.cut(day).fields, rule) == full[: day + 1]).all()


def test_families_are_found_and_names_unique():
    assert "market" in FAMILIES
    built = build_features(dict.fromkeys(FAMILIES.names()))
    assert len({feature.name for feature in built}) == len(built)
    with pytest.raises(ConfigError, match="unknown feature family 'markt'"):
        build_features({"markt": None})


def test_a_feature_of_the_wrong_shape_is_refused(panel):
    wrong = Feature("wrong", "x", 1, ("close",), "1", 0, "", "", lambda p: p["close"][1:])
    with pytest.raises(LeakageError, match="'wrong' returned shape"):
        wrong(panel)
    endless = replace(wrong, compute=lambda p: np.where(p.universe, np.inf, p["close"]))
    assert np.isnan(endless(panel)[panel.universe]).all()
    assert not replace(wrong, inputs=("options",)).available(panel)


def test_a_column_of_an_event_table_is_an_input():
    values = {"gain": np.array([np.nan, 1.0]), "loss": np.full(2, np.nan)}
    events = Events(np.zeros(2, np.int64), np.zeros(2, np.int64), values)
    sector = np.zeros(1, np.int64)
    panel = Panel(DATES, np.array(["A"]), {}, np.ones((len(DATES), 1), bool), sector, {"filings": events})

    def missing(*inputs: str) -> tuple[str, ...]:
        return Feature("f", "x", 1, inputs, "1", 0, "", "", lambda p: p["close"]).missing(panel)

    assert missing("filings", "filings.gain") == ()
    assert missing("filings.loss", "filings.other", "close") == ("close", "filings.loss", "filings.other")
    assert missing("earnings.gain") == ("earnings",)
    # A dot in the name of a series is no table.
    assert missing("VIX.3M") == ("VIX.3M",)


def test_parameters_may_name_the_inputs(panel):
    class Names(Params):
        wanted: str = "close"
        windows: tuple[int, ...] = (1, 2)

    family = Family("test_family", Names)
    family.feature(
        "step_{size}", over="windows", lookback=lambda size: size, inputs=lambda params: (params.wanted,),
        units="", reference="",
    )(lambda p, name, size: size * p[name])  # fmt: skip
    built = family.build({"wanted": "volume"})
    del FAMILIES._entries["test_family"]
    assert [(item.name, item.inputs, item.lookback) for item in built] == [
        ("step_1", ("volume",), 1),
        ("step_2", ("volume",), 2),
    ]
    np.testing.assert_array_equal(built[1](panel), (2 * panel["volume"]).astype(np.float32))


def test_a_placeholder_and_its_list_go_together():
    class Nothing(Params):
        pass

    family = Family("test_family", Nothing)
    with pytest.raises(ConfigError, match="go together"):
        family.feature("ret_{window}", lookback=1, inputs=(), units="", reference="")(lambda p: p["close"])
    with pytest.raises(ConfigError, match="registered twice"):
        Family("test_family", Nothing)
    del FAMILIES._entries["test_family"]


def test_stored_values_know_one_nan_and_leave_shared_arrays_alone(panel):
    shared = np.zeros(panel.shape, dtype=np.float32)
    shared[0, :3] = [np.inf, -np.inf, -np.float32(np.nan)]
    before = shared.tobytes()
    out = Feature("shared", "mutant", 1, ("close",), "1", 0, "none", "", lambda _: shared)(panel)
    assert out[0, :3].tobytes() == np.full(3, np.nan, dtype=np.float32).tobytes()
    assert shared.tobytes() == before
