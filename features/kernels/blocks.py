"""Run a compiled kernel over blocks of columns or rows on a few threads.

The kernels release the interpreter lock and are compiled without numba's own parallelism: it
compiles several times slower, and its thread pool does not survive a fork. A block is computed by
one thread from start to end, so the number of threads cannot change a bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from features.panel import Array

WIDTH = 64
"""Columns (or rows) of a block: 64 float64 accumulators stay in the first-level cache."""


def threads() -> int:
    """Threads that a kernel may use: `NUMBA_NUM_THREADS`, else the machine's cores."""
    return int(os.environ.get("NUMBA_NUM_THREADS", 0)) or os.cpu_count() or 1


def over_blocks(kernel: Callable[..., None], size: int, *arguments: Any, width: int = WIDTH) -> None:
    """Call `kernel(low, high, *arguments)` for consecutive blocks, `width` long, of `range(size)`."""
    blocks = [(low, min(low + width, size)) for low in range(0, size, width)]
    if len(blocks) < 2 or threads() < 2:
        for low, high in blocks:
            kernel(low, high, *arguments)
        return
    with ThreadPoolExecutor(threads()) as pool:
        for done in [pool.submit(kernel, low, high, *arguments) for low, high in blocks]:
            done.result()


def dense(values: Array) -> Array:
    """The array as C-ordered float64, two-dimensional; a copy only where it is not so yet."""
    out: Array = np.ascontiguousarray(values, dtype=np.float64)
    if out.ndim != 2:
        raise ValueError(f"expected a (T, N) array, got shape {out.shape}")
    return out


def narrowed(out: Array, *inputs: Array) -> Array:
    """A result as float32 where all inputs were: kernels are compiled for float64 alone."""
    return out.astype(np.float32) if all(values.dtype == np.float32 for values in inputs) else out
