"""Causal cleaning: what a row becomes depends on that row and on what was known before it."""

from sources.cleaning.clean import LOOKBACKS, Cleaned, clean

__all__ = ["LOOKBACKS", "Cleaned", "clean"]
