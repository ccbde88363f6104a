"""On the path of every small project's processes: kernels that one of them compiled, none compiles again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from numba.core.caching import InTreeCacheLocator

CHECKOUT = Path(__file__).resolve().parents[2]


class SharedKernels(InTreeCacheLocator):
    """Numba's cache of a module lies in the checkout under test, as long as the project's copy says the same."""

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> Self | None:
        original = CHECKOUT / (py_func.__module__.replace(".", "/") + ".py")
        if not original.is_file() or original.read_bytes() != Path(py_file).read_bytes():
            return None
        return super().from_function(py_func, str(original))
