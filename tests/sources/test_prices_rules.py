from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from sources import calendar
from sources.base import open_source
from sources.cleaning import Cleaned, clean
from sources.cleaning.prices import LOOKBACK
from sources.identity import ANOTHER_COMPANY
from sources.schemas import normalise

World = Callable[[np.ndarray], pd.DataFrame]
Edit = Callable[..., Cleaned]

SESSIONS = 120
DAYS = calendar.sessions("2012-01-03", "2016-12-30")[:SESSIONS]


def calm(level: float = 45.0) -> np.ndarray:
    """Closes that move by 1 % up and down."""
    return level * (1 + 0.01 * (np.arange(SESSIONS) % 2))


def cleaned(frame: pd.DataFrame) -> Cleaned:
    return clean({"prices": normalise("prices", frame, "prices")}, DAYS[0].item(), DAYS[-1].item())


@pytest.fixture
def world(bars_of: Callable[..., pd.DataFrame]) -> World:
    """Bars of my closes among ten calm symbols."""
    return lambda mine: bars_of({"MINE": mine} | {f"Z{k:02d}": calm() for k in range(10)})


def rows(result: Cleaned) -> pd.DataFrame:
    """My clean rows by session number."""
    table = result.tables["prices"].query("symbol == 'MINE'")
    return table.set_index(np.searchsorted(DAYS, table["date"].to_numpy().astype("datetime64[D]")))


def found(result: Cleaned) -> dict[str, int]:
    return result.findings.query("symbol == 'MINE'").set_index("rule")["rows"].to_dict()


def test_clean_data_is_left_alone(world: World) -> None:
    result = cleaned(world(calm()))
    assert len(result.findings) == 0
    assert len(rows(result)) == SESSIONS
    assert list(result.tables["prices"]) == [
        "date", "symbol", "open", "high", "low", "close", "volume", "close_unadjusted", "vwap", "level_break",
    ]  # fmt: skip


def test_one_day_spike_disappears_and_its_reversal_is_accepted(world: World) -> None:
    close = calm()
    close[80] = 4.52
    mine = rows(cleaned(world(close)))
    assert 80 not in mine.index
    assert len(mine) == SESSIONS - 1
    assert mine["level_break"].sum() == 0


@pytest.mark.parametrize(("factor", "marked"), [(0.5, 1), (2.0, 1), (1 / 3, 1), (1.5, 1), (0.56, 0), (0.37, 1)])
def test_lasting_jump_loses_its_first_day_and_may_be_marked(world: World, factor: float, marked: int) -> None:
    close = calm()
    close[80:] *= factor
    mine = rows(cleaned(world(close)))
    assert sorted(set(range(SESSIONS)) - set(mine.index)) == [80]
    assert mine["level_break"].sum() == marked
    if marked:
        assert mine["level_break"].idxmax() == 81


@pytest.mark.parametrize(("factor", "marked"), [(0.65, 0), (2.0, 0), (0.3, 1)])
@pytest.mark.parametrize("day", [80, 81])
def test_a_jump_that_the_money_follows_is_news_unless_beyond_belief(
    world: World, factor: float, marked: int, day: int
) -> None:
    close = calm()
    close[80:] *= factor
    frame = world(close)
    at = frame.index[frame["symbol"] == "MINE"]
    frame.loc[at[80:], "volume"] /= factor
    split = rows(cleaned(frame))
    assert split["level_break"].sum() == 1
    frame.loc[at[day], "volume"] *= 4
    assert rows(cleaned(frame))["level_break"].sum() == marked


def test_factor_of_two_on_some_days(world: World) -> None:
    close = calm()
    close[40:100:5] *= 2
    mine = rows(cleaned(world(close)))
    assert sorted(set(range(SESSIONS)) - set(mine.index)) == list(range(40, 100, 5))
    assert np.ptp(np.log(mine["close"])) < 0.02
    assert mine["level_break"].sum() == 0


