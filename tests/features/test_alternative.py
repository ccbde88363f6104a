"""The user's own series: hand-made vintages, a plain oracle, the invariances, and a folder of CSVs with no code."""

from __future__ import annotations

import dataclasses
import datetime
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from core.params import parse
from features import perturb
from features.assemble import assemble
from features.families.alternative import AlternativeParams, SeriesParams, alternative
from features.feeds import silences
from features.invariance import prove, prove_cleaning, require, spread_cuts
from features.panel import Events, Panel
from features.registry import Feature, build_features
from features.target import TargetRule
from features.universe import UniverseRule
from pipelines.day import read_day
from pipelines.params import Inputs
from sources.base import open_source
from sources.calendar import sessions
from sources.cleaning import clean
from sources.providers.files import FilesParams
from sources.schemas import normalise

RULE = UniverseRule(min_dollar_volume=0.0, coverage_sessions=63, dollar_volume_sessions=21, break_sessions=63)
START = np.datetime64("2014-01-01")
DECLARED = {
    "series": [
        {"name": "footfall", "window": 42, "max_age": 20, "surprises": 4, "season": 3, "change": 2, "relative": True},
        {"name": "Card_1", "window": 80, "max_age": 60, "surprises": 3},
    ]
}


def make(rows: list[tuple[int, int, int, float]], length: int = 30, name: str = "x") -> Panel:
    """A panel of two symbols with one series; rows are (session known, symbol, day described, value)."""
    session, symbol, day, value = (np.array(column) for column in zip(*sorted(rows), strict=True))
    events = Events(
        session.astype(np.int64), symbol.astype(np.int64), {"date": START + day, "value": value.astype(float)}
    )
    return Panel(
        dates=START + np.arange(length),
        symbols=np.array(["A", "B"]),
        fields={"close": np.ones((length, 2))},
        universe=np.ones((length, 2), dtype=bool),
        sector=np.zeros(2, dtype=np.int64),
        events={f"alternative:{name}": events},
    )


def values_of(rows: list[tuple[int, int, int, float]], length: int = 30, **declared) -> dict[str, np.ndarray]:
    built = alternative.build({"series": [{"name": "x", **declared}]})
    panel = make(rows, length)
    return {feature.name.removeprefix("alt_x_"): feature(panel)[:, 0] for feature in built}


# --- values ---------------------------------------------------------------------------------------------------


def test_level_change_surprise_and_staleness():
    got = values_of([(2 * i, 0, 2 * i - 1, v) for i, v in enumerate([3.0, 5.0, 4.0, 8.0])], max_age=5, surprises=3)
    np.testing.assert_array_equal(got["level"][:12], [3, 3, 5, 5, 4, 4, 8, 8, 8, 8, 8, np.nan])
    np.testing.assert_array_equal(got["change"][:8], [np.nan, np.nan, 2, 2, -1, -1, 4, 4])
    np.testing.assert_array_equal(got["staleness"][:12], [0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 4, np.nan])
    assert np.isnan(got["surprise"][:6]).all()
    np.testing.assert_allclose(got["surprise"][6:11], (8 - 4) / np.std([3, 5, 4], ddof=1), rtol=1e-6)


def test_a_season_is_taken_out_before_the_surprise():
    values = [10.0, 1.0, 12.0, 2.0, 13.0, 5.0, 17.0]
    got = values_of([(i, 0, i, v) for i, v in enumerate(values)], season=2, surprises=3, change=2, relative=True)
    moves = [12 - 10, 2 - 1, 13 - 12, 5 - 2, 17 - 13]
    np.testing.assert_allclose(
        got["surprise"][6], (moves[4] - np.mean(moves[1:4])) / np.std(moves[1:4], ddof=1), rtol=1e-6
    )
    assert np.isfinite(got["surprise"][5])
    assert np.isnan(got["surprise"][4])
    np.testing.assert_allclose(got["change"][6], 17 / 13 - 1, rtol=1e-6)


def test_values_that_never_vary_hold_no_surprise():
    got = values_of([(i, 0, i, 0.1) for i in range(12)], surprises=5)
    assert np.isnan(got["surprise"]).all()
    assert (got["change"][1:12] == 0).all()


