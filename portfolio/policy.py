"""The words of a stance: modes of the book, stances of symbols, reasons, and the thresholds between them."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, model_validator

from core.params import Params


class Mode(StrEnum):
    """Of the book, from bold to cautious."""

    ACTIVE = "active"
    SCALED = "scaled"
    DEFENSIVE = "defensive"


class Stance(StrEnum):
    """Of a symbol."""

    LONG = "long"
    SHORT = "short"
    FLAT = "flat"
    HEDGE = "hedge"


class Reason(StrEnum):
    """Why a decision is what it is."""

    CALM = "stress is unlikely"
    UNCERTAIN = "stress is possible"
    STRESS = "stress is likely"
    SYSTEMIC = "the market moves as one more than it usually does"
    UNKNOWN_STRESS = "the probability of stress is not known"
    WAITING = "the mode has not lasted its dwell"
    LINGERING = "stress has not fallen enough to leave the defensive mode"
    CONFIDENT = "the sign of the forecast is likely right"
    HELD = "the side is neither confirmed nor refuted"
    DWELL = "the side has not lasted its dwell"
    DOUBT = "the side is as likely wrong as right"
    UNSURE = "the forecast is not sure enough to take a side"
    NO_FORECAST = "there is no forecast"
    PASSIVE = "the book is passive"
    HEDGED = "the side is held under a hedge of the market"
    CROWDED = "the crowd's cost is among the highest: no new long"
    CONTRARIAN = "sold in a panic that is ending"


class StancePolicy(Params):
    """Thresholds of the rules; tuned, where they are, inside the walk-forward only.

    Attributes
    ----------
    calm, stress
        Probabilities of stress below which the book is active, and above which it is defensive.
    systemic
        Trailing percentile of the systemic index above which the book is defensive.
    enter, leave
        Probabilities that a side is right: above the first it is taken, below the second given up.
    full
        Edge 1 - 2 p_wrong at which a position has its full size. 1 is Kelly's bet, whose size is the edge; daily
        forecasts of single names have edges of a few hundredths, and a smaller `full` leaves their ratios as they are.
    dwell
        Sessions that a mode or a side lasts at least.
    defence
        What the defensive mode does: hold nothing, or hold the scaled book and hedge its market beta.
    crowded
        Cross-sectional percentile of the crowd's cost above which nothing is newly bought.
    panic
        Percentile of panic above which a symbol may be bought against the crowd.
    inversion_memory
        Sessions after the term structure of implied volatility was last inverted in which a panic counts as ending.
    contrarian_size
        Size of such a long, and `contrarian_sessions` how long it is held.
    """

    calm: float = Field(default=0.4, ge=0, le=1)
    stress: float = Field(default=0.6, ge=0, le=1)
    systemic: float = Field(default=0.95, ge=0, le=1)
    enter: float = Field(default=0.52, ge=0.5, le=1)
    leave: float = Field(default=0.48, ge=0, le=0.5)
    full: float = Field(default=0.1, gt=0, le=1)
    dwell: int = Field(default=5, ge=1)
    defence: str = Field(default="future", pattern="^(passive|future|put)$")
    crowded: float = Field(default=0.9, ge=0, le=1)
    panic: float = Field(default=0.95, ge=0, le=1)
    inversion_memory: int = Field(default=5, ge=1)
    contrarian_size: float = Field(default=0.25, ge=0, le=1)
    contrarian_sessions: int = Field(default=5, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> StancePolicy:
        if self.calm > self.stress:
            raise ValueError(f"calm {self.calm} is above stress {self.stress}")
        return self
