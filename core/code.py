"""Which code runs: a digest of sources and library versions, for results that are kept between runs."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable
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


def reachable(root: Path, starts: Iterable[str], packages: Iterable[str]) -> list[str]:
    """Files of packages that modules import, at the top or later, directly or through others.

    Parameters
    ----------
    root : pathlib.Path
        Folder of the packages.
    starts : Iterable[str]
        Files to start from, relative to the root.
    packages : Iterable[str]
        Top-level packages whose files count.

    Returns
    -------
    list of str
        Relative POSIX paths, sorted, the starts included where they exist.
    """
    found: set[str] = set()
    waiting = [name for name in starts if (root / name).is_file()]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for node in ast.walk(ast.parse((root / name).read_bytes())):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for module in modules:
                parts = module.split(".")
                if parts[0] in packages:
                    files = ["/".join(parts) + ".py", *("/".join(parts[:n]) + "/__init__.py" for n in range(1, 9))]
                    waiting += [file for file in files if (root / file).is_file()]
    return sorted(found)


def running(names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the files that modules run from, or would be imported from, wherever their packages lie.

    Parameters
    ----------
    names : Iterable[str]
        Files relative to the folder of their packages, `core/code.py`.

    Returns
    -------
    dict
        By name; a file that is nowhere is left out. A module that runs from a compiled file has the digest of that.
    """
    found = {}
    for name in names:
        package, _, rest = name.partition("/")
        module = sys.modules.get(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        spec = importlib.util.find_spec(package)
        folders = (spec and spec.submodule_search_locations) or []
        place = getattr(module, "__file__", None) or next((Path(folder) / rest for folder in folders), None)
        if place is not None and Path(place).is_file():
            found[name] = digest_file(place)
    return found
