"""Compiling numeric kernels with numba, kept on disk for later processes where a folder can be written.

numba looks for such a folder in `NUMBA_CACHE_DIR`, beside the source, and in the user's cache folder. A container
often has none of them: read-only code, no home. The kernels then go into a private folder of the system's temporary
one, and where that cannot be written either they are compiled in every process.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

_config: Any = numba.config


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorator like `numba.njit(cache=True, **options)`, which compiles without a cache where none can be kept."""

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
        folder = None if _config.CACHE_DIR else private_folder()
        if folder is None:
            return numba.njit(**options)(function)
        # Child processes find it in the environment.
        os.environ["NUMBA_CACHE_DIR"] = _config.CACHE_DIR = str(folder)
        return decorate(function)

    return decorate


compiled = njit(nogil=True, error_model="numpy", fastmath=False)
"""Decorator of every kernel that threads may share: no interpreter lock, and IEEE division."""


def private_folder() -> Path | None:
    """A folder below the system's temporary one that only this user can write; None where there can be none.

    Compiled kernels are run as they are found: a folder of somebody else's is never used.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"layered-signals-kernels-{os.geteuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    is_private = (
        stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
    )
    return folder if is_private else None
