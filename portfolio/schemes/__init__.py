"""Allocation schemes; each module registers what it holds."""
