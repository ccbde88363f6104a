"""Causal cleaning: what a row becomes depends on that row and on what was known before it."""

from sources.cleaning.clean import EVENT_LOOKBACK, LOOKBACK, MIN_SYMBOLS, Cleaned, clean

__all__ = ["EVENT_LOOKBACK", "LOOKBACK", "MIN_SYMBOLS", "Cleaned", "clean"]
