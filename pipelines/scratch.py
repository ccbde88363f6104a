"""A folder for one command's work, gone with the command; what a killed one left, the next one removes."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_ALIVE = ".alive"


@contextlib.contextmanager
def scratch_folder(purpose: str, keep: bool = False) -> Iterator[Path]:
    """An empty folder below the system's temporary one.

    Parameters
    ----------
    purpose
        Beginning of its name; folders of the same purpose that nobody works in any more are removed.
    keep
        Whether it stays when the block ends.
    """
    prefix = f"signals-{purpose}-"
    _clear_dead(prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
    # The system gives the lock up when the process ends, however it ends.
    lock = FileLock(folder / _ALIVE)
    try:
        with lock:
            yield folder
    finally:
        if keep:
            (folder / _ALIVE).unlink(missing_ok=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _clear_dead(prefix: str) -> None:
    # A folder without the file is kept on purpose, or is being made.
    for alive in Path(tempfile.gettempdir()).glob(f"{prefix}*/{_ALIVE}"):
        with contextlib.suppress(Timeout, PermissionError), FileLock(alive, timeout=0):
            shutil.rmtree(alive.parent, ignore_errors=True)