def test_a_revision_takes_the_place_of_what_it_revises_and_is_no_news():
    got = values_of([(0, 0, 0, 1.0), (3, 0, 3, 4.0), (5, 0, 0, 2.0), (7, 0, 3, 9.0), (8, 0, 1, 6.0)], max_age=10)
    np.testing.assert_array_equal(got["level"][[0, 3, 6, 7, 8, 12, 13]], [1, 4, 4, 9, 9, 9, np.nan])
    np.testing.assert_array_equal(got["change"][[3, 5, 7, 8]], [3, 2, 7, 3])
    np.testing.assert_array_equal(got["staleness"][[3, 6, 7, 12]], [0, 3, 4, 9])


def test_several_days_may_become_known_at_once():
    got = values_of([(4, 0, day, float(day)) for day in range(4)])
    assert got["level"][4] == 3
    assert got["change"][4] == 1


def test_no_number_is_carried_beyond_its_age_nor_remembered_beyond_the_window():
    got = values_of([(0, 0, 0, 1.0), (9, 0, 5, 2.0)], window=9, max_age=4)
    assert np.isnan(got["level"][4:9]).all()
    assert np.isnan(got["change"][9])
    assert np.isfinite(values_of([(0, 0, 0, 1.0), (9, 0, 5, 2.0)], window=10, max_age=4)["change"][9])


@given(
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 1), st.integers(0, 9), st.integers(-9, 9)), min_size=1),
    st.integers(1, 15),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(0, 2),
)
@settings(max_examples=150, deadline=None)
def test_figures_agree_with_a_plain_reading_of_what_was_known(rows, window, max_age, change, season):
    rows = list({row[:3]: (*row[:3], float(row[3])) for row in rows}.values())
    declared = SeriesParams(name="x", window=window, max_age=max_age, change=change, season=season, surprises=2)
    built = {feature.name: feature for feature in alternative.build(AlternativeParams(series=[declared]))}
    panel = make(rows, 20)
    got = {name: feature(panel) for name, feature in built.items()}
    for column in (0, 1):
        mine = [row for row in sorted(rows) if row[1] == column]
        for now in range(20):
            moment = max((row[0] for row in mine if row[0] <= now), default=-99)
            seen = [row for row in mine if moment - window < row[0] <= moment]
            latest = {row[2]: row[3] for row in seen}
            days = sorted(latest, reverse=True)
            since = min((row[0] for row in seen if row[2] == days[0]), default=-99) if days else -99
            expected = dict.fromkeys(("level", "change", "surprise", "staleness"), np.nan)
            if days and now - since < max_age:
                v = [latest[day] for day in days]
                expected |= {"level": v[0], "staleness": now - since}
                if len(v) > change:
                    expected["change"] = v[0] - v[change]
                if len(v) > 2 + season:
                    x = [v[i] - v[i + season] if season else v[i] for i in range(3)]
                    usual = np.std(x[1:], ddof=1)
                    expected["surprise"] = (x[0] - np.mean(x[1:])) / usual if usual > 0 else np.nan
            for name, value in expected.items():
                np.testing.assert_allclose(got[f"alt_x_{name}"][now, column], value, rtol=1e-5, err_msg=name)


# --- what is declared -----------------------------------------------------------------------------------------


def test_no_feature_without_a_declared_series():
    assert build_features({"alternative": None}) == ()


def test_a_declared_series_is_four_features_that_read_it_alone():
    built = alternative.build(DECLARED)
    assert {feature.name for feature in built} == {
        f"alt_{name}_{what}" for name in ("footfall", "Card_1") for what in ("level", "change", "surprise", "staleness")
    }
    card = next(feature for feature in built if feature.name == "alt_Card_1_level")
    assert card.inputs == ("alternative:Card_1",)
    assert card.lookback == 139
    assert card.missing(make([(0, 0, 0, 1.0)])) == ("alternative:Card_1",)


