"""Remember what was worked out from an object for as long as that object lives, and no longer.

Fifteen features ask for the same join of filings; it is made once a panel. The key is the identity of the
object, held weakly, so that results of two panels can never be mixed and none outlives its panel.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Concatenate, ParamSpec, TypeVar

Subject = TypeVar("Subject")
Rest = ParamSpec("Rest")
Result = TypeVar("Result")


def remembered(
    function: Callable[Concatenate[Subject, Rest], Result],
) -> Callable[Concatenate[Subject, Rest], Result]:
    """Decorate a pure function of an immutable object (a panel, its events) and hashable arguments.

    The result is shared between callers: it must not be written to.
    """
    known: dict[int, tuple[weakref.ref[Any], dict[Hashable, Result]]] = {}

    @functools.wraps(function)
    def once(subject: Subject, *args: Rest.args, **kwargs: Rest.kwargs) -> Result:
        identity = id(subject)
        if identity not in known:
            # The reference's callback runs before the identity can be given to another object.
            known[identity] = (weakref.ref(subject, lambda _: known.pop(identity, None)), {})
        results = known[identity][1]
        key = (args, tuple(sorted(kwargs.items())))
        if key not in results:
            results[key] = function(subject, *args, **kwargs)
        return results[key]

    return once
