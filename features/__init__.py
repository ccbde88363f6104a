"""Point-in-time features: declared functions of a panel, proven causal before they are registered."""

from core.numerics import configure

configure()
