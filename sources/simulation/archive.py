"""A simulated market written to a folder month by month: any size in bounded memory.

The folder has the tables of a folder of files, so that a run can be pointed at it, and beside them the truth, under
names that no stage reads.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from core.files import atomic_directory, write_json, write_parquet
from sources.simulation.params import SimulationParams
from sources.simulation.tape import price_table
from sources.simulation.truth import market_truth, symbol_truth
from sources.simulation.world import Evolution, alive, begin

TRUTH, MARKET_TRUTH, CHOICE = "truth.parquet", "truth_market.parquet", "world.json"
_AS_TRADED = "as_traded.parquet"


class _Writer:
    """A Parquet file written frame by frame, a row group each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: pq.ParquetWriter | None = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()

    def write(self, frame: pd.DataFrame) -> None:
        """Append rows; where there never are any, there is no file."""
        if frame.empty:
            return
        table = pa.table({name: _column(frame[name]) for name in frame})
        if self._open is None:
            self._open = pq.ParquetWriter(self._path, table.schema, compression="zstd", compression_level=3)
        self._open.write_table(table.cast(self._open.schema))


def _column(values: pd.Series) -> pa.Array:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return pa.array(values.dt.tz_convert(None).to_numpy("datetime64[us]")).cast(pa.timestamp("us", "UTC"))
    return pa.Array.from_pandas(values)


def write_world(
    params: SimulationParams, folder: Path, tick: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Simulate into a folder that is either whole or not there.

    Parameters
    ----------
    folder
        Replaced when the market is complete.
    tick
        Called after each month with the sessions done and their number.

    Raises
    ------
    StorageError
        The disk refused; what was in the folder is untouched.
    """
    evolution = begin(params)
    with atomic_directory(folder) as temporary:
        _stream(evolution, temporary, tick)
        _adjust(temporary, evolution)
        for name, frame in evolution.small_tables().items():
            known = evolution.known(name, frame)
            if len(known):
                write_parquet(temporary / f"{name}.parquet", known)
        write_json(temporary / CHOICE, params.model_dump(mode="json"))


def _stream(evolution: Evolution, folder: Path, tick: Callable[[int, int], None]) -> None:
    firms, dates, count = evolution.firms, evolution.dates, evolution.last + 1
    listed = alive(firms, len(dates))
    with ExitStack() as stack:
        names = (_AS_TRADED, "posts.parquet", TRUTH, MARKET_TRUTH)
        prices, posts, truth, market = (stack.enter_context(_Writer(folder / name)) for name in names)
        for block, printed in evolution.blocks():
            rows = slice(0, max(count - block.first, 0))
            days = dates[block.first : block.first + len(block.close)][rows]
            if not len(days):
                continue
            prices.write(printed[printed["session"] < count])
            posts.write(evolution.known("posts", block.posts))
            parts = {name: evolution.scale[name] * block.expected[name][rows] for name in evolution.planted}
            here = listed[block.first : block.first + len(days)]
            truth.write(symbol_truth(days, firms.symbols, here, parts, block.crowd[rows], block.regime[rows]))
            state = (block.regime[rows], block.panic[rows], block.populations[rows])
            market.write(market_truth(days, block.market[rows], block.market_vol[rows], *state))
            tick(min(block.first + len(block.close), count), count)


def _adjust(folder: Path, evolution: Evolution) -> None:
    """Write `prices` on the last session's split basis, which is known only now."""
    with pq.ParquetFile(folder / _AS_TRADED) as traded, _Writer(folder / "prices.parquet") as prices:
        for group in range(traded.num_row_groups):
            prices.write(price_table(traded.read_row_group(group).to_pandas(), evolution.final))
    (folder / _AS_TRADED).unlink()
