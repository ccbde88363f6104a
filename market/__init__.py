"""The state of the market as a whole: calm or stress, told from the past alone, as pure maths on arrays."""

from core.numerics import configure

configure()
