"""Alpha158 of Qlib, with its names: ratios of prices and volumes of one session and of five windows.

The values come from one pass over the panel (`features.kernels.alpha158`, which lists where definitions depart from
Qlib's). A window that crosses an unresolved jump of the price level has no values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.params import Params
from features.kernels import alpha158 as kernel
from features.memo import remembered
from features.panel import Array, Panel
from features.registry import Family

REFERENCE = "Yang et al. (2020), Qlib: An AI-oriented quantitative investment platform; Alpha158"

SINGLE = {
    "KMID": "Body of the candle over the open",
    "KLEN": "Length of the candle over the open",
    "KMID2": "Body of the candle over its length",
    "KUP": "Upper shadow over the open",
    "KUP2": "Upper shadow over the candle's length",
    "KLOW": "Lower shadow over the open",
    "KLOW2": "Lower shadow over the candle's length",
    "KSFT": "Twice the close less high and low, over the open",
    "KSFT2": "Twice the close less high and low, over the candle's length",
    "OPEN0": "Open over the close",
    "HIGH0": "High over the close",
    "LOW0": "Low over the close",
    "VWAP0": "Volume-weighted average price over the close",
}
"""What each feature of one session is."""

CLOSE, RANGE, BOTH = ("close",), ("high", "low", "close"), ("close", "volume")

ROLLING: dict[str, tuple[tuple[str, ...], str, str]] = {
    "ROC": (CLOSE, "fraction", "Close of `window` sessions ago over the close"),
    "MA": (CLOSE, "fraction", "Mean close over the close"),
    "STD": (CLOSE, "fraction", "Standard deviation of the close over the close"),
    "BETA": (CLOSE, "fraction a session", "Slope of the close in time, over the close"),
    "RSQR": (CLOSE, "0 to 1", "Share of the close's variance that a line in time explains"),
    "RESI": (CLOSE, "fraction", "Close less the line in time through the window, over the close"),
    "MAX": (("high", "close"), "fraction", "Highest high over the close"),
    "MIN": (("low", "close"), "fraction", "Lowest low over the close"),
    "QTLU": (CLOSE, "fraction", "Quantile 0.8 of the close over the close"),
    "QTLD": (CLOSE, "fraction", "Quantile 0.2 of the close over the close"),
    "RANK": (CLOSE, "0 to 1", "Rank of the close in the window"),
    "RSV": (RANGE, "fraction", "Place of the close between lowest low and highest high"),
    "IMAX": (
        ("high", "close"),
        "0 to 1",
        "Session of the highest high, counted from the window's first, over `window`",
    ),
    "IMIN": (("low", "close"), "0 to 1", "Session of the lowest low, counted from the window's first, over `window`"),
    "IMXD": (RANGE, "-1 to 1", "Sessions from the lowest low to the highest high, over `window`"),
    "CORR": (BOTH, "-1 to 1", "Correlation of the close with the log of volume"),
    "CORD": (BOTH, "-1 to 1", "Correlation of the close's change with the log of the volume's"),
    "CNTP": (CLOSE, "0 to 1", "Share of sessions that rose"),
    "CNTN": (CLOSE, "0 to 1", "Share of sessions that fell"),
    "CNTD": (CLOSE, "-1 to 1", "Share of sessions that rose less that of those that fell"),
    "SUMP": (CLOSE, "0 to 1", "Rises as a share of all moves"),
    "SUMN": (CLOSE, "0 to 1", "Falls as a share of all moves"),
    "SUMD": (CLOSE, "-1 to 1", "Rises less falls, as a share of all moves"),
    "VMA": (BOTH, "1", "Mean volume over the volume"),
    "VSTD": (BOTH, "1", "Standard deviation of volume over the volume"),
    "WVMA": (BOTH, "1", "Variability of absolute returns weighted with volume: deviation over mean"),
    "VSUMP": (BOTH, "0 to 1", "Rises of volume as a share of its moves"),
    "VSUMN": (BOTH, "0 to 1", "Falls of volume as a share of its moves"),
    "VSUMD": (BOTH, "-1 to 1", "Rises less falls of volume, as a share of its moves"),
}
"""Inputs, unit and meaning of each feature of a window."""


class Alpha158Params(Params):
    """Parameters of the family."""

    windows: list[Annotated[int, Field(ge=2, le=252)]] = Field([5, 10, 20, 30, 60], min_length=1)
    """Sessions of the windows."""


alpha158 = Family("alpha158", Alpha158Params)


@remembered
def values(panel: Panel, windows: tuple[int, ...]) -> NDArray[np.float32]:
    """The set, `(F, T, N)`, in the order of `kernel.names(windows)`; NaN where a window crosses a level break."""
    out = kernel.alpha158({name: panel[name] for name in kernel.FIELDS if name in panel.fields}, windows)
    if "level_break" in panel.fields:
        for row, symbol in np.argwhere(panel["level_break"] > 0):
            for at, window in enumerate(windows):
                first = len(kernel.CANDLE) + at * len(kernel.ROLLING)
                out[first : first + len(kernel.ROLLING), row : row + window, symbol] = np.nan
    return out


def _declare(name: str, inputs: tuple[str, ...], units: str, text: str, over: str | None) -> None:
    template = name + ("{window}" if over else "")

    def compute(panel: Panel, params: Alpha158Params, window: int = 0) -> Array:
        windows = tuple(params.windows)
        return values(panel, windows)[kernel.names(windows).index(template.format(window=window))]

    compute.__doc__ = text + "."
    lookback: int | Callable[[int], int] = (lambda window: window + 1) if over else 1
    alpha158.feature(template, over=over, lookback=lookback, inputs=inputs, units=units, reference=REFERENCE)(compute)


for _name, _text in SINGLE.items():
    _declare(_name, ("vwap", "close") if _name == "VWAP0" else ("open", *RANGE), "fraction", _text, None)
for _name, (_inputs, _units, _text) in ROLLING.items():
    _declare(_name, _inputs, _units, _text, "windows")
