"""The firms' accounts: earnings that follow what the price implies, and what of them is public."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sources.simulation.firms import Array, Firms
from sources.simulation.reports import Reports


@dataclass(frozen=True)
class Figures:
    """Quarterly figures of every report, `(R,)`: USD, and shares on the split basis of the first session."""

    net_income: Array
    net_income_year: Array
    power: Array
    equity: Array
    shares: Array
    dividends: Array


class Accounts:
    """The firms' accounts, and what of them is public."""

    def __init__(self, firms: Firms, reports: Reports) -> None:
        self.firms, self.reports = firms, reports
        worth = firms.price * firms.shares
        self.shares = firms.shares.copy()
        self.power = worth * firms.earnings_yield / 4.0
        self.equity = 4.0 * self.power / firms.roe
        self.last = np.repeat(self.power[:, None], 4, axis=1)
        self.rows = np.full((len(reports.firm), 6), np.nan)
        self.by_filing = np.argsort(reports.filed_at, kind="stable")
        self.filed_at = reports.filed_at[self.by_filing]
        self.read = 0
        self.known_year, self.known_equity = np.full(len(worth), np.nan), np.full(len(worth), np.nan)

    def close_quarters(self, month: int, worth: Array) -> None:
        """End the fiscal quarter of the firms whose quarter ends with this month."""
        low, high = np.searchsorted(self.reports.month, [month, month + 1])
        firm, noise = self.reports.firm[low:high], self.reports.noise[low:high]
        implied = worth[firm] * self.firms.earnings_yield[firm] / 4.0
        self.power[firm] *= (implied / self.power[firm]) ** 0.12 * np.exp(0.05 * noise[:, 0])
        income = self.power[firm] * (1.0 + 0.10 * self.reports.surprise[low:high] + 0.12 * noise[:, 1])
        paid = np.maximum(0.35 * self.power[firm], 0.0)
        # Buy-backs and issues pull equity towards the firm's usual return on it.
        usual = 4.0 * self.power[firm] / self.firms.roe[firm]
        self.equity[firm] = np.maximum(self.equity[firm] + income - paid, 0.2 * usual) ** 0.95 * usual**0.05
        self.shares[firm] = np.round(self.shares[firm] * np.exp(0.006 * noise[:, 2] - 0.001), -3)
        self.last[firm] = np.column_stack([self.last[firm, 1:], income])
        year = self.last[firm].sum(axis=1)
        columns = [income, year, self.power[firm], self.equity[firm], self.shares[firm], paid]
        self.rows[low:high] = np.column_stack(columns)

    def publish(self, session: int) -> None:
        """Make the filings public that may be used at the close of this session."""
        stop = int(np.searchsorted(self.filed_at, session, side="right"))
        rows = self.by_filing[self.read : stop]
        self.known_year[self.reports.firm[rows]] = self.rows[rows, 1]
        self.known_equity[self.reports.firm[rows]] = self.rows[rows, 3]
        self.read = stop

    def worth(self) -> Array:
        """`(N,)` what the firms are worth by their earnings power, USD."""
        return 4.0 * self.power / self.firms.earnings_yield

    def scores(self, price: Array, listed: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Sum and product of the ranks of earnings yield and return on equity, from public figures.

        Returns
        -------
        Two arrays `(N,)` of unit variance; zero where nothing is public.
        """
        known = listed & np.isfinite(self.known_year)
        added, multiplied = np.zeros(len(price)), np.zeros(len(price))
        if known.sum() > 1:
            worth = (price * self.shares)[known]
            cheap = _ranks(self.known_year[known] / worth)
            good = _ranks(self.known_year[known] / self.known_equity[known])
            added[known] = np.sqrt(1.5) * (cheap + good)
            multiplied[known] = 3.0 * cheap * good
        return added, multiplied

    def figures(self) -> Figures:
        """The figures of every report; NaN for those whose period has not ended."""
        return Figures(*self.rows.T)


def _ranks(values: Array) -> Array:
    """Ranks spread evenly over -1 to 1."""
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return (rank + 0.5) / len(values) * 2.0 - 1.0
