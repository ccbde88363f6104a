"""The populations that trade: what each wants of a firm, who joins and who leaves, and what that does to the price."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from sources.simulation.firms import Array

BASE: Mapping[str, float] = {
    "value": 0.18, "momentum": 0.20, "contrarian": 0.14, "noise": 0.16, "passive": 0.22, "out": 0.10,
}  # fmt: skip
"""Share of all traders in each population when none has earned more than another."""
POPULATIONS = tuple(BASE)

SKIPPED = 15
"""Last sessions that momentum leaves out: what moved in them tends to revert (Jegadeesh, 1990)."""
_SLOW, _FAST = 1.0 - 2.0 ** (-1.0 / 40.0), 1.0 - 2.0 ** (-1.0 / 3.0)
_PAYOFF_MEMORY = 2.0 ** (-1.0 / 40.0)
_CHOICE, _INERTIA = 60.0, 0.02
_LEAN = 0.9
_ALARM = np.array([-0.6, 0.8, -0.4, 0.2, -0.3, 2.2])
"""What panic adds to the appeal of each population: others are copied, or the market is left."""
VALUE, MOMENTUM, CONTRARIAN = range(3)


def stretch(lean: Array) -> Array:
    """Factor by which one-sided demand widens moves, about one on average."""
    return (1.0 + _LEAN * np.abs(lean)) / (1.0 + 0.25 * _LEAN)


class Traders:
    """Demands by firm and shares of the populations, as of the last close.

    Attributes
    ----------
    demands
        `(3, N)` of value, momentum and contrarian traders, within one.
    shares
        `(P,)` share of each population in all traders, as of `POPULATIONS`.

    A trader's demand is what he knew at the last close; the price has it in it already, save for what the plant
    leaves. It still decides how deep the market is: where those who trade lean to one side, moves are larger and
    volume is higher. Traders move between populations, and out of the market, towards what has paid (Brock and
    Hommes, 1998, with inertia), and in panic towards the exit.
    """

    def __init__(self, count: int) -> None:
        self.shares = np.array(list(BASE.values()))
        self._base = np.log(self.shares)
        self._payoffs = np.zeros(len(BASE))
        self._slow, self._fast = np.zeros(count), np.zeros(count)
        self._recent = deque([np.zeros(count)] * SKIPPED, SKIPPED)
        self.demands = np.zeros((3, count))

    def lean(self) -> Array:
        """`(N,)` demand of all who trade, weighed by their shares, within one."""
        trading = self.shares[:3]
        return (trading @ self.demands) / (trading.sum() + self.shares[3])

    def gone(self) -> float:
        """Share of traders that has left the market beyond the usual."""
        return float(max(self.shares[-1] - BASE["out"], 0.0))

    def session(self, move: Array, gap: Array, market: float, panic: float, alive: Array) -> None:
        """Learn from one session.

        Parameters
        ----------
        move
            `(N,)` idiosyncratic return in units of its volatility.
        gap
            `(N,)` log of the firm's worth, by its earnings power, over its price at the close.
        market
            Market return in units of its usual volatility.
        panic
            Share of panicked traders.
        alive
            `(N,)` 1.0 where the firm is listed, else 0.0.
        """
        move = np.clip(move, -5.0, 5.0)
        earned = (self.demands * move * alive).sum(axis=1) / max(alive.sum(), 1.0)
        paid = np.array([*earned, 0.0, 0.004 * market, 0.0])
        self._payoffs = _PAYOFF_MEMORY * self._payoffs + (1.0 - _PAYOFF_MEMORY) * paid
        appeal = self._base + _CHOICE * self._payoffs + panic * _ALARM
        chosen = np.exp(appeal - appeal.max())
        self.shares = self.shares + _INERTIA * (chosen / chosen.sum() - self.shares)
        self._slow += _SLOW * (self._recent[0] - self._slow)
        self._recent.append(move)
        self._fast += _FAST * (move - self._fast)
        self.demands = np.stack(
            [
                np.tanh(gap / 0.3),
                np.tanh(0.8 * self._slow / np.sqrt(_SLOW / (2.0 - _SLOW))),
                -np.tanh(0.8 * self._fast / np.sqrt(_FAST / (2.0 - _FAST))),
            ]
        )
