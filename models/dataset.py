"""The design matrix: one row a (session, symbol) in the universe, with its outcome where it is known.

Rows are sorted by session, then symbol, so a span of sessions is a contiguous slice and costs no copy.
Sessions are indices into `dates` and keep their meaning in every slice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import DataError

Rows = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Features and outcomes of the rows of a panel's universe.

    Attributes
    ----------
    dates : (T,) datetime64[D]
        Every session of the panel, ascending.
    symbols : (N,) str
        Every symbol of the panel, ascending.
    features : tuple of str
        Names of the columns of `X`.
    session, symbol : (R,) int32
        Indices into `dates` and `symbols`; rows are sorted by (session, symbol), without repeats.
    X : (R, F) float32
        Feature values as computed, NaN where undefined.
    label : (R,) float32
        What the layers learn: the Gauss rank of the residual forward return; NaN where not known.
    forward, raw : (R,) float32
        Residual and plain forward return as fractions; NaN where not known.
    sector : (N,) int
        Sector code of each symbol; -1 where unknown.
    horizon
        Sessions that the position behind `label` is held.
    labels : dict of (R,) float32
        The label at every horizon that layers may learn from, `label` among them.
    market : (T,) float64
        Equal-weight return of the universe in each session, a fraction; NaN where not known.
    signs : tuple of int
        Sign that the literature expects of each feature's relation to the label; 0 where none.
    """

    dates: NDArray[np.datetime64]
    symbols: NDArray[np.str_]
    features: tuple[str, ...]
    session: NDArray[np.int32]
    symbol: NDArray[np.int32]
    X: Rows
    label: Rows
    forward: Rows
    raw: Rows
    sector: NDArray[np.int64]
    horizon: int
    labels: Mapping[int, Rows]
    market: NDArray[np.float64]
    signs: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.session)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(R,) whether a row's outcome is known."""
        return np.isfinite(self.label)

    def rows(self, first: int, last: int) -> slice:
        """Slice of the rows of sessions `first..last`, both included."""
        start, stop = np.searchsorted(self.session, [first, last + 1])
        return slice(int(start), int(stop))

    def take(self, rows: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Dataset:
        """The given rows: views for a slice, copies for a mask or indices (ascending)."""
        return replace(
            self,
            session=self.session[rows],
            symbol=self.symbol[rows],
            X=self.X[rows],
            label=self.label[rows],
            forward=self.forward[rows],
            raw=self.raw[rows],
            labels={horizon: label[rows] for horizon, label in self.labels.items()},
        )

    def between(self, first: int, last: int) -> Dataset:
        """Rows of sessions `first..last`, both included, as views."""
        return self.take(self.rows(first, last))

    def since(self, first: int) -> Dataset:
        """Rows of sessions from `first` on, as views (itself where that is all)."""
        start = int(np.searchsorted(self.session, first))
        return self if start == 0 else self.take(slice(start, len(self)))

    def every(self, step: int) -> Dataset:
        """Whole sessions whose index is a multiple of `step`; the choice does not move as data grows."""
        return self if step == 1 else self.take(self.session % step == 0)

    def with_outcome(self) -> Dataset:
        """Rows whose outcome is known (itself where all are)."""
        known = self.known
        return self if known.all() else self.take(known)

    def with_columns(self, features: Sequence[str]) -> Dataset:
        """The same rows with only the named features, in the given order.

        Raises
        ------
        DataError
            A feature is not in the dataset.
        """
        if tuple(features) == self.features:
            return self
        place = {name: column for column, name in enumerate(self.features)}
        missing = [name for name in features if name not in place]
        if missing:
            raise DataError(
                f"the dataset lacks feature {missing[0]!r} ({len(missing)} missing): "
                "switch its family on in params.yaml, or train again without it"
            )
        columns = [place[name] for name in features]
        signs = tuple(self.signs[column] for column in columns)
        return replace(self, features=tuple(features), X=self.X[:, columns], signs=signs)

    def at_horizon(self, horizon: int) -> Dataset:
        """The same rows with the label at another horizon, as far as it may be learned from.

        The last session here is one whose own label is known where these rows may be learned from. A longer
        holding period ends later, so its label is withheld (NaN) in as many of the last sessions as it is longer by.

        Raises
        ------
        DataError
            The dataset holds no label at that horizon.
        """
        if horizon not in self.labels:
            known = ", ".join(map(str, sorted(self.labels)))
            raise DataError(f"the dataset has labels at horizons {known}, not {horizon}: add it to target.auxiliary")
        label, longer = self.labels[horizon], max(0, horizon - self.horizon)
        if longer and len(self):
            label = np.where(self.session > self.session[-1] - longer, np.float32(np.nan), label)
        return replace(self, label=label)

    def keys(self) -> pd.DataFrame:
        """(R, 2) frame of each row's date and symbol."""
        return pd.DataFrame({"date": self.dates[self.session], "symbol": self.symbols[self.symbol]})


def assemble_dataset(
    dates: NDArray[np.datetime64],
    symbols: NDArray[np.str_],
    sector: NDArray[np.integer],
    session: NDArray[np.integer],
    symbol: NDArray[np.integer],
    X: NDArray[np.floating],
    features: Sequence[str],
    label: NDArray[np.floating],
    forward: NDArray[np.floating],
    raw: NDArray[np.floating],
    *,
    horizon: int = 5,
    labels: Mapping[int, NDArray[np.floating]] | None = None,
    market: NDArray[np.floating] | None = None,
    signs: Sequence[int] | None = None,
) -> Dataset:
    """Check the parts and make a `Dataset`; float32 arrays are kept without a copy.

    Parameters
    ----------
    horizon, labels
        Holding period of `label`, and labels at further ones.
    market, signs
        As in `Dataset`; unknown, and none, where not given.

    Raises
    ------
    DataError
        Shapes disagree, an index lies outside its axis, rows are unsorted or repeated, a value is
        infinite, or a feature name is repeated.
    """
    dates = np.asarray(dates, dtype="datetime64[D]")
    symbols = np.asarray(symbols, dtype=str)
    sessions: NDArray[np.int32] = np.ascontiguousarray(session, dtype=np.int32)
    columns: NDArray[np.int32] = np.ascontiguousarray(symbol, dtype=np.int32)
    matrix: Rows = np.ascontiguousarray(X, dtype=np.float32)
    outcomes = {
        name: np.ascontiguousarray(values, dtype=np.float32)
        for name, values in (("label", label), ("forward", forward), ("raw", raw))
    }
    further = {at: np.ascontiguousarray(values, dtype=np.float32) for at, values in (labels or {}).items()}
    states = np.full(len(dates), np.nan) if market is None else np.asarray(market, dtype=np.float64)
    rows = len(sessions)
    shapes = {"symbol": columns.shape, **{name: values.shape for name, values in outcomes.items()}}
    shapes |= {f"label_{at}": values.shape for at, values in further.items()}
    for name, shape in shapes.items():
        if shape != (rows,):
            raise DataError(f"dataset: {name} has shape {shape}, expected ({rows},): rebuild the dataset stage")
    if matrix.shape != (rows, len(features)):
        expected = (rows, len(features))
        raise DataError(f"dataset: X has shape {matrix.shape}, expected {expected}: rebuild the dataset stage")
    if states.shape != dates.shape:
        raise DataError(f"dataset: {len(states)} market returns for {len(dates)} sessions: rebuild the dataset stage")
    if signs is not None and len(signs) != len(features):
        raise DataError(f"dataset: {len(signs)} signs for {len(features)} features: give one a feature")
    if len(sector) != len(symbols):
        raise DataError(f"dataset: {len(sector)} sector codes for {len(symbols)} symbols: give one a symbol")
    if len(set(features)) != len(features):
        raise DataError("dataset: a feature name is repeated: rename one of the two")
    for name, ascending in (("dates", _ascending(dates)), ("symbols", _ascending(symbols))):
        if not ascending:
            raise DataError(f"dataset: {name} are not strictly ascending: sort them and drop repeats")
    for name, index, size in (("session", sessions, len(dates)), ("symbol", columns, len(symbols))):
        if rows and (index.min() < 0 or index.max() >= size):
            raise DataError(f"dataset: {name} index outside 0..{size - 1}: rebuild the dataset stage")
    key = sessions.astype(np.int64) * max(len(symbols), 1) + columns
    broken = np.flatnonzero(key[1:] <= key[:-1])
    if broken.size:
        at = int(broken[0]) + 1
        raise DataError(
            f"dataset: row {at} ({dates[sessions[at]]}, {symbols[columns[at]]}) is out of order or repeated: "
            "sort by date and symbol and drop repeats"
        )
    for name, values in (*outcomes.items(), *((f"label_{at}", values) for at, values in further.items())):
        _refuse_infinite(name, values)
    for place, name in enumerate(features):
        _refuse_infinite(name, matrix[:, place])
    return Dataset(
        dates=dates,
        symbols=symbols,
        features=tuple(features),
        session=sessions,
        symbol=columns,
        X=matrix,
        sector=np.asarray(sector, dtype=np.int64),
        horizon=horizon,
        labels={**further, horizon: outcomes["label"]},
        market=states,
        signs=tuple(map(int, signs)) if signs is not None else (0,) * len(features),
        **outcomes,
    )


def _ascending(axis: NDArray) -> bool:
    return len(axis) < 2 or bool((axis[1:] > axis[:-1]).all())


def _refuse_infinite(name: str, values: NDArray[np.floating]) -> None:
    if np.isinf(values).any():
        at = int(np.flatnonzero(np.isinf(values))[0])
        raise DataError(f"dataset: column {name!r} is infinite in row {at}: store NaN where a value is undefined")
