"""Raw tables: their schemas, the calendar, one module a provider, and causal cleaning."""

from core.numerics import configure

configure()
