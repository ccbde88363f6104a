"""One thread for the linear algebra, so that a sum is the same bits whatever the machine or OMP_NUM_THREADS says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let NumPy's and SciPy's BLAS sum in one order.

    A product of matrices that is split among threads is summed in another order for another number of them, and
    differs in its last bits. LightGBM, PyTorch and the kernels are left alone: their number of threads is a
    parameter, or changes nothing.
    """
    # Imported first, for only a library that is loaded can be limited. SciPy brings a BLAS of its own.
    import numpy as np  # noqa: F401
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
