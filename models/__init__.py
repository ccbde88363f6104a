"""Layers, their stack, and how both are tuned, judged and bundled."""
