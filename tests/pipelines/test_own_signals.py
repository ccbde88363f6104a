"""Signals of the user's own are read as every other table is: kept, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from core.files import digest_file
from features.panel import Panel
from pipelines.own_signals import read_own
from portfolio.pod_walk import OwnSignal

DAYS = pd.bdate_range("2017-11-20", "2017-12-15").drop("2017-11-23")
SYMBOLS = np.array(["AA", "BRK.B", "N/A", "NA", "NULL", "None", "nan"])
PANEL = cast(Panel, SimpleNamespace(dates=DAYS.to_numpy().astype("datetime64[D]"), symbols=SYMBOLS))


def plain() -> pd.DataFrame:
    rows = [(day, symbol, k + number / 8) for k, day in enumerate(DAYS) for number, symbol in enumerate(SYMBOLS)]
    return pd.DataFrame(rows, columns=["date", "symbol", "signal"])


def read(folder: Path, content: pd.DataFrame | bytes, name: str) -> Any:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif name.endswith(".parquet"):
        content.to_parquet(path, index=False)
    else:
        content.to_csv(path, index=False)
    return read_own(folder, "mine", OwnSignal(path=name, digest=digest_file(path)), PANEL)


WHOLE = np.arange(len(DAYS))[:, None] + np.arange(len(SYMBOLS)) / 8


@pytest.mark.parametrize("name", ["mine.csv", "mine.csv.gz", "mine.parquet"])
def test_every_session_and_symbol_is_kept(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    np.testing.assert_array_equal(read(tmp_path, plain(), name), WHOLE)
    np.testing.assert_array_equal(read(tmp_path, plain().rename(columns=str.title), name), WHOLE)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "Europe/Berlin", "America/New_York", "UTC"])
def test_midnight_is_the_day_of_its_own_zone(tmp_path: Path, zone: str) -> None:
    zoned = plain().assign(date=lambda frame: frame["date"].dt.tz_localize(zone))
    np.testing.assert_array_equal(read(tmp_path, zoned, "mine.parquet"), WHOLE)
    with pytest.raises(DataError, match=r"'date'.*such as 2016-10-18, without a time of day"):
        read(tmp_path, zoned, "mine.csv")
    if zone != "UTC":
        moved = zoned.assign(date=zoned["date"].dt.tz_convert("UTC"))
        with pytest.raises(DataError, match=r"'date'.*without a time of day"):
            read(tmp_path, moved, "mine.parquet")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (plain().drop(columns="date"), "'date' is missing.*symbol, signal"),
        (plain().assign(date=plain()["date"].dt.strftime("%d/%m/%Y")), "'date' holds '20/11/2017'"),
        (
            plain().assign(signal=plain()["signal"].astype(object).mask(plain().index == 5, "n.a.")),
            "holds 'n.a.'.*None",
        ),
        (plain().assign(signal=np.inf), "'signal' holds inf.*must be a finite number"),
        (pd.concat([plain(), plain().head(1).assign(signal=9.0)]), "symbol AA occurs twice.*'signal'"),
        (plain().head(1).assign(date=pd.Timestamp("2010-01-04")), "no row of a session and symbol of the data"),
        (plain().head(0), "no rows"),
        (b"", "is empty"),
        (plain().assign(note="Nestl\u00e9").to_csv(index=False).encode("latin-1"), "not UTF-8 text at line 2"),
    ],
)
def test_one_line_says_what_is_wrong(tmp_path: Path, content: pd.DataFrame | bytes, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, content, "mine.csv")
    assert "mine.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_left_out_by_a_slip_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slips = pd.DataFrame(
        {"date": pd.to_datetime(["2017-11-25", "2017-11-23", DAYS[1]]), "symbol": ["AA", "AA", "brk-b"], "signal": 7.0}
    )
    np.testing.assert_array_equal(read(tmp_path, pd.concat([plain(), slips]), "mine.parquet"), WHOLE)
    said = capsys.readouterr().err
    assert "2 rows are of no session and left out (first 2017-11-23)" in said
    assert "1 symbols are not in the data and left out (first 'brk-b'; the data has 'BRK.B')" in said
