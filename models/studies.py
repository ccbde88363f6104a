"""Where an Optuna study is kept: a local journal with one owner, or a storage that workers share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import StorageError
from core.files import disk_errors

if TYPE_CHECKING:
    import optuna


@contextlib.contextmanager
def open_study(study: str, journal: Path, url: str | None) -> Iterator[optuna.Study]:
    """The study, ready to go on: new, or cleared of what a dead process left.

    Parameters
    ----------
    study
        Its name; another name in the same place is another study.
    journal
        File of the local journal, owned by this process while the study is open.
    url
        Optuna storage URL to use instead, shared by workers.

    Raises
    ------
    StorageError
        Another process owns the journal, the disk refuses, or the shared storage does not answer.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url is not None:
        shared = _shared_storage(url)
        opened = optuna.create_study(storage=shared, study_name=study, direction="maximize", load_if_exists=True)
        yield opened
        return
    with _sole_owner(journal):
        _mend(journal)
        backend = JournalFileBackend(str(journal))
        storage = optuna.storages.JournalStorage(backend)
        opened = optuna.create_study(storage=storage, study_name=study, direction="maximize", load_if_exists=True)
        for trial in opened.get_trials(deepcopy=False):
            if not trial.state.is_finished():
                storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.FAIL)
        with disk_errors(journal):
            yield opened


def _shared_storage(url: str) -> optuna.storages.BaseStorage:
    import optuna
    import sqlalchemy.exc

    try:
        return optuna.storages.RDBStorage(url)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise StorageError(
            f"tuning.storage does not answer ({reason}): check the URL and its driver, or set it to null"
        ) from None


@contextlib.contextmanager
def _sole_owner(journal: Path) -> Iterator[None]:
    """Hold the journal for this process; the operating system lets go of it when the process dies."""
    import filelock

    with disk_errors(journal):
        journal.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(journal.with_suffix(".owner"))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise StorageError(
                f"{journal} is in use by another process: wait for it, or set tuning.storage to share a study"
            ) from None
    try:
        yield
    finally:
        lock.release()


def _mend(journal: Path) -> None:
    """Drop a last line that a killed process did not finish, and the lock it left."""
    with disk_errors(journal):
        for left in journal.parent.glob(f"{journal.name}.lock*"):
            left.unlink()
        if not journal.exists():
            return
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with journal.open("r+b") as handle:
                handle.truncate(whole)
