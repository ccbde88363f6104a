from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import DataError
from sources import timetable


def test_the_table_is_what_the_library_says() -> None:
    """Fails after an upgrade that changes sessions: run `python -m sources.timetable`, and look at what changed."""
    for first in (2000, 2020):
        stored, computed = (read("XNYS", first, first + 19) for read in (timetable.timetable, timetable.computed))
        for told, true in zip(stored, computed, strict=True):
            assert told.dtype == true.dtype
            assert np.array_equal(told, true)
    assert timetable._stored(timetable.TABLE) is not None, "the table is of another release of exchange_calendars"


@pytest.mark.parametrize(("exchange", "first", "last"), [("XLON", 2016, 2017), ("XNYS", 1999, 2000)])
def test_what_the_table_does_not_hold_is_computed(exchange: str, first: int, last: int) -> None:
    days, closes = timetable.timetable(exchange, first, last)
    assert len(days) == len(closes) > 500
    assert days[0].astype("datetime64[Y]") == np.datetime64(str(first))
    assert days[-1].astype("datetime64[Y]") == np.datetime64(str(last))


def test_a_table_of_another_release_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "timetable.parquet"
    wrong = pa.table({"session": np.array(["2016-07-03"], "datetime64[D]"), "close": np.array([0], "datetime64[us]")})
    pq.write_table(wrong.replace_schema_metadata({"exchange_calendars": "0.1"}), path)
    monkeypatch.setattr(timetable, "TABLE", path)
    days, _ = timetable.timetable("XNYS", 2016, 2016)
    assert len(days) == 252
    assert np.datetime64("2016-07-03") not in days


def test_a_broken_table_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "timetable.parquet"
    path.write_bytes(b"half")
    monkeypatch.setattr(timetable, "TABLE", path)
    with pytest.raises(DataError, match="restore it from git"):
        timetable.timetable("XNYS", 2016, 2016)
