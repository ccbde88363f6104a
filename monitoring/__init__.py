"""Does the served signal still keep its word? Realised skill, calibration, drift, and a verdict by declared rules.

Pure maths on arrays and frames: no path, no tracking server, no ledger.
"""

from core.numerics import configure

configure()
