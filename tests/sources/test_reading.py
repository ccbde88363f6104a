"""Users' files: what is certain is read whoever wrote it, what is damaged is refused with its line or column."""

from __future__ import annotations

import datetime
import gzip
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DataError
from sources.base import open_source
from sources.reading import read_table
from sources.schemas import SIGNAL, normalise

HEAD = "date,symbol,open,high,low,close,volume"
ROWS = ["2016-01-04,AA,1,2,0.5,1.5,3499310", "2016-01-05,AA,1,2,0.5,1.25,", "2016-01-05,NA,1,2,0.5,1.1,7"]
PLAIN = "\n".join([HEAD, *ROWS]) + "\n"


def signals(path: Path) -> pd.DataFrame:
    return normalise(SIGNAL, read_table(path, SIGNAL), path.name)


def prices(folder: Path, content: str | bytes, name: str = "prices.csv") -> pd.DataFrame:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_source("files", folder, {}).read("prices")


def refused(folder: Path, content: str | bytes, name: str = "prices.csv") -> str:
    with pytest.raises(DataError) as caught:
        prices(folder, content, name)
    message = str(caught.value)
    assert "\n" not in message
    assert name in message
    return message


@pytest.fixture
def expected(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return prices(tmp_path_factory.mktemp("plain"), PLAIN)


def test_plain_csv(expected: pd.DataFrame) -> None:
    assert expected["symbol"].tolist() == ["AA", "AA", "NA"]
    assert expected["volume"].fillna(-1).tolist() == [3499310, -1, 7]


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.replace(",", ", "),
        PLAIN.replace(",", " ,"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        "\ufeff" + PLAIN,
        PLAIN.replace(HEAD, HEAD.title()),
        PLAIN.replace(HEAD, HEAD.replace(",", '","').join('""')),
        PLAIN.replace("AA", '"AA"'),
        PLAIN.replace("AA", "\u00a0AA\u00a0"),
        PLAIN.replace("AA", "\uff21\uff21"),
        PLAIN.replace("AA", "A\u200bA"),
        PLAIN.replace("\n", "\n\n"),
        PLAIN.replace("1.25", "+1.25"),
        PLAIN.replace("1.25,", "1.25,NA"),
        "".join(
            f"{line},{note}\n" for line, note in zip([HEAD, *ROWS], ["note", "", '"a ""b"", c"', '"d\ne"'], strict=True)
        ),
        gzip.compress(PLAIN.encode()),
    ],
)
def test_what_is_certain_is_read(tmp_path: Path, expected: pd.DataFrame, content: str | bytes) -> None:
    pd.testing.assert_frame_equal(prices(tmp_path, content), expected)


def test_gzip_is_read_by_its_name_too(tmp_path: Path, expected: pd.DataFrame) -> None:
    whole = gzip.compress(PLAIN.encode())
    pd.testing.assert_frame_equal(prices(tmp_path, whole, "prices.csv.gz"), expected)
    assert "cut or damaged" in refused(tmp_path, whole[:-9], "prices.csv.gz")
    assert "cut or damaged" in refused(tmp_path, whole[:20] + b"\0\0" + whole[22:], "prices.csv.gz")


