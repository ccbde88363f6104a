"""Bounds on measurements: the one rule behind the gates of promotion and the alarms of monitoring."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, Self

from pydantic import Field, FiniteFloat, model_validator

from core.params import Params, lookup

NOT_MEASURED = "not measured"


class Bound(Params):
    """Inclusive bounds of a number, with a name and a reason.

    Attributes
    ----------
    name : str
        Short name, unique among its like.
    min, max : float, optional
        Inclusive bounds; finite.
    reason : str
        Why the bound is where it is.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    min: FiniteFloat | None = None
    max: FiniteFloat | None = None
    reason: str = Field(min_length=8)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"{self.name}: min {self.min} is above max {self.max}")
        return self

    @property
    def is_open(self) -> bool:
        """Whether neither side is bounded."""
        return self.min is None and self.max is None

    @property
    def bound(self) -> str:
        """The bounds as text; empty where there are none."""
        low = "" if self.min is None else f">= {self.min:g}"
        high = "" if self.max is None else f"<= {self.max:g}"
        return " and ".join(part for part in (low, high) if part)

    def holds(self, value: float) -> bool:
        """Whether a measurement is within the bounds; one that is not finite is within none."""
        above = self.min is None or value >= self.min
        return math.isfinite(value) and above and (self.max is None or value <= self.max)


def measured(values: Any, path: str) -> float | None:
    """The number under a dotted path; None, not measured, where there is none or it is NaN."""
    value: Any = lookup(values, path)
    if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
        return None
    return float(value)
