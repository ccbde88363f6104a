"""Causal cleaning: what a row becomes depends on that row and on what was known before it."""

from sources.cleaning.clean import LOOKBACKS, MIN_SYMBOLS, Cleaned, clean

__all__ = ["LOOKBACKS", "MIN_SYMBOLS", "Cleaned", "clean"]