def edit(line: int, old: str, new: str) -> str:
    lines = PLAIN.split("\n")
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("\n".join([HEAD, *(row + "," for row in ROWS)]) + "\n", ["line 2 has 8 fields, the heading has 7"]),
        (edit(3, ",1.25,", ",1.25"), ["line 3 has 6 fields, the heading has 7"]),
        (edit(3, ",1.25,", ",1,25,"), ["line 3 has 8 fields"]),
        (edit(3, "AA", '"A\nA"').replace(ROWS[2], ROWS[2] + ","), ["line 5 has 8 fields"]),
        (PLAIN[:-1], ["line 4, the last", "line break"]),
        (PLAIN[:-8], ["line 4, the last"]),
        (PLAIN[:-15], ["line 4, the last"]),
        (edit(4, "NA", '"N'), ["line 4", "not closed"]),
        (edit(4, "NA", '"N A" B'), ["line 4", "quote inside a field"]),
        (edit(3, "AA", 'A "B" C'), ["line 3", "quote inside a field"]),
        (edit(3, "AA", "A\0A"), ["line 3", "NUL"]),
        (PLAIN + "\0" * 64, ["line 5", "NUL"]),
        (edit(3, "AA", "Nestl\u00e9").encode("latin-1"), ["line 3", "UTF-8", "0xe9"]),
        (PLAIN.encode("utf-16"), ["line 1", "UTF-8"]),
        (PLAIN.encode("utf-16-le"), ["line 1", "NUL"]),
        (PLAIN.replace(HEAD, HEAD.replace("open", "close")), ["'close' is there 2 times"]),
        (PLAIN.replace(HEAD, HEAD.replace("open", "Close ")), ["'close' is there 2 times", "'Close '"]),
        (PLAIN.replace(HEAD, HEAD.replace("date", "day")), ["'date' is missing", "day, symbol"]),
        ("", ["is empty"]),
        (" \n\n", ["is empty"]),
        (HEAD + "\n", ["no rows"]),
        (edit(3, "1.25", "1.250,0").replace(",", ";").replace(";0;", ",0;"), ["'close'", "1.250,0", "2016-01-05"]),
        (edit(3, "2016-01-05", "05/01/2016"), ["'date'", "05/01/2016", "such as 2016-10-18"]),
        (edit(3, "2016-01-05", "1600-01-05"), ["'date' is before 1800", "1600-01-05", "symbol AA"]),
        (edit(3, "2016-01-05", "0001-01-01"), ["'date' is before 1800", "0001-01-01"]),
        (edit(3, "2016-01-05", "9999-12-31"), ["'date' lies in the future", "9999-12-31"]),
    ],
)
def test_what_is_damaged_is_refused_where_it_is(tmp_path: Path, content: str | bytes, words: list[str]) -> None:
    message = refused(tmp_path, content)
    for word in words:
        assert word in message


@settings(max_examples=60, deadline=None)
@given(st.integers(1, len(PLAIN.encode()) - 1))
def test_no_cut_of_a_file_gives_other_values(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    folder = tmp_path_factory.mktemp("cut")
    cut = PLAIN.encode()[:length]
    if cut.endswith(b"\n") and cut.count(b"\n") > 1:  # whole lines: nothing says that there were more
        assert len(prices(folder, cut)) == cut.count(b"\n") - 1
    else:
        refused(folder, cut)


def posts(folder: Path, **columns: object) -> pd.DataFrame:
    stored = pa.table(
        {
            "symbol": ["AA", "AA"], "created_at": ["2016-01-05T12:00:00Z", "2016-01-05T13:00:00Z"], "user_hash": [1, 2],
            "followers": [1, 2], "is_retweet": [True, False], "lang": ["en", None], "text": [" up ", "down"],
        }
        | columns
    )  # fmt: skip
    if not (folder / "prices.csv").exists():
        (folder / "prices.csv").write_text(PLAIN)
    pq.write_table(stored, folder / "posts.parquet")
    return open_source("files", folder, {}).read("posts")


LARGE = 2**53 + 1


def test_large_ids_keep_every_digit(tmp_path: Path) -> None:
    for ids in ([LARGE, -LARGE], pa.array([LARGE, -LARGE]), [Decimal(LARGE), Decimal(-LARGE)]):
        assert posts(tmp_path, user_hash=ids)["user_hash"].tolist() == [LARGE, -LARGE]
    (tmp_path / "posts.parquet").unlink()
    line = "AA,2016-01-05T12:00:00Z,{},1.0,TRUE,,up\n"
    file, head = tmp_path / "posts.csv", "symbol,created_at,user_hash,followers,is_retweet,lang,text\n"
    file.write_text(head + line.format(LARGE) + line.format(-LARGE))
    source = open_source("files", tmp_path, {})
    read = source.read("posts")
    assert sorted(read["user_hash"]) == [-LARGE, LARGE]
    assert read["is_retweet"].all()
    file.write_text(head + line.format(LARGE) + line.format(""))
    with pytest.raises(DataError, match=r"'user_hash' holds .*NA.* at symbol AA"):
        source.read("posts")


@pytest.mark.parametrize("ids", [[float(2**60), 1.0], [None, LARGE], pa.array([2**64 - 1, 1], pa.uint64()), [1.5, 2.0]])
def test_ids_that_lost_digits_are_refused(tmp_path: Path, ids: object) -> None:
    with pytest.raises(DataError, match=r"'user_hash'.*whole number that 64 bits hold"):
        posts(tmp_path, user_hash=ids)


def test_text_keeps_its_blanks_and_labels_do_not(tmp_path: Path) -> None:
    read = posts(tmp_path, symbol=[" AA", "A\u0301A "], lang=["en ", None])
    assert read["symbol"].tolist() == ["AA", "\u00c1A"]
    assert read["text"].tolist() == [" up ", "down"]
    assert read["lang"].iloc[0] == "en"


DAYS = [datetime.date(2016, 1, 4), datetime.date(2016, 1, 5)]
VALUES = [1.1, 57.23]


def numbers(kind: pa.DataType) -> pa.Array:
    return pa.array([Decimal(str(value)) for value in VALUES]).cast(kind)


def moments(unit: str, zone: str | None = None) -> pa.Array:
    naive = pa.array(DAYS).cast(pa.timestamp(unit))
    return pc.assume_timezone(naive, zone) if zone else naive


@pytest.mark.parametrize(
    "columns",
    [
        {"close": numbers(pa.decimal128(18, 4))},
        {"close": numbers(pa.decimal128(38, 20))},
        {"close": numbers(pa.decimal256(60, 30))},
        {"close": pa.array(VALUES).dictionary_encode()},
        {"symbol": pa.array(["AA", "AA"], pa.large_string())},
        {"symbol": pa.array(["AA", "AA"], pa.string_view())},
        {"symbol": pa.array(["AA", "AA"]).dictionary_encode()},
        {"symbol": pa.array([b"AA", b"AA"], pa.binary())},
        {"symbol": pa.array([b"AA", b"AA"], pa.binary(2))},
        {"date": pa.array(DAYS, pa.date32())},
        {"date": pa.array(DAYS, pa.date64())},
        {"date": pa.array([str(day) for day in DAYS])},
        *({"date": moments(unit)} for unit in ("s", "ms", "us", "ns")),
        *({"date": moments("us", zone)} for zone in ("UTC", "Asia/Tokyo", "Europe/Berlin", "America/New_York")),
        *({"volume": pa.array([1, 2], kind)} for kind in (pa.int8(), pa.int64(), pa.uint64(), pa.float32())),
        {"volume": pa.array(np.array([1, 2], np.float16))},
        {"volume": pa.array([1, 2]).cast(pa.decimal128(20, 0))},
    ],
    ids=lambda columns: "-".join(f"{name} {values.type}" for name, values in columns.items()),
)
def test_types_of_parquet_are_the_same_values(tmp_path: Path, columns: dict[str, pa.Array]) -> None:
    plain = {"date": pa.array(DAYS), "symbol": ["AA"] * 2, "volume": [1.0, 2.0], "close": VALUES}
    plain |= {name: [1.0, 2.0] for name in ("open", "high", "low")}
    whole = {}
    for name, stored in (("plain", plain), ("other", plain | columns)):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table(stored), tmp_path / name / "prices.parquet")
        source = open_source("files", tmp_path / name, {})
        whole[name] = source.read("prices")
        # as the daily job reads it
        pd.testing.assert_frame_equal(source.read("prices", DAYS[1], DAYS[1]), whole[name][1:].reset_index(drop=True))
        assert source.last_day() == np.datetime64(DAYS[1])
    pd.testing.assert_frame_equal(whole["other"], whole["plain"], check_exact=True)