@pytest.mark.parametrize(
    ("series", "words"),
    [
        ([{"name": "card spend"}], "pattern"),
        ([{"name": "x", "age": 3}], "age: unknown parameter"),
        ([{"name": "x", "surprises": 1}], "greater than or equal to 2"),
        ([{"name": "x", "lag_days": 3}], "lag_days: unknown parameter"),
    ],
)
def test_an_impossible_declaration_is_refused(series, words):
    with pytest.raises(ConfigError, match=words):
        parse(AlternativeParams, {"series": series}, "features.alternative")


def test_a_series_declared_twice_is_refused():
    with pytest.raises(ConfigError, match="declared twice: alt_x_change"):
        build_features({"alternative": {"series": [{"name": "x"}, {"name": "x", "change": 2}]}})


# --- invariances ----------------------------------------------------------------------------------------------


def vintages(dates: pd.DatetimeIndex, symbols: np.ndarray, seed: int = 4) -> pd.DataFrame:
    """Clean rows of two series: weekly with revisions and late arrivals, and monthly."""
    rng = np.random.default_rng(seed)
    rows = []
    for symbol in symbols[:-2]:
        for name, step in (("footfall", 5), ("Card_1", 21)):
            for at in range(int(rng.integers(0, step)), len(dates) - 1, step):
                value = 100 + 20 * np.sin(at / 12) + rng.normal()
                for known in {at + int(rng.integers(1, 9)), *(at + rng.integers(5, 60, int(rng.random() < 0.3)))}:
                    if known < len(dates):
                        rows.append((dates[known], symbol, name, dates[at], value))
                        value += rng.normal()
    frame = pd.DataFrame(rows, columns=["session", "symbol", "series", "date", "value"])
    return frame.drop_duplicates(["session", "symbol", "series", "date"], ignore_index=True)


@pytest.fixture(scope="module")
def own(tables, panel) -> Panel:
    """The synthetic panel with two series of the user's own."""
    frame = vintages(pd.DatetimeIndex(panel.dates).as_unit("s"), panel.symbols)
    return assemble({**tables, "alternative": frame}, panel.dates, RULE)


def test_every_series_holds(own):
    features = alternative.build(DECLARED)
    assert all(feature.available(own) for feature in features)
    require(prove(features, own, [300, 520]))
    require(prove(features, own, spread_cuts(own), symbols=12))


def failed(feature: Feature, panel: Panel) -> set[str]:
    report = prove([feature], panel, [300, 520])
    return set(report.loc[~report["ok"], "invariance"])


def test_a_value_placed_on_the_day_that_it_describes_is_caught(own):
    """The guard must fail for the leak that such data invites."""

    def by_date(panel: Panel) -> np.ndarray:
        events = panel.events["alternative:footfall"]
        out = np.full(panel.shape, np.nan)
        row = np.searchsorted(panel.dates, events.values["date"])
        inside = (events.values["date"] >= panel.dates[0]) & (row < len(panel.dates))
        out[row[inside], events.symbol[inside]] = events.values["value"][inside]
        return pd.DataFrame(out).ffill(limit=20).to_numpy()

    leak = dataclasses.replace(alternative.build(DECLARED)[0], name="by_date", compute=by_date)
    assert failed(leak, own) >= {"prefix", "future"}


def test_final_revisions_a_short_lookback_and_another_series_are_caught(own):
    level, *_ = (feature for feature in alternative.build(DECLARED) if feature.name == "alt_footfall_level")

    def final(panel: Panel) -> np.ndarray:
        events = panel.events["alternative:footfall"]
        rows = pd.DataFrame(
            {"key": events.symbol * 10**6 + events.values["date"].astype(int), "v": events.values["value"]}
        )
        last = rows.groupby("key")["v"].transform("last").to_numpy()
        revised = Events(events.session, events.symbol, {**events.values, "value": last})
        return level.compute(dataclasses.replace(panel, events={"alternative:footfall": revised}))

    assert failed(dataclasses.replace(level, compute=final), own) >= {"prefix", "future"}
    assert failed(dataclasses.replace(level, lookback=5), own) == {"lookback"}
    assert "inputs" in failed(dataclasses.replace(level, inputs=("alternative:Card_1",)), own)


