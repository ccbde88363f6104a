"""Which code runs: a digest of sources and library versions, for results that are kept between runs."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path

from core.errors import ConfigError
from core.files import canonical_json, digest_bytes, digest_file


def digest_code(packages: tuple[str, ...], libraries: tuple[str, ...] = ()) -> str:
    """SHA-256 of every source file of top-level packages and of the versions of libraries.

    Parameters
    ----------
    packages
        Importable packages; all modules below them count.
    libraries
        Names of installed distributions.

    Raises
    ------
    ConfigError
        A package cannot be imported, or a library is not installed.
    """
    sources: dict[str, str] = {}
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(f"there is no package {name!r}: run from an installed checkout (`make run`)")
        folder = Path(spec.submodule_search_locations[0])
        files = sorted(folder.rglob("*.py"))
        sources |= {f"{name}/{file.relative_to(folder).as_posix()}": digest_file(file) for file in files}
    try:
        versions = {name: metadata.version(name) for name in libraries}
    except metadata.PackageNotFoundError as error:
        raise ConfigError(f"the library {error.name!r} is not installed: run `make run`") from error
    return digest_bytes(canonical_json([sources, versions]).encode())
