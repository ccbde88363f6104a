"""Feature values at rest: what is written is what is read, whole or not at all."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from core.errors import DataError
from features import store
from features.store import read_values, write_values


@pytest.fixture
def values(panel) -> dict[str, np.ndarray]:
    return {name: panel[name].astype(np.float32) for name in ("close", "volume")}


def test_rows_of_the_universe_by_date_then_symbol(panel, values, tmp_path):
    write_values(tmp_path / "out", values, panel.dates, panel.symbols, panel.universe)
    session, symbol = panel.rows()
    table = read_values(tmp_path / "out")
    assert table.column_names == ["date", "symbol", "close", "volume"]
    assert (table["date"].to_numpy().astype("datetime64[D]") == panel.dates[session]).all()
    assert table["symbol"].to_pylist() == panel.symbols[symbol].tolist()
    for name, array in values.items():
        assert table[name].to_numpy().tobytes() == array[session, symbol].tobytes()
    years = sorted(int(folder.name.removeprefix("year=")) for folder in (tmp_path / "out").iterdir())
    assert years == np.unique(panel.dates[session].astype("datetime64[Y]").astype(int) + 1970).tolist()


def test_columns_may_be_chosen_and_every_row_kept(panel, values, tmp_path):
    write_values(tmp_path / "out", values, panel.dates, panel.symbols, np.ones(panel.shape, dtype=bool))
    table = read_values(tmp_path / "out", ["volume"])
    assert table.column_names == ["volume"]
    assert table["volume"].to_numpy().tobytes() == values["volume"].tobytes()


def test_the_same_values_give_the_same_bytes(panel, values, tmp_path, monkeypatch):
    for number, count in enumerate((1, 2)):
        monkeypatch.setattr(store, "threads", lambda count=count: count)
        write_values(tmp_path / str(number), values, panel.dates, panel.symbols, panel.universe)
    files = [sorted((tmp_path / str(number)).rglob("*.parquet")) for number in range(2)]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]


def test_a_failing_write_leaves_what_was_there(panel, values, tmp_path, monkeypatch):
    write_values(tmp_path / "out", values, panel.dates, panel.symbols, panel.universe)
    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*.parquet")}
    write_table, calls = pq.write_table, []

    def fail(*arguments, **options):
        calls.append(arguments)
        if len(calls) > 1:
            raise OSError(28, "no space left on device")
        write_table(*arguments, **options)

    monkeypatch.setattr(store.pq, "write_table", fail)
    with pytest.raises(Exception, match="the disk is full"):
        write_values(tmp_path / "out", {"close": values["volume"]}, panel.dates, panel.symbols, panel.universe)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.parquet")} == before


def test_nothing_there_and_a_broken_file_are_named(panel, values, tmp_path):
    with pytest.raises(DataError, match="holds no feature values"):
        read_values(tmp_path / "none")
    write_values(tmp_path / "out", values, panel.dates, panel.symbols, panel.universe)
    file = next((tmp_path / "out").rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match="not readable Parquet"):
        read_values(tmp_path / "out")
