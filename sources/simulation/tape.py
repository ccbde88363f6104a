"""What the exchange prints: open, high, low, volume, splits, cents, and the faults of a vendor's file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sources.simulation.firms import Array, Firms
from sources.simulation.reports import Dates
from sources.simulation.streams import Streams

if TYPE_CHECKING:
    from sources.simulation.exchange import Block

SPLIT_ABOVE = 110.0
"""USD: a price above which a board thinks of a split."""

FAULTS = ("missing", "gap", "halt", "spike", "zero_open", "crossed", "zero_volume")
_BAR = ("open", "high", "low", "close")


class Tape:
    """Prints one block after another.

    Attributes
    ----------
    splits
        `(B, N)` cumulative split factor in the sessions of the last block.

    Parameters
    ----------
    rates
        Probability per row of each of `FAULTS`.
    """

    def __init__(self, firms: Firms, seed: int, rates: Mapping[str, float]) -> None:
        count = len(firms.symbols)
        self.splits = np.ones((1, count))
        self._firms, self._streams, self._rates = firms, Streams(seed), rates
        self._lost_until = np.zeros(count, dtype=np.int64)

    def print(self, block: Block, dates: Dates) -> pd.DataFrame:
        """Rows of a block as traded: USD in whole cents, shares, with the vendor's faults.

        Returns
        -------
        DataFrame
            `session` and `firm` (indices), `date`, `symbol`, `open`, `high`, `low`, `close`, `volume`, and `split`,
            the cumulative split factor of the day.
        """
        shape, draw = block.close.shape, self._streams
        self.splits = split = self._split(block)
        before = np.vstack([block.before, block.close[:-1]])
        overnight = draw["overnight"].standard_normal(shape)
        reach = np.abs(draw["range"].standard_normal((*shape, 2)))
        opening = before * np.clip((block.close / before) ** 0.4 * np.exp(0.35 * block.vol * overnight), 0.5, 2.0)
        high = np.maximum(opening, block.close) * np.exp(0.45 * block.vol * reach[..., 0])
        low = np.minimum(opening, block.close) * np.exp(-0.45 * block.vol * reach[..., 1])
        values = dict(zip(_BAR, map(_cents, (opening, high, low, block.close), [split] * 4), strict=True))
        volume = block.shares * self._firms.turnover * block.volume
        values["volume"] = np.round(volume * split)

        hit = {name: draw[f"fault {name}"].random(shape) < self._rates[name] for name in FAULTS}
        for name in _BAR:
            values[name] = np.where(hit["halt"], _cents(before, split), values[name])
        values["volume"][hit["halt"]] = 0.0
        self._spoil(values, hit)
        present = self._present(block, hit)
        session, firm = np.nonzero(present)
        at = (session, firm)
        return pd.DataFrame(
            {
                "session": (session + block.first).astype(np.int32), "firm": firm.astype(np.int32),
                "date": dates[session + block.first], "symbol": self._firms.symbols[firm],
                **{name: values[name][at] for name in (*_BAR, "volume")}, "split": split[at],
            }
        )  # fmt: skip

    def _split(self, block: Block) -> Array:
        """Cumulative factor: dear shares are split, mostly two for one, on a day nobody can foresee."""
        draw = self._streams["split"].random(block.close.shape)
        ratio = np.where(self._streams["split ratio"].random(block.close.shape) < 0.85, 2.0, 3.0)
        out = np.empty_like(block.close)
        before, split = block.before, self.splits[-1]
        for row, close in enumerate(block.close):
            due = (before / split > SPLIT_ABOVE) & (draw[row] < 0.006)
            split = np.where(due, split * ratio[row], split)
            out[row], before = split, close
        return out

    def _present(self, block: Block, hit: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """Rows that reach the file: listed, and neither a lost day nor inside a gap of two to six weeks."""
        shape = block.close.shape
        length = self._streams["gap length"].integers(10, 31, shape)
        out = ~hit["missing"]
        for row in range(shape[0]):
            at = block.first + row
            begins = hit["gap"][row]
            self._lost_until[begins] = np.maximum(self._lost_until, at + length[row])[begins]
            out[row] &= (self._firms.listed <= at) & (at <= self._firms.delisted) & (self._lost_until <= at)
        return out

    def _spoil(self, values: Mapping[str, Array], hit: Mapping[str, NDArray[np.bool_]]) -> None:
        """Write the faults into the arrays: one-day spikes that revert, zero opens and volumes, high below low."""
        sizes = np.array([0.1, 0.45, 1.9, 10.0])
        factor = sizes[self._streams["spike size"].integers(0, 4, values["close"].shape)]
        spike = hit["spike"]
        values["close"][spike] = np.maximum(np.round(values["close"] * factor, 2), 0.01)[spike]
        values["open"][hit["zero_open"]] = 0.0
        values["volume"][hit["zero_volume"]] = 0.0
        crossed = hit["crossed"]
        values["high"][crossed], values["low"][crossed] = values["low"][crossed], values["high"][crossed]


def _cents(values: Array, split: Array) -> Array:
    return np.maximum(np.round(values / split, 2), 0.01)


def price_table(printed: pd.DataFrame, final: Array) -> pd.DataFrame:
    """The `prices` table, from rows as traded, split-adjusted to the sample's last session.

    Parameters
    ----------
    final
        `(N,)` cumulative split factor of that session.
    """
    to_end = final[printed["firm"]] / printed["split"].to_numpy()
    frame = printed[["date", "symbol"]].copy()
    for name in _BAR:
        frame[name] = printed[name].to_numpy() / to_end
    frame["volume"] = np.round(printed["volume"].to_numpy() * to_end)
    frame["close_unadjusted"] = printed["close"].to_numpy()
    return frame
