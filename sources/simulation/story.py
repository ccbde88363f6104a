"""The market as a whole: calm and stressed spells, volatility that clusters, and panics by herding."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sources.simulation.streams import Streams

CALM, STRESS, CRISIS = 0, 1, 2

_VOL = (0.0062, 0.0135)
_DRIFT = (0.0006, -0.0004)
_LEAVE = (0.006, 0.015)  # daily probability of leaving the calm and the stressed state
_MEMORY, _WAVE = 0.997, 0.3
USUAL_VOL = 0.009

_SPEED, _COMPOSURE, _FRIGHT, _RELIEF = 0.2, -4.0, 1.5, 0.5
_EXHAUSTION = 2.5
PANICKED = 0.5
"""Share of panicked traders from which the regime is called a crisis."""


@dataclass(frozen=True)
class Day:
    """One session of the market: its return and volatility (fractions), regime, and the panic at its close."""

    market: float
    vol: float
    stressed: bool
    panic: float

    @property
    def regime(self) -> int:
        """Calm, stress, or crisis."""
        return CRISIS if self.panic > PANICKED else int(self.stressed)


class Story:
    """The market's state from session to session.

    The spells are a Markov chain (Hamilton, 1989); volatility answers falls more than rises (Glosten, Jagannathan
    and Runkle, 1993). Panic is a share of traders drawn in by losses and by each other, as in the discrete choice
    with social interactions of Brock and Durlauf (2001): it feeds itself where the pull is strong, until so many have
    left the market that nobody is left to follow.
    """

    def __init__(self, streams: Streams, pull: float) -> None:
        self._streams, self._pull = streams, pull
        self._stressed, self._variance, self.panic = False, _VOL[CALM] ** 2, 0.0
        self._wave = 0.0

    def session(self, gone: float) -> Day:
        """Live through one session.

        Parameters
        ----------
        gone
            Share of traders that has left the market beyond the usual.
        """
        draw = float(self._streams.fat("market", (), 6))
        jump = self._streams["market jump"].random(2)
        if float(self._streams["regime"].random()) < _LEAVE[self._stressed]:
            self._stressed = not self._stressed
        self._wave = _MEMORY * self._wave + _WAVE * math.sqrt(1.0 - _MEMORY**2) * float(
            self._streams["market wave"].standard_normal()
        )
        widened = math.exp(self._wave - _WAVE**2) * (1.0 + 1.2 * self.panic)
        vol = math.sqrt(self._variance) * widened
        shock = vol * draw - (vol * (2.0 + 4.0 * jump[1]) if jump[0] < 0.004 else 0.0)
        market = min(max(_DRIFT[self._stressed] - 0.002 * self.panic + shock, -0.16), 0.11)
        fall = shock < 0
        target = _VOL[self._stressed] ** 2
        news = min((shock / widened) ** 2, 12.0 * self._variance)
        self._variance = 0.05 * target + 0.85 * self._variance + (0.16 if fall else 0.03) * news
        self._variance = min(self._variance, 0.035**2)
        self._worry(market / USUAL_VOL, gone)
        return Day(market, vol, self._stressed, self.panic)

    def _worry(self, move: float, gone: float) -> None:
        pull = self._pull * max(1.0 - _EXHAUSTION * gone, 0.0)
        fright = _FRIGHT * max(-move - 1.0, 0.0) - _RELIEF * max(move - 1.0, 0.0)
        aim = 1.0 / (1.0 + math.exp(-(_COMPOSURE + pull * self.panic + fright)))
        self.panic += _SPEED * (aim - self.panic)
