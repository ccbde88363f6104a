"""The MLflow store: one SQLite file, created once, whole or not at all; or a team's PostgreSQL database.

Two processes that create MLflow's schema at the same time corrupt it for good, so the schema is
made under a lock, and that of a file in a temporary one that is renamed into place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from core.errors import ConfigError, GovernanceError, StorageError
from core.files import atomic_file, disk_errors
from governance.places import DATABASE, LOCK, SCHEME

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from sqlalchemy.exc import DBAPIError

BACKEND = "MLFLOW_BACKEND_STORE_URI"
"""Environment variable that names a team's database; it may hold a password, so nothing prints it."""

_CREATE_WAIT = 180.0
_GOVERN_WAIT = 60.0


_REFUSALS = {
    "locked": "is locked by another process: wait for it or end it",
    "busy": "is locked by another process: wait for it or end it",
    "is full": "cannot be written, the disk is full: free some space and run again",
    "readonly": "cannot be written: make mlruns/ writable for this user and run again",
    "disk I/O": "cannot be read or written, the disk fails: check it, then run again",
}


def sqlite_refusal(error: BaseException | None) -> str:
    """What SQLite's word for a refusal of the disk means, and the remedy; empty where it is none."""
    return next((remedy for word, remedy in _REFUSALS.items() if word in str(error)), "")


def quiet_mlflow() -> None:
    """Switch off MLflow's telemetry, progress bars and chatter, before or after its import."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # `database_errors` tells it in a line
    warnings.filterwarnings("ignore", category=FutureWarning, module="mlflow")


def tracking_uri(root: Path) -> str:
    """SQLAlchemy address of the store: as the environment names it, else the file's; absolute, and stored nowhere.

    Raises
    ------
    ConfigError
        The environment names something else than a PostgreSQL database.
    """
    named = os.environ.get(BACKEND)
    if not named:
        return f"sqlite:///{(root / DATABASE).resolve()}"
    if not named.startswith("postgresql+pg8000://"):
        raise ConfigError(f"{BACKEND} must begin with postgresql+pg8000://: correct it, or unset it for {DATABASE}")
    return named


def in_file(uri: str) -> bool:
    """Whether a store is the SQLite file, and no server's database."""
    return uri.startswith("sqlite:")


def database_says(error: DBAPIError) -> str:
    """What the database said; nothing of it holds the address."""
    first = error.orig.args[0] if error.orig is not None and error.orig.args else error.orig
    return str(first["M"] if isinstance(first, dict) and "M" in first else first)


def ensure_store(root: Path) -> str:
    """Create the store where there is none and return its tracking URI.

    Raises
    ------
    ConfigError
        The environment names a database of another kind.
    StorageError
        The disk or the database refused, or another process has been creating the store for three minutes.
    """
    database = root / DATABASE
    uri = tracking_uri(root)
    if in_file(uri) and database.is_file():
        return uri
    with disk_errors(database), _held(database.with_name(".mlflow.db.lock"), _CREATE_WAIT, "creates the MLflow store"):
        if not in_file(uri):
            _fill(uri)
        elif not database.is_file():
            # A fresh name a try: a killed creation must not leave its half-made tables to the next one.
            with atomic_file(database) as temporary:
                _fill(f"sqlite:///{temporary}")
    return uri


def _fill(uri: str) -> None:
    """Make MLflow's tables where there are none."""
    quiet_mlflow()
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables

    engine = sqlalchemy.create_engine(uri)
    try:
        if sqlalchemy.inspect(engine).has_table("alembic_version"):
            return
        with warnings.catch_warnings():
            # MLflow's own migrations use what SQLAlchemy deprecates.
            warnings.simplefilter("ignore")
            _initialize_tables(engine)
    except sqlalchemy.exc.DBAPIError as error:
        raise StorageError(
            f"the database that {BACKEND} names refuses ({database_says(error)}): start it, or correct it"
        ) from error
    finally:
        engine.dispose()


@contextlib.contextmanager
def governing(root: Path) -> Iterator[None]:
    """Hold the right to change the registry and the ledger together.

    Raises
    ------
    StorageError
        Another command has held it for a minute.
    """
    (root / LOCK).parent.mkdir(parents=True, exist_ok=True)
    with disk_errors(root / LOCK), _held(root / LOCK, _GOVERN_WAIT, "changes the registry"):
        yield


@contextlib.contextmanager
def at_rest(root: Path, wait: float) -> Iterator[bool]:
    """A moment for readers in which no decision is half told: in the ledger, and not yet in MLflow.

    Parameters
    ----------
    wait
        Seconds to wait for it.

    Yields
    ------
    bool
        False where decisions were being written all the time. In a read-only folder, where no lock can be taken, True.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(FileLock(root / LOCK, timeout=wait))
        except Timeout:
            yield False
            return
        except OSError:
            pass
        yield True


@contextlib.contextmanager
def database_errors(root: Path) -> Iterator[None]:
    """Turn the database's refusals, as MLflow passes them on, into a `StorageError` that names the remedy."""
    quiet_mlflow()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except (MlflowException, DBAPIError) as error:
        cause = error.__cause__ if isinstance(error, MlflowException) else error
        refusal = sqlite_refusal(cause.orig) if isinstance(cause, DBAPIError) else ""
        if not refusal:
            raise
        raise StorageError(f"{root / DATABASE} {refusal}") from error


@contextlib.contextmanager
def _held(path: Path, wait: float, what: str) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=wait):
            yield
    except Timeout as error:
        raise StorageError(
            f"{path}: another process {what} and has not finished in {wait:.0f} s: wait for it or end it"
        ) from error


def client(root: Path) -> MlflowClient:
    """An MLflow client on the project's store (created first where there is none).

    From here on the process resolves `signals:/` addresses below `root`.
    """
    uri = ensure_store(root)
    os.environ["SIGNALS_ROOT"] = str(root)
    quiet_mlflow()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextlib.contextmanager
def tracked(uri: str) -> Iterator[None]:
    """Point MLflow's process-wide addresses at the store, and back again."""
    import mlflow

    before = (mlflow.get_tracking_uri(), mlflow.get_registry_uri())
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])


def experiment(mlflow_client: MlflowClient, name: str) -> str:
    """Identifier of the experiment, created with a relocatable artifact address.

    Raises
    ------
    GovernanceError
        Somebody else made an experiment of the name: its files would be where nothing guards them.
    """
    found, location = mlflow_client.get_experiment_by_name(name), f"{SCHEME}:/{name}"
    if found is None:
        return mlflow_client.create_experiment(name, artifact_location=location)
    if found.artifact_location != location:
        raise GovernanceError(
            f"the experiment {name} keeps its files at {found.artifact_location}, so `signals register` did not make "
            "it: rename it in MLflow, then register again"
        )
    if found.lifecycle_stage == "deleted":
        mlflow_client.restore_experiment(found.experiment_id)
    return found.experiment_id
