"""A read-only look into MLflow's registry, straight from its database.

The daily job must know what the registry says without importing MLflow, which takes seconds.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import GovernanceError, StorageError
from governance.places import DATABASE
from governance.store import BACKEND, database_says, in_file, sqlite_refusal, tracking_uri

LEDGER_HEAD = "ledger.head"
_PATIENCE = 20.0


@dataclass(frozen=True)
class VersionRow:
    """One registered version as the database has it."""

    version: int
    location: str
    run_id: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Registry:
    """Aliases, tags and versions of one registered model; `highest` counts deleted versions too."""

    aliases: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[int, VersionRow] = field(default_factory=dict)
    highest: int = 0


def read_registry(root: Path, model: str) -> Registry:
    """Read one registered model.

    Raises
    ------
    ConfigError
        The environment names a database of another kind.
    GovernanceError
        There is no store, or it is not an MLflow database.
    StorageError
        The database stayed locked for 20 s, the disk refused, or its server does not answer.
    """
    uri = tracking_uri(root)
    return _from_file(root / DATABASE, model) if in_file(uri) else _from_server(uri, model)


def _from_file(path: Path, model: str) -> Registry:
    if not path.is_file():
        raise GovernanceError(f"{path} does not exist: run `signals register` first")
    try:
        # Not mode=ro: what a killed writer left half done is undone by the next who opens the file, who must be let.
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_PATIENCE)) as database:
            database.execute("PRAGMA query_only = ON")
            database.execute("BEGIN")
            return _read(lambda query: database.execute(query, {"model": model}).fetchall())
    except sqlite3.OperationalError as error:
        if refusal := sqlite_refusal(error):
            raise StorageError(f"{path} {refusal}") from error
        raise GovernanceError(f"{path} is not a readable MLflow store ({error}): restore it from a backup") from error
    except sqlite3.DatabaseError as error:
        raise GovernanceError(f"{path} is damaged ({error}): restore it from a backup") from error


def _from_server(uri: str, model: str) -> Registry:
    # Imported here: one person's store needs neither.
    import sqlalchemy
    from sqlalchemy.exc import DBAPIError, ProgrammingError

    engine = sqlalchemy.create_engine(uri, isolation_level="REPEATABLE READ", poolclass=sqlalchemy.NullPool)
    try:
        with engine.connect() as database:
            return _read(
                lambda query: [tuple(row) for row in database.execute(sqlalchemy.text(query), {"model": model})]
            )
    except ProgrammingError as error:
        raise GovernanceError(
            f"the database that {BACKEND} names is no MLflow store yet ({database_says(error)}): run `signals register`"
        ) from error
    except DBAPIError as error:
        raise StorageError(
            f"the database that {BACKEND} names does not answer ({database_says(error)}): start it, or correct it"
        ) from error


def _read(rows: Callable[[str], list[tuple]]) -> Registry:
    tags: dict[int, dict[str, str]] = {}
    for version, key, value in rows("SELECT version, key, value FROM model_version_tags WHERE name = :model"):
        tags.setdefault(version, {})[key] = value or ""
    versions = {
        version: VersionRow(version, location or source or "", run_id or "", tags.get(version, {}))
        for version, location, source, run_id in rows(
            "SELECT version, storage_location, source, run_id FROM model_versions"
            " WHERE name = :model AND current_stage != 'Deleted_Internal'"
        )
    }
    highest = rows("SELECT MAX(version) FROM model_versions WHERE name = :model")[0][0]
    return Registry(
        highest=highest or 0,
        aliases=dict(rows("SELECT alias, version FROM registered_model_aliases WHERE name = :model")),
        tags=dict(rows("SELECT key, value FROM registered_model_tags WHERE name = :model")),
        versions=versions,
    )