def test_changes_of_a_panel_reach_every_series(own):
    name = "alternative:footfall"
    other = perturb.scramble_after(own, 400, 0).events[name]
    late = int(np.searchsorted(own.events[name].session, 401))
    assert (other.values["value"][:late] == own.events[name].values["value"][:late]).all()
    assert (np.abs(other.values["value"][late:]) > 1e3).any()
    assert (other.values["date"][late:] < own.dates[400]).any()
    order = np.random.default_rng(0).permutation(len(own.symbols))
    few = np.array([2, 5, 7])
    for changed, symbols in (
        (perturb.permute(own, order), own.symbols[order]),
        (perturb.only(own, few), own.symbols[few]),
    ):
        events = changed.events[name]
        assert set(symbols[events.symbol]) <= set(own.symbols)
        assert (np.diff(events.session) >= 0).all()
        mine = own.events[name].values["value"][own.symbols[own.events[name].symbol] == "S005"]
        np.testing.assert_array_equal(np.sort(events.values["value"][symbols[events.symbol] == "S005"]), np.sort(mine))


def test_each_series_is_a_feed_of_its_own(own):
    assert {"alternative:footfall", "alternative:Card_1"} <= set(silences(own))


# --- a folder of the user's own -------------------------------------------------------------------------------

DAYS = sessions("2014-01-02", "2015-12-31")
NAMES = np.array([f"S{i:02d}" for i in range(24)])
DAY = pd.Timedelta(days=1)


def write_prices(folder: Path) -> None:
    rng = np.random.default_rng(5)
    close = 40 * np.exp(np.cumsum(rng.normal(0, 0.015, (len(DAYS), len(NAMES))), axis=0))
    pd.DataFrame(
        {
            "date": np.repeat(DAYS, len(NAMES)).astype("datetime64[s]"),
            "symbol": np.tile(NAMES, len(DAYS)),
            "open": close.ravel(),
            "high": 1.01 * close.ravel(),
            "low": 0.99 * close.ravel(),
            "close": close.ravel(),
            "volume": 1e6,
        }
    ).to_csv(folder / "prices.csv", index=False)


def weekly_rows() -> pd.DataFrame:
    days = pd.date_range("2014-01-04", "2015-12-26", freq="W-SAT")
    rng = np.random.default_rng(2)
    frame = pd.MultiIndex.from_product([["footfall"], NAMES, days], names=["series", "symbol", "date"]).to_frame(
        index=False
    )
    return frame.assign(value=rng.normal(50, 5, len(frame)).round(2))


