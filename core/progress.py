"""Progress bars on standard error; silent where nobody watches."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Iterate over `items` behind a bar labelled `what`; no bar when standard error is no terminal."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    yield from tqdm(items, desc=what, total=total, file=sys.stderr, disable=None, leave=False, dynamic_ncols=True)


@contextlib.contextmanager
def progress_of(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar labelled `what` for work that counts itself: yields what is called with the steps done and their number."""
    with tqdm(desc=what, file=sys.stderr, disable=None, leave=False, dynamic_ncols=True) as bar:

        def tick(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield tick
