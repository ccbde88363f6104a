"""Conic programs, put together row by row and handed to the interior-point solver Clarabel.

    min  q'v + sum weight f(v)^2     subject to     f(v) = 0,   f(v) >= 0,   |f(v)| <= g(v),   f(v) g(v) >= h(v)^2

with f, g, h affine in the variables v. A modelling language would say the same and take as long to translate
it as the solver takes to solve it, at every rebalance of a backtest; the tests hold the two against each other.

References
----------
Goulart, P. and Chen, Y. (2024). Clarabel: an interior-point solver for conic programs with quadratic objectives.
Lobo, M. S., Vandenberghe, L., Boyd, S. and Lebret, H. (1998). Applications of second-order cone programming. Linear
Algebra and its Applications 284.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import clarabel
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Array = NDArray[np.float64]
Index = NDArray[np.int64]

# The gap to the optimum, for each variable of a program whose slopes are about 1, and relative; a tighter one is out
# of reach on some days.
_GAP, _RELATIVE_GAP = 1e-9, 1e-7
_STATUS = {clarabel.SolverStatus.Solved: "optimal", clarabel.SolverStatus.AlmostSolved: "optimal_inaccurate"}


@dataclass(frozen=True, eq=False)
class Affine:
    """`(M,)` affine functions of a program's variables: coefficients (row, column, value), and constants."""

    row: Index
    column: Index
    value: Array
    constant: Array

    def __len__(self) -> int:
        return len(self.constant)

    def __add__(self, other: Affine | Array | float) -> Affine:
        if not isinstance(other, Affine):
            return Affine(self.row, self.column, self.value, self.constant + other)
        row, column, value = (
            np.concatenate([getattr(self, name), getattr(other, name)]) for name in ("row", "column", "value")
        )
        return Affine(row, column, value, self.constant + other.constant)

    def __neg__(self) -> Affine:
        return self.scaled(-1.0)

    def __sub__(self, other: Affine | Array | float) -> Affine:
        return self + (-other)

    def scaled(self, by: Array | float) -> Affine:
        """Each row times a number, or its own."""
        by = np.broadcast_to(by, self.constant.shape)
        kept = by[self.row] != 0
        return Affine(self.row[kept], self.column[kept], (self.value * by[self.row])[kept], self.constant * by)

    def rows(self, at: Index) -> Affine:
        """Some of the rows."""
        place = np.full(len(self), -1)
        place[at] = np.arange(len(at))
        kept = place[self.row] >= 0
        return Affine(place[self.row][kept], self.column[kept], self.value[kept], self.constant[at])

    def placed(self, at: Index, count: int) -> Affine:
        """`(count,)` rows that are 0 but at given places, where these are."""
        constant = np.zeros(count)
        constant[at] = self.constant
        return Affine(at[self.row], self.column, self.value, constant)

    def through(self, matrix: Array | sparse.csr_array) -> Affine:
        """The rows of a `(K, M)` matrix times these."""
        inner = sparse.csr_array((self.value, (self.row, self.column)), shape=(len(self), int(self.column.max()) + 1))
        product = (sparse.csr_array(matrix) @ inner).tocoo()
        row, column = product.coords
        return Affine(row, column, product.data, matrix @ self.constant)

    def total(self) -> Affine:
        """`(1,)` sum of the rows."""
        return Affine(np.zeros_like(self.row), self.column, self.value, np.array([self.constant.sum()]))

    def then(self, other: Affine) -> Affine:
        """These rows, and those of another after them."""
        below = Affine(other.row + len(self), other.column, other.value, np.zeros(len(self) + len(other)))
        mine = Affine(self.row, self.column, self.value, np.concatenate([self.constant, other.constant]))
        return mine + below


@dataclass(frozen=True, eq=False)
class Solved:
    """An optimum: status "optimal" or "optimal_inaccurate", values of the variables, and the prices of all rows."""

    status: str
    values: Array
    prices: Array

    def of(self, f: Affine) -> Array:
        """`(M,)` values of affine functions."""
        return _summed(f.row, f.value * self.values[f.column], len(f)) + f.constant