def test_flags_may_be_numbers_and_columns_without_values_have_no_type(tmp_path: Path) -> None:
    flags = [pa.array([1, 0], pa.int8()), [1.0, 0.0], [Decimal(1), Decimal(0)], pa.array([1, 0], pa.uint64())]
    for flag in flags:
        assert posts(tmp_path, is_retweet=flag)["is_retweet"].tolist() == [True, False]
    assert posts(tmp_path, lang=pa.nulls(2))["lang"].isna().all()
    for name in ("user_hash", "is_retweet", "created_at", "symbol"):
        with pytest.raises(DataError, match=name):
            posts(tmp_path, **{name: pa.nulls(2)})


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("signal", pa.array([[1.0], [2.0]]), "type list<.*must be a number"),
        ("signal", pa.array([{"a": 1}, {"a": 2}]), "type struct<.*must be a number"),
        ("signal", pa.array([1, 2], pa.duration("s")), r"type duration\[s\].*must be a number"),
        ("signal", ["1", "2"], "holds '1'.*not text"),
        ("signal", [1.0, np.inf], "holds inf.*2016-01-05, symbol AA: it must be a finite number"),
        ("symbol", pa.array([b"\xe9A", b"AA"]), "not UTF-8"),
        ("symbol", pa.array([b"\xe9A", b"AA"]).view(pa.string()), "not UTF-8"),
        ("symbol", [7203, 7203], "holds 7203.*must be text"),
        ("date", pa.array([1, 2]).cast(pa.decimal128(20, 0)), "type decimal128.*must be a date"),
        ("date", [20160104, 20160105], "holds 20160104.*must be a date"),
        ("date", pa.array([2**31 - 1, 1], pa.date32()), "lies in the future.*9999-12-31"),
        ("date", pa.array([-(2**31), 1], pa.date32()), "before 1800.*0001-01-01"),
        ("date", pa.array([2**53, 0], pa.timestamp("ms")), "lies in the future"),
        ("date", pa.array([2**63 - 1, 0], pa.timestamp("us", "UTC")), "lies in the future"),
        ("date", pa.array([-(2**63) + 1, 54 * 10**9], pa.timestamp("us", "Asia/Tokyo")), "before 1800"),
        ("date", moments("us", "Europe/Berlin").cast(pa.timestamp("us", "UTC")), "without a time of day"),
        ("date", pa.array([1, 0], pa.timestamp("s")), "without a time of day"),
    ],
)
def test_what_parquet_says_is_refused_truly(tmp_path: Path, column: str, values: object, words: str) -> None:
    plain = {"date": DAYS, "symbol": ["AA", "AA"], "signal": [1.0, 2.0]}
    pq.write_table(pa.table(plain | {column: values}), tmp_path / "mine.parquet")
    with pytest.raises(DataError, match=words) as caught:
        signals(tmp_path / "mine.parquet")
    assert column in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(-(10**17), 10**17)), min_size=1), st.integers(0, 18))
