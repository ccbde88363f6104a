"""Layers, their stack, and how both are tuned, judged and bundled."""

from core.numerics import configure

configure()