class ConicProgram:
    """A program in the making. Rows are numbered as they come; the numbers find their prices in the solution."""

    def __init__(self) -> None:
        self._variables = 0
        self._rows: list[Affine] = []
        self._units: list[Array] = []
        self._count = 0
        self._cones: list[Any] = []

    def variable(self, count: int) -> Affine:
        """`(count,)` new variables."""
        each = np.arange(count)
        self._variables += count
        return Affine(each, each + self._variables - count, np.ones(count), np.zeros(count))

    @staticmethod
    def constant(values: Array) -> Affine:
        """`(M,)` rows without a variable."""
        none = np.zeros(0, dtype=np.int64)
        return Affine(none, none, np.zeros(0), values)

    def zero(self, f: Affine) -> Index:
        """f = 0, row by row."""
        return self._add(f, clarabel.ZeroConeT(len(f)), unit=_largest(f))

    def nonnegative(self, f: Affine) -> Index:
        """f >= 0, row by row. The price of a row: by how much one unit more of its constant lowers the optimum."""
        return self._add(f, clarabel.NonnegativeConeT(len(f)), unit=_largest(f))

    def norm(self, f: Affine, most: Affine) -> Index:
        """The Euclidean norm of all rows of f is at most the one row of `most`; only that row is priced."""
        return self._add(most.then(f), clarabel.SecondOrderConeT(1 + len(f)))[:1]

    def product(self, left: Affine, right: Affine, root: Affine) -> None:
        """left right >= root^2 with left, right >= 0, row by row."""
        count = len(root)
        # |(left - right, 2 root)| <= left + right, the three rows of each cone one after the other.
        stacked = (left + right).then(left - right).then(root.scaled(2.0))
        place = np.arange(3 * count).reshape(count, 3).T.ravel()
        constant = np.empty(3 * count)
        constant[place] = stacked.constant
        self._add(
            Affine(place[stacked.row], stacked.column, stacked.value, constant),
            *(clarabel.SecondOrderConeT(3) for _ in range(count)),
        )

    def minimise(self, cost: Affine, squares: Sequence[tuple[Affine, Array]] = ()) -> Solved | None:
        """The optimum, None where the solver finds none.

        Parameters
        ----------
        cost
            The one row of q'v; its constant does not matter.
        squares
            Functions of one variable in each row, and the weights of their squares.
        """
        linear = _summed(cost.column, cost.value, self._variables)
        diagonal = np.zeros(self._variables)
        for f, weight in squares:
            twice = 2.0 * weight[f.row] * f.value
            diagonal += _summed(f.column, twice * f.value, self._variables)
            linear += _summed(f.column, twice * f.constant[f.row], self._variables)
        starts = np.cumsum([0, *(len(rows) for rows in self._rows)])
        row, column, value = (
            np.concatenate(parts)
            for parts in (
                [rows.row + start for rows, start in zip(self._rows, starts, strict=False)],
                [rows.column for rows in self._rows],
                [rows.value for rows in self._rows],
            )
        )
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.tol_gap_abs, settings.tol_gap_rel = _GAP * self._variables, _RELATIVE_GAP
        # A v + s = b with s in the cones: A is minus the coefficients, b the constants.
        solution = clarabel.DefaultSolver(
            sparse.csc_matrix(sparse.diags_array(diagonal)),
            linear,
            sparse.csc_matrix((-value, (row, column)), shape=(self._count, self._variables)),
            np.concatenate([rows.constant for rows in self._rows]),
            self._cones,
            settings,
        ).solve()
        status = _STATUS.get(solution.status)
        return (
            None
            if status is None
            else Solved(status, np.array(solution.x), np.abs(solution.z) / np.concatenate(self._units))
        )

    def _add(self, f: Affine, *cones: Any, unit: Array | None = None) -> Index:
        unit = np.ones(len(f)) if unit is None else unit
        self._rows.append(f.scaled(1.0 / unit))
        self._units.append(unit)
        self._cones += cones
        self._count += len(f)
        return np.arange(self._count - len(f), self._count)


def _largest(f: Affine) -> Array:
    """`(M,)` largest number of each row, 1 where there is none: its unit, in which tolerances mean the same."""
    largest = np.abs(f.constant)
    np.maximum.at(largest, f.row, np.abs(f.value))
    return np.where(largest > 0, largest, 1.0)


def _summed(place: Index, values: Array, count: int) -> Array:
    """`(count,)` sums of the values of each place; of none it is numpy's whole numbers that are none."""
    return np.bincount(place, values, count).astype(np.float64)