def test_decimals_are_the_nearest_float(unscaled: list[int | None], scale: int) -> None:
    from sources.reading.columnar import _from_decimals

    exact = [None if one is None else Decimal(one).scaleb(-scale) for one in unscaled]
    column = pa.chunked_array([pa.array([None, *exact], pa.decimal128(18, scale))[1:]])
    want = [None if one is None else float(one) for one in exact]
    assert _from_decimals(column, "number").to_pylist() == want


def test_a_column_twice_in_parquet(tmp_path: Path) -> None:
    for names in (["date", "symbol", "signal", "signal"], ["date", "symbol", "signal", "Signal "]):
        arrays = [pa.array(DAYS), pa.array(["AA", "AA"]), pa.array([1.0, 2.0]), pa.array([3.0, 4.0])]
        pq.write_table(pa.Table.from_arrays(arrays, names=names), tmp_path / "mine.parquet")
        with pytest.raises(DataError, match=r"mine\.parquet: column 'signal' is there 2 times"):
            signals(tmp_path / "mine.parquet")


@pytest.mark.parametrize("parts", [["year"], ["symbol"], ["date"], ["year", "symbol"]])
def test_a_partitioned_folder_is_one_table(tmp_path: Path, parts: list[str]) -> None:
    rows = [(day, symbol, 1.5) for day in pd.to_datetime([*DAYS, "2017-01-03"]) for symbol in ("NA", "TRUE", "7203")]
    frame = pd.DataFrame(rows, columns=["date", "symbol", "open"])
    frame = frame.assign(high=2.0, low=1.0, close=frame["open"], volume=5.0, date=frame["date"].dt.as_unit("us"))
    plain, folder = tmp_path / "plain", tmp_path / "parts"
    plain.mkdir()
    frame.to_parquet(plain / "prices.parquet")
    stored = pa.Table.from_pandas(frame.assign(year=frame["date"].dt.year))
    if parts == ["date"]:
        stored = stored.set_column(0, "date", pa.array(frame["date"].dt.strftime("%Y-%m-%d")))
    pq.write_to_dataset(stored, folder / "prices.parquet", partition_cols=parts)
    (folder / "prices.parquet" / "_SUCCESS").touch()
    source = open_source("files", folder, {})
    for window in ((), (DAYS[1], DAYS[1])):
        want = open_source("files", plain, {}).read("prices", *window)
        pd.testing.assert_frame_equal(source.read("prices", *window), want, check_like=True)
    assert source.last_day() == np.datetime64("2017-01-03")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "prices.parquet"
    (folder / "_delta_log").mkdir(parents=True)
    source = open_source("files", tmp_path, {})
    with pytest.raises(DataError, match="Delta table"):
        source.read("prices")
    (folder / "_delta_log").rmdir()
    with pytest.raises(DataError, match="no Parquet file"):
        source.read("prices")
    (folder / "a.orc").touch()
    with pytest.raises(DataError, match=r"a\.orc, which is not named \.parquet"):
        source.last_day()


@pytest.mark.parametrize("name", ["prices.CSV", "Prices.parquet", "prices.xlsx", "prices.csv.zip", "posts.tsv"])
def test_a_table_of_another_format_is_not_passed_over(tmp_path: Path, name: str) -> None:
    if not name.lower().startswith("prices."):
        (tmp_path / "prices.csv").write_text(PLAIN)
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=f"{name} is not read: table"):
        open_source("files", tmp_path, {})
