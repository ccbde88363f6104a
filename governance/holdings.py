"""Which folders of the artifact store the versions rest on, and whether a path reaches into them.

Pure text: an address is compared however it is written (escapes, backslashes, dots, case), for a
server may keep the files on a file system that reads all of these alike.
"""

from __future__ import annotations

import posixpath
from collections.abc import Set
from pathlib import Path
from urllib.parse import unquote, urlparse

from governance.places import SCHEME, STORE
from governance.state import State

_PROXIED = "mlflow-artifacts"


def kept_folders(model: str, state: State) -> frozenset[str]:
    """Folders below the artifact store that hold the governed experiment and every registered version."""
    registrations = state.registrations.values()
    addresses = {str(record.payload[key]) for record in registrations for key in ("model_uri", "evidence_uri")}
    return frozenset({plain(model), *(plain(urlparse(address).path) for address in addresses)})


def overlaps(path: str, kept: Set[str]) -> bool:
    """Whether a path below the artifact store lies in a kept folder, or holds one."""
    place = plain(path)
    return any(_within(place, folder) or _within(folder, place) for folder in kept)


def claims(location: str, root: Path, kept: Set[str]) -> bool:
    """Whether an experiment's artifact location lies where the governed files do, or around them."""
    address = urlparse(location)
    if address.scheme in (SCHEME, _PROXIED):
        return overlaps(address.path, kept)
    if not address.path or address.scheme not in ("", "file"):
        return False
    store, place = (root / STORE).resolve(), (root / unquote(address.path)).resolve()
    return place.is_relative_to(store) or store.is_relative_to(place)


def plain(path: str) -> str:
    """A relative POSIX path in one spelling."""
    before = None
    while path != before:
        before, path = path, unquote(path)
    return posixpath.normpath("/" + path.replace("\\", "/")).lstrip("/").casefold()


def _within(place: str, folder: str) -> bool:
    return not folder or place == folder or place.startswith(f"{folder}/")
