"""From signals to positions and what they cost."""

from core.numerics import configure

configure()