def write_series(folder: Path, frame: pd.DataFrame) -> None:
    frame.to_csv(folder / "alternative.csv", index=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_prices(tmp_path)
    write_series(tmp_path, weekly_rows())
    return tmp_path


SHORT = {"series": [{"name": "footfall", "window": 60, "max_age": 15, "surprises": 4}]}


def test_a_csv_becomes_features_without_code(folder):
    source = open_source("files", folder, {"lag_days": {"footfall": 3}})
    raw = {name: source.read(name) for name in source.tables()}
    assert set(raw) == {"prices", "alternative"}
    cleaned = clean(raw, DAYS[0].item(), DAYS[-1].item())
    panel = assemble(cleaned.tables, DAYS, RULE)
    built = build_features({"alternative": SHORT})
    got = {feature.name: feature(panel) for feature in built}
    weekly = weekly_rows()
    # Saturday the 3rd plus three days is a Tuesday, at whose close the value is first used.
    tuesday = int(np.searchsorted(DAYS, np.datetime64("2015-10-06")))
    mine = weekly[weekly["symbol"] == "S07"].set_index("date")["value"]
    assert got["alt_footfall_level"][tuesday - 1, 7] == np.float32(mine["2015-09-26"])
    assert got["alt_footfall_level"][tuesday, 7] == np.float32(mine["2015-10-03"])
    assert got["alt_footfall_staleness"][tuesday + 2, 7] == 2
    four = mine[:"2015-09-26"].tail(4)
    expected = (mine["2015-10-03"] - four.mean()) / four.std()
    np.testing.assert_allclose(got["alt_footfall_surprise"][tuesday, 7], expected, rtol=1e-5)
    require(prove(built, panel, [250, 400]))
    require(prove_cleaning(raw, RULE, [400]))

    inputs = Inputs(RULE, TargetRule(), built)
    for back in (1, 4):
        day = read_day(source, inputs, [feature.name for feature in built], DAYS[-back])
        trained = np.column_stack([got[feature.name][-back] for feature in built])
        np.testing.assert_array_equal(day.rows.X.view(np.uint32), trained.view(np.uint32))


def test_the_daily_job_reads_no_more_of_the_series_than_it_needs(folder, monkeypatch):
    source = open_source("files", folder, {"lag_days": {"footfall": 3}})
    asked = {}
    read = source.read
    monkeypatch.setattr(source, "read", lambda name, *days: asked.setdefault(name, days) and read(name, *days))
    built = build_features({"alternative": SHORT})
    read_day(source, Inputs(RULE, TargetRule(), built), [feature.name for feature in built], DAYS[-1])
    assert asked["alternative"] == (DAYS[-75].item(), datetime.date(2015, 12, 31))


def test_without_a_date_and_without_a_lag_the_data_is_refused(folder):
    with pytest.raises(DataError) as caught:
        open_source("files", folder, {"lag_days": {"Footfall": 3}}).read("alternative")
    message = str(caught.value)
    assert "alternative.csv: column 'available_date' is missing" in message
    assert "data.files.lag_days.footfall" in message
    assert "\n" not in message


def test_rows_that_say_when_they_were_known_need_no_lag(folder):
    rows = weekly_rows()
    dated = rows.assign(available_date=rows["date"] + 10 * DAY)
    revised = dated.assign(value=dated["value"] + 1, available_date=dated["available_date"] + 8 * DAY)
    write_series(folder, pd.concat([dated, revised]))
    source = open_source("files", folder, {})
    cleaned = clean({name: source.read(name) for name in source.tables()}, DAYS[0].item(), DAYS[-1].item())
    panel = assemble(cleaned.tables, DAYS, RULE)
    got = {feature.name: feature(panel)[:, 7] for feature in build_features({"alternative": SHORT})}
    mine = rows[rows["symbol"] == "S07"].set_index("date")["value"]
    # 2015-10-03 becomes known on Tuesday the 13th; the next value on the 20th, and on the 21st the first is revised.
    at = int(np.searchsorted(DAYS, np.datetime64("2015-10-13")))
    assert got["alt_footfall_level"][at] == np.float32(mine["2015-10-03"])
    step = mine["2015-10-10"] - mine["2015-10-03"]
    np.testing.assert_allclose(got["alt_footfall_change"][[at + 5, at + 6]], [step, step - 1], rtol=1e-5)


def test_a_lag_of_its_own_goes_before_the_declared_one(folder):
    rows = weekly_rows()
    write_series(folder, rows.assign(available_date=(rows["date"] + DAY).where(rows["date"] >= "2015-01-01")))
    out = open_source("files", folder, {"lag_days": {"footfall": 30}}).read("alternative")
    lag = (out["available_date"] - out["date"]).dt.days
    assert set(lag[out["date"] >= "2015-01-01"]) == {1}
    assert set(lag[out["date"] < "2015-01-01"]) == {30}
    with pytest.raises(
        DataError, match=r"'available_date' is empty at series footfall, symbol S00.*lag_days\.footfall"
    ):
        open_source("files", folder, {}).read("alternative")


def test_the_example_of_the_docs_is_accepted_as_it_stands(repository: Path):
    text = (repository / "docs/data.md").read_text().partition("## Your own dated series")[2]
    csv, yml = (re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL).group(1) for kind in ("csv", "yaml"))
    told = yaml.safe_load(yml)
    params = parse(FilesParams, told["data"]["files"], "data.files")
    frame = normalise("alternative", pd.read_csv(io.StringIO(csv)), "alternative.csv", lag_days=params.lag_days)
    assert (frame["available_date"] - frame["date"]).unique().tolist() == [6 * DAY]
    built = build_features({"alternative": told["features"]["alternative"]})
    assert {feature.name for feature in built} >= set(re.findall(r"`(alt_\w+)`", text))
    assert set(frame["series"]) <= {series["name"] for series in told["features"]["alternative"]["series"]}
