"""What the exchange prints: open, high, low, volume, splits, cents, and the faults of a vendor's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sources.simulation.firms import Array, Firms
from sources.simulation.paths import Paths, Shocks
from sources.simulation.reports import Dates
from sources.simulation.streams import stream

SPLIT_ABOVE = 110.0
"""USD: a price above which a board thinks of a split."""

FAULTS = ("missing", "gap", "spike", "zero_open", "crossed", "zero_volume")


@dataclass(frozen=True)
class Tape:
    """Prices as traded, `(T, N)`: USD in whole cents, shares; `split` is the cumulative split factor so far."""

    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array
    split: Array


def print_tape(firms: Firms, paths: Paths, shocks: Shocks, seed: int) -> Tape:
    """Turn continuous prices into what is traded: every bar holds its open and close."""
    sessions = len(paths.close)
    shape = paths.close.shape
    split = _splits(paths.close, seed)
    before = np.vstack([firms.price, paths.close[:-1]])
    move = paths.close / before
    vol = shocks.vol[:sessions]
    overnight = stream(seed, "overnight").standard_normal(shape)
    reach = np.abs(stream(seed, "range").standard_normal((*shape, 2)))
    opening = before * np.clip(move**0.4 * np.exp(0.35 * vol * overnight), 0.5, 2.0)
    high = np.maximum(opening, paths.close) * np.exp(0.45 * vol * reach[..., 0])
    low = np.minimum(opening, paths.close) * np.exp(-0.45 * vol * reach[..., 1])
    volume = paths.shares * firms.turnover * shocks.volume[:sessions]

    def cents(values: Array) -> Array:
        return np.maximum(np.round(values / split, 2), 0.01)

    return Tape(cents(opening), cents(high), cents(low), cents(paths.close), np.round(volume * split), split)


def _splits(close: Array, seed: int) -> Array:
    """Cumulative factor: dear shares are split, mostly two for one, on a day nobody can foresee."""
    draw = stream(seed, "split").random(close.shape)
    ratio = np.where(stream(seed, "split ratio").random(close.shape) < 0.85, 2.0, 3.0)
    out = np.ones_like(close)
    for t in range(1, len(close)):
        due = (close[t - 1] / out[t - 1] > SPLIT_ABOVE) & (draw[t] < 0.006)
        out[t] = np.where(due, out[t - 1] * ratio[t], out[t - 1])
    return out


def price_table(
    firms: Firms, tape: Tape, dates: Dates, last: int, seed: int, rates: Mapping[str, float]
) -> pd.DataFrame:
    """The `prices` table of sessions up to `last`: split-adjusted to it, with the vendor's faults.

    Parameters
    ----------
    rates
        Probability per row of each of `FAULTS`.
    """
    stop = last + 1
    values = {name: getattr(tape, name)[:stop].copy() for name in ("open", "high", "low", "close", "volume")}
    present = _present(firms, len(tape.close), seed, rates)[:stop]
    _spoil(values, seed, rates)
    to_end = tape.split[last] / tape.split[:stop]
    session, firm = np.nonzero(present)
    at = (session, firm)
    frame = {"date": dates[session], "symbol": firms.symbols[firm]}
    for name in ("open", "high", "low", "close"):
        frame[name] = values[name][at] / to_end[at]
    frame["volume"] = np.round(values["volume"][at] * to_end[at])
    frame["close_unadjusted"] = values["close"][at]
    return pd.DataFrame(frame)


def _hit(name: str, shape: tuple[int, int], seed: int, rate: float) -> NDArray[np.bool_]:
    return stream(seed, f"fault {name}").random(shape) < rate


def _present(firms: Firms, sessions: int, seed: int, rates: Mapping[str, float]) -> NDArray[np.bool_]:
    """Rows that reach the file: listed, and neither a lost day nor inside a gap of two to six weeks."""
    shape = (sessions, len(firms.symbols))
    present = np.arange(sessions)[:, None] >= firms.listed[None, :]
    present &= ~_hit("missing", shape, seed, rates["missing"])
    length = stream(seed, "gap length").integers(10, 31, shape)
    for t, k in zip(*np.nonzero(_hit("gap", shape, seed, rates["gap"])), strict=True):
        present[t : t + length[t, k], k] = False
    return present


def _spoil(values: Mapping[str, Array], seed: int, rates: Mapping[str, float]) -> None:
    """Write the faults into the arrays: one-day spikes that revert, zero opens and volumes, high below low."""
    shape = values["close"].shape
    hit = {name: _hit(name, shape, seed, rates[name]) for name in FAULTS}
    factor = np.array([0.1, 0.45, 1.9, 10.0])[stream(seed, "spike size").integers(0, 4, shape)]
    spike = hit["spike"]
    values["close"][spike] = np.maximum(np.round(values["close"] * factor, 2), 0.01)[spike]
    values["open"][hit["zero_open"]] = 0.0
    values["volume"][hit["zero_volume"]] = 0.0
    crossed = hit["crossed"]
    values["high"][crossed], values["low"][crossed] = values["low"][crossed], values["high"][crossed]