def test_a_wrong_level_of_three_days_is_marked_on_entry_and_return(world: World) -> None:
    close = calm()
    close[80:83] *= 2
    mine = rows(cleaned(world(close)))
    jumps = np.abs(np.log(mine["close"]).diff()) > 0.35
    assert jumps.any()
    assert (mine.loc[jumps, "level_break"] == 1).all()


def test_volatile_symbols_have_a_wider_limit(world: World) -> None:
    wild = 45 * np.exp(0.05 * (-1.0) ** np.arange(SESSIONS))
    wild[80:] *= 0.6
    assert found(cleaned(world(wild))) == {}
    quiet = calm()
    quiet[80:] *= 0.6
    assert found(cleaned(world(quiet)))["first_day_at_new_level"] == 1


@pytest.mark.parametrize(("missing", "mark"), [(20, 1.0), (21, ANOTHER_COMPANY), (30, ANOTHER_COMPANY)])
def test_jump_over_a_gap_is_marked(world: World, edit: Edit, missing: int, mark: float) -> None:
    close = calm()
    close[90 - missing : 90] = np.nan
    close[90:] *= 0.25
    mine = rows(cleaned(world(close)))
    assert mine.loc[90, "level_break"] == mark
    expected = {"gap_over_10_sessions": 1, "missing_sessions": missing, "level_break": 1}
    assert found(cleaned(world(close))) == {**expected, **({"another_company": 1} if mark > 1 else {})}


@pytest.fixture
def edit(world: World) -> Edit:
    """Cleans the calm world after a change of my bar of session 50."""

    def change(**values: float) -> Cleaned:
        frame = world(calm())
        at = frame.index[frame["symbol"] == "MINE"][50]
        frame.loc[at, list(values)] = list(values.values())
        return cleaned(frame)

    return change


@pytest.mark.parametrize("field", ["open", "high", "low"])
def test_zero_fields_become_unknown(edit: Edit, field: str) -> None:
    result = edit(**{field: 0.0})
    assert np.isnan(rows(result).loc[50, field])
    assert found(result) == {f"{field}_not_positive": 1}


@pytest.mark.parametrize("close", [0.0, -1.0, np.nan])
def test_rows_without_a_close_go(edit: Edit, close: float) -> None:
    result = edit(close=close)
    assert 50 not in rows(result).index
    assert found(result) == {"close_not_positive": 1, "missing_sessions": 1}


def test_envelope(edit: Edit) -> None:
    crossed = rows(edit(open=45.0, close=45.0, high=44.0, low=46.0)).loc[50]
    assert (crossed["low"], crossed["high"]) == (44.0, 46.0)
    outside = rows(edit(open=44.0, close=47.0, high=46.0, low=45.0)).loc[50]
    assert (outside["low"], outside["high"]) == (44.0, 47.0)


def test_stray_prints_become_unknown(edit: Edit) -> None:
    result = edit(low=0.01)
    assert np.isnan(rows(result).loc[50, "low"])
    assert found(result) == {"low_stray": 1}


def test_volume(world: World, edit: Edit) -> None:
    assert np.isnan(rows(edit(volume=-5.0)).loc[50, "volume"])
    assert np.isnan(rows(edit(volume=0.0)).loc[50, "volume"])
    quiet = np.full(SESSIONS, 45.0)
    frame = world(quiet).assign(high=45.0, low=45.0)
    frame["volume"] = 0.0
    assert rows(cleaned(frame)).loc[50, "volume"] == 0.0


