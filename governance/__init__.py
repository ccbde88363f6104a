"""Who may serve what, and the record of it."""

from core.numerics import configure

configure()
