from __future__ import annotations

import datetime
from pathlib import Path

import pandas as pd
import pytest

from core.errors import ConfigError, DataError
from sources.base import PROVIDERS, open_source


def prices(sessions: int = 30) -> pd.DataFrame:
    dates = pd.bdate_range("2016-01-04", periods=sessions)
    rows = [(day, symbol, 10.0 + k) for k, day in enumerate(dates) for symbol in ("NA", "TRUE", "ZZ")]
    frame = pd.DataFrame(rows, columns=["date", "symbol", "close"])
    return frame.assign(open=frame["close"], high=frame["close"], low=frame["close"], volume=100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    frame = prices()
    frame.assign(date=frame["date"].dt.date).to_parquet(tmp_path / "prices.parquet", row_group_size=7)
    securities = pd.DataFrame(
        {"symbol": ["ZZ", "NA"], "name": ["Z", "N"], "exchange": "X", "sector": [None, "E"], "industry": [None, "I"]}
    )
    securities.to_parquet(tmp_path / "securities.parquet")
    (tmp_path / "index.parquet").write_text("ignored")
    return tmp_path


def open_files(path: Path | None):
    return open_source("files", path, {})


def test_registered() -> None:
    assert "files" in PROVIDERS


def test_tables_and_window(folder: Path) -> None:
    source = open_files(folder)
    assert source.tables() == ("prices", "securities")
    whole = source.read("prices")
    start, end = datetime.date(2016, 1, 12), datetime.date(2016, 1, 20)
    window = source.read("prices", start, end)
    inside = whole["date"].between(pd.Timestamp(start), pd.Timestamp(end))
    pd.testing.assert_frame_equal(window, whole[inside].reset_index(drop=True))
    assert len(source.read("prices", datetime.date(2020, 1, 1))) == 0
    assert len(source.read("securities", start, end)) == 2


def test_the_last_day_is_that_of_the_table_whatever_the_file_is(folder: Path, tmp_path_factory) -> None:
    other = tmp_path_factory.mktemp("csv")
    prices().to_csv(other / "prices.csv", index=False)
    moments = tmp_path_factory.mktemp("moments")
    prices().to_parquet(moments / "prices.parquet")
    for place in (folder, other, moments):
        source = open_files(place)
        assert source.last_day() == source.read("prices")["date"].max().to_numpy()
        assert source.last_day().dtype == "datetime64[D]"
    (other / "prices.csv").unlink()
    (other / "prices.parquet").write_bytes((folder / "prices.parquet").read_bytes()[:-40])
    with pytest.raises(DataError, match="not readable"):
        open_files(other).last_day()


def test_csv_reads_the_same(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("csv")
    prices().to_csv(other / "prices.csv", index=False)
    for window in ((None, None), (datetime.date(2016, 1, 12), datetime.date(2016, 1, 20))):
        pd.testing.assert_frame_equal(
            open_files(other).read("prices", *window), open_files(folder).read("prices", *window)
        )


def test_posts_come_from_social(folder: Path) -> None:
    frame = pd.DataFrame(
        {
            "symbol": "ZZ", "user_hash": 1, "followers": 1, "is_retweet": False, "lang": "en", "text": ["a", "b", "c"],
            "created_at": pd.to_datetime(["2016-01-05T23:59:59Z", "2016-01-06T00:00:00Z", "2016-01-07T00:00:00Z"]),
        }
    )  # fmt: skip
    frame.to_parquet(folder / "social.parquet")
    source = open_files(folder)
    day = datetime.date(2016, 1, 6)
    assert source.read("posts", day, day)["text"].tolist() == ["b"]
    frame.to_csv(folder / "posts.csv", index=False)
    with pytest.raises(DataError, match="twice"):
        open_files(folder)


def test_missing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.path is not set"):
        open_files(None)
    with pytest.raises(DataError, match=r"nowhere is no folder: set data\.path"):
        open_files(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"neither prices\.parquet nor prices\.csv"):
        open_files(tmp_path / "empty")
    with pytest.raises(DataError, match="no table 'macro'"):
        open_files(folder).read("macro")
    with pytest.raises(ConfigError, match=r"data\.files\.speed: unknown parameter"):
        open_source("files", folder, {"speed": 1})


def refused(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_files(folder).read("prices", datetime.date(2016, 1, 4), datetime.date(2016, 2, 1))
    message = str(caught.value)
    assert "\n" not in message
    assert "prices." in message
    return message


def test_truncated_parquet(folder: Path) -> None:
    file = folder / "prices.parquet"
    file.write_bytes(file.read_bytes()[:-40])
    assert "not readable Parquet" in refused(folder)


def test_damaged_page(folder: Path) -> None:
    file = folder / "prices.parquet"
    data = bytearray(file.read_bytes())
    data[4:200] = bytes(196)
    file.write_bytes(bytes(data))
    assert "not readable Parquet" in refused(folder)


def test_missing_column(folder: Path) -> None:
    prices().rename(columns={"close": "last"}).to_parquet(folder / "prices.parquet")
    message = refused(folder)
    assert "'close' is missing" in message
    assert "last" in message


def test_text_dates_and_text_numbers(folder: Path) -> None:
    frame = prices()
    frame.assign(date=frame["date"].dt.strftime("%d/%m/%Y")).to_parquet(folder / "prices.parquet")
    assert "'date'" in refused(folder)
    frame.assign(close=frame["close"].astype(str)).to_parquet(folder / "prices.parquet")
    message = refused(folder)
    assert "'close'" in message
    assert "2016-01-04" in message


def test_empty_table(folder: Path) -> None:
    prices().iloc[:0].to_parquet(folder / "prices.parquet")
    assert "no rows" in refused(folder)


def test_unknown_date_is_refused_in_a_window_too(folder: Path) -> None:
    frame = prices()
    frame.loc[5, "date"] = pd.NaT
    frame.assign(date=frame["date"].astype("datetime64[ms]")).to_parquet(folder / "prices.parquet")
    assert "'date' is empty" in refused(folder)


@pytest.mark.parametrize("text", ["", "\x00\xff\xfe", "date,symbol,open,high,low,close,volume\n1,2,3,4\n1,2,3,4,5\n"])
def test_bad_csv(folder: Path, text: str) -> None:
    (folder / "prices.parquet").unlink()
    (folder / "prices.csv").write_text(text, encoding="latin-1")
    assert "prices.csv is " in refused(folder)


def test_csv_with_text_in_a_number_column(folder: Path) -> None:
    (folder / "prices.parquet").unlink()
    frame = prices().astype({"close": object})
    frame.loc[4, "close"] = "-"
    frame.to_csv(folder / "prices.csv", index=False)
    message = refused(folder)
    assert "'-'" in message
    assert "TRUE" in message


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_window_of_an_own_series_is_by_the_day_it_was_known(folder: Path, kind: str) -> None:
    frame = pd.DataFrame({"series": "s", "symbol": "ZZ", "date": pd.bdate_range("2016-01-04", periods=9), "value": 1.0})
    frame.loc[3, "available_date"] = pd.Timestamp("2016-01-25")
    getattr(frame, f"to_{kind}")(folder / f"alternative.{kind}", index=False)
    source = open_source("files", folder, {"lag_days": {"s": 2}})
    out = source.read("alternative", datetime.date(2016, 1, 8), datetime.date(2016, 1, 11))
    assert out["date"].dt.day.tolist() == [6, 8]
    assert source.read("alternative", datetime.date(2016, 1, 20))["date"].dt.day.tolist() == [7]
    with pytest.raises(ConfigError, match=r"data\.files\.lag_days\.s = -1"):
        open_source("files", folder, {"lag_days": {"s": -1}})


@pytest.mark.real_data
def test_real_window_is_a_part_of_the_whole(real_data: Path) -> None:
    source = open_files(real_data)
    assert set(source.tables()) == {"prices", "fundamentals", "earnings", "posts", "securities", "macro"}
    window = source.read("prices", datetime.date(2016, 1, 4), datetime.date(2016, 3, 31))
    assert window["symbol"].nunique() > 440
    assert window["date"].min() == pd.Timestamp("2016-01-04")
    assert window["date"].max() == pd.Timestamp("2016-03-31")