def test_lookback_is_just_enough(bars_of: Callable[..., pd.DataFrame]) -> None:
    """The last row asks for the row 63 sessions before it, whose fate hangs on the oldest of its 62 returns."""
    oldest, judged, last = 10, 73, 136
    moves = np.full(last + 1, 0.01)
    moves[oldest + 1 : oldest + 32] = 0.2
    close = 45 * np.exp(np.cumsum(moves * (-1.0) ** np.arange(last + 1)))
    close[judged:] *= 0.5
    close[judged + 1 : last] = np.nan
    close[last] = close[judged] * 0.5
    days = calendar.sessions("2012-01-03", "2016-12-30")[: last + 1]
    frame = normalise("prices", bars_of({"MINE": close} | {f"Z{k}": np.full(last + 1, 9.0) for k in range(10)}), "p")
    marks = []
    for start in (days[0], days[last + 1 - LOOKBACK], days[last + 2 - LOOKBACK]):
        near = frame[frame["date"] >= pd.Timestamp(start)]
        table = clean({"prices": near}, days[last].item(), days[last].item()).tables["prices"]
        marks.append(table.query("symbol == 'MINE'")["level_break"].tolist())
    assert marks == [[ANOTHER_COMPANY], [ANOTHER_COMPANY], [0.0]]


def test_days_off_are_dropped(world: World) -> None:
    frame = world(calm())
    extra = frame[frame["symbol"] == "MINE"].iloc[[0]].assign(date=pd.Timestamp("2012-01-07"), close=1.0)
    result = cleaned(pd.concat([frame, extra]))
    assert found(result) == {"not_a_session": 1}
    assert len(rows(result)) == SESSIONS


def test_a_usable_price_is_needed(bars_of: Callable[..., pd.DataFrame]) -> None:
    frame = normalise("prices", bars_of({"MINE": calm()}), "prices")
    with pytest.raises(DataError, match="no row up to 1999-12-31"):
        clean({"prices": frame}, DAYS[0].item(), np.datetime64("1999-12-31").item())
    weekend = frame.assign(date=pd.Timestamp("2012-01-07") + pd.to_timedelta(7 * np.arange(len(frame)), unit="D"))
    for unusable in (frame.assign(close=0.0), weekend, weekend.iloc[:1]):
        with pytest.raises(DataError, match="has a close above 0 on a session"):
            clean({"prices": unusable}, DAYS[0].item(), np.datetime64("2016-12-30").item())


@pytest.mark.real_data
def test_known_defects_of_the_real_bundle(real_data: Path) -> None:
    prices = open_source("files", real_data, {}).read("prices")
    result = clean({"prices": prices}, np.datetime64("2004-01-02").item(), np.datetime64("2017-03-31").item())
    kept = pd.MultiIndex.from_frame(result.tables["prices"][["symbol", "date"]])
    for symbol, day in (("C", "2011-05-06"), ("DF", "2013-08-26"), ("DUK", "2012-07-02")):
        assert (symbol, pd.Timestamp(day)) not in kept
        # The day after the spike is at the old level again, and kept.
    assert ("DUK", pd.Timestamp("2012-07-03")) in kept
    assert ("C", pd.Timestamp("2011-05-09")) in kept
    totals = result.findings.groupby("rule")["rows"].sum()
    assert totals["open_not_positive"] == 1898
    assert totals["missing_sessions"] == 7176
    assert totals["open_or_close_above_high"] + totals["open_or_close_below_low"] > 3500
    breaks = result.tables["prices"].query("level_break > 0").set_index("symbol")["date"].dt.strftime("%Y-%m-%d")
    for symbol in ("APH", "DVA", "LKQ", "MAR", "JEC"):
        assert symbol in breaks.index
    marked = set(zip(breaks.index, breaks, strict=True))
    # Bad quarters, a drug that works, a bank in the crisis: true moves on many times the usual volume.
    for symbol, day in (("NFLX", "2011-10-26"), ("VRTX", "2013-04-22"), ("CDNS", "2008-02-01"), ("HIG", "2008-10-31")):
        assert (symbol, pd.Timestamp(day)) in kept
        assert (symbol, day) not in marked
    assert len(result.tables["prices"]) > 0.9995 * len(prices)
