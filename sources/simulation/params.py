"""What may be chosen of a simulated market, and the presets that choose it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from core.params import Day, Params
from sources.simulation.plant import SOURCES
from sources.simulation.tape import FAULTS

Kind = Annotated[
    Literal["default", "null", "planted", "crisis"],
    # YAML reads an unquoted null as nothing.
    BeforeValidator(lambda value: "null" if value is None else value),
]
Correlation = Annotated[float, Field(ge=0.0, lt=0.5)]


@dataclass(frozen=True)
class Preset:
    """A kind of market: what is planted in it, and how strongly its traders copy each other.

    Attributes
    ----------
    planted
        Oracle IC by source: mean daily correlation over symbols of the source's expected five-day residual return
        with the realised one.
    herding
        Pull of the panic that there is on those who have not panicked; beyond about six, panics feed themselves.
    """

    planted: Mapping[str, float]
    herding: float = 5.0


PRESETS: Mapping[str, Preset] = {
    "default": Preset({"drift": 0.055, "reversal": 0.05, "mood": 0.045, "value": 0.05}),
    "null": Preset({}),
    # One that only trees can find, one that only sequences can, one whose sign is the regime's, one in the crowd.
    "planted": Preset({"bargain": 0.05, "pattern": 0.08, "trend": 0.045, "crowd": 0.05}),
    "crisis": Preset({"drift": 0.055, "reversal": 0.05, "mood": 0.045, "value": 0.05}, herding=10.0),
}


class SimulationParams(Params):
    """Parameters of the simulated market."""

    preset: Kind = "default"
    symbols: int = Field(default=160, ge=2, le=5000)
    start: Day = datetime.date(2008, 1, 2)
    end: Day = datetime.date(2017, 12, 29)
    seed: int = Field(default=7, ge=0)
    planted_ic: Correlation | None
    """Oracle IC of all sources together; None: as the preset has it. Required: neither suits every preset."""
    planted: dict[str, Correlation] | None = None
    """Oracle IC by source, in place of the preset's."""
    herding: float | None = Field(default=None, ge=0.0, le=12.0)
    posts_per_day: float = Field(default=1.0, ge=0.0, le=50.0)
    """Mean posts a day of a symbol that people write about (two in five symbols)."""
    late_share: float = Field(default=0.06, ge=0.0, le=1.0)
    """Share of symbols listed half a year to four years after the start."""
    delisting_rate: float = Field(default=0.01, ge=0.0, le=1.0)
    """Share of symbols delisted in a year; two in five of them fail, the others are bought."""
    restated_rate: float = Field(default=0.03, ge=0.0, le=1.0)
    wrong_entity_rate: float = Field(default=0.004, ge=0.0, le=1.0)
    repeat_rate: float = Field(default=0.14, ge=0.0, le=0.6)
    """Share of posts that repeat a text."""
    missing_rate: float = Field(default=6e-4, ge=0.0, le=0.5)
    gap_rate: float = Field(default=3e-5, ge=0.0, le=0.1)
    """Probability per row that two to six weeks without prices begin."""
    halt_rate: float = Field(default=2e-4, ge=0.0, le=0.5)
    """Probability per row that nothing trades and the last close is printed again."""
    spike_rate: float = Field(default=8e-5, ge=0.0, le=0.5)
    zero_open_rate: float = Field(default=1e-3, ge=0.0, le=0.5)
    crossed_rate: float = Field(default=1e-4, ge=0.0, le=0.5)
    """Probability per row that high and low are exchanged."""
    zero_volume_rate: float = Field(default=5e-4, ge=0.0, le=0.5)

    @model_validator(mode="after")
    def _possible(self) -> SimulationParams:
        if self.end <= self.start:
            raise ValueError(f"end {self.end} must be after start {self.start}")
        unknown = sorted(set(self.planted or ()) - set(SOURCES))
        if unknown:
            raise ValueError(f"planted: unknown source {unknown[0]!r}: choose from {', '.join(SOURCES)}")
        if self.planted_ic and not any(self.oracle_ic(whole=None).values()):
            raise ValueError("planted_ic: nothing is planted whose strength it could set: name sources in planted")
        if sum(strength**2 for strength in self.oracle_ic().values()) >= 0.25:
            raise ValueError("planted: the sources together must stay below an oracle IC of 0.5")
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    def oracle_ic(self, whole: float | None = -1.0) -> dict[str, float]:
        """Oracle IC of every source; together, as independent sources, `planted_ic` where that is given."""
        chosen = PRESETS[self.preset].planted if self.planted is None else self.planted
        own = {name: float(chosen.get(name, 0.0)) for name in SOURCES}
        wanted = self.planted_ic if whole == -1.0 else whole
        together = sum(strength**2 for strength in own.values()) ** 0.5
        if wanted is None or together == 0.0:
            return own
        return {name: strength * wanted / together for name, strength in own.items()}

    @property
    def pull(self) -> float:
        """Herding, from the preset where it is not given."""
        return PRESETS[self.preset].herding if self.herding is None else self.herding

    @property
    def fault_rates(self) -> Mapping[str, float]:
        """Probability per price row of each fault."""
        return {name: getattr(self, f"{name}_rate") for name in FAULTS}
