"""Which folders of the artifact store the versions rest on, and whether a path reaches into them.

Pure text: an address is compared however it is written (escapes, backslashes, dots, case), for a
server may keep the files on a file system that reads all of these alike.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Set
from urllib.parse import unquote, urlparse

from core.errors import GovernanceError
from governance.places import SCHEME
from governance.state import State

_PROXIED = "mlflow-artifacts"
# `signals ui` assigns signals:/experiments/NUMBER, and with --team mlflow-artifacts:/NUMBER.
_ASSIGNED = re.compile(r"(?:experiments/)?(?:0|[1-9][0-9]*)/.+", re.DOTALL)


def kept_folders(model: str, state: State) -> frozenset[str]:
    """Folders below the artifact store that hold the governed experiment and every registered version."""
    registrations = state.registrations.values()
    addresses = {str(record.payload[key]) for record in registrations for key in ("model_uri", "evidence_uri")}
    return frozenset({plain(model), *(plain(urlparse(address).path) for address in addresses)})


def overlaps(path: str, kept: Set[str]) -> bool:
    """Whether a path below the artifact store lies in a kept folder, or holds one."""
    place = plain(path)
    return any(_within(place, folder) or _within(folder, place) for folder in kept)


def is_assigned(path: str) -> bool:
    """Whether a path below the artifact store is one that the server gives to files of an experiment."""
    return _ASSIGNED.fullmatch(plain(path)) is not None


def assigned_path(address: str) -> str:
    """Path below the artifact store of a place that the server has assigned.

    Raises
    ------
    GovernanceError
        The address names a folder, another host or another store.
    """
    parsed = urlparse(address)
    if parsed.scheme not in (SCHEME, _PROXIED) or parsed.netloc or parsed.query or parsed.fragment:
        raise GovernanceError(
            f"{address} was not assigned by this server, so it writes no file there: use an experiment made here"
        )
    return parsed.path


def plain(path: str) -> str:
    """A relative POSIX path in one spelling."""
    before = None
    while path != before:
        before, path = path, unquote(path)
    return unicodedata.normalize("NFC", posixpath.normpath("/" + path.replace("\\", "/")).lstrip("/")).casefold()


def _within(place: str, folder: str) -> bool:
    return not folder or place == folder or place.startswith(f"{folder}/")
