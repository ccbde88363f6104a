"""Where an Optuna study is kept: a local journal with one owner, or a storage that workers share."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
        Another process owns the journal, the journal is damaged, the disk refuses, or the shared storage does not
        answer.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url is not None:
        shared = _shared_storage(url)
        opened = optuna.create_study(storage=shared, study_name=study, direction="maximize", load_if_exists=True)
        yield opened
        return
    with _sole_owner(journal), disk_errors(journal):
        _recover(journal)
        yield _replay(journal, study)


def require_whole(trial: optuna.trial.FrozenTrial, searched: Set[str], folds: int, sessions: int, where: str) -> None:
    """Check that a finished trial has all that `models.tuning` writes of one, and that its parts agree.

    Parameters
    ----------
    searched : set of str
        Names of the parameters that the search varies.
    folds, sessions : int
        Numbers of inner folds and of sessions of the dataset.
    where : str
        Place of the storage, for the message.

    Raises
    ------
    StorageError
        It has not: the place where trials are kept was damaged.
    """
    import optuna

    try:
        evidence = trial.user_attrs["evidence"]
        scores = np.asarray(evidence["folds"], dtype=float)
        reported = [trial.intermediate_values[step] for step in range(len(scores))]
        means = np.cumsum(scores) / np.arange(1, len(scores) + 1)
        ended = trial.state == optuna.trial.TrialState.COMPLETE
        is_whole = (
            trial.params.keys() == searched
            and np.allclose(reported, means, rtol=1e-9, atol=1e-12)
            and (
                len(scores) == folds and np.isclose(trial.values[0], means[-1], rtol=1e-9) if ended else len(scores) > 0
            )
            and all(
                len(evidence[days]) == len(evidence[values])
                and all(type(day) is int and 0 <= day < sessions for day in evidence[days])
                and np.asarray(evidence[values], dtype=float).ndim == 1
                for days, values in (("sessions", "returns"), ("ranked", "rank_ic"))
            )
        )
    except (LookupError, TypeError, ValueError):
        is_whole = False
    if not is_whole:
        raise StorageError(
            f"{where}: the evidence of trial {trial.number} is not whole, so it is neither counted nor dropped: "
            "restore the storage from a backup, or move it away to start the study again"
        )


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


def _recover(journal: Path) -> None:
    """Drop a last line that a killed process did not finish, and the lock it left.

    Raises
    ------
    StorageError
        Any other line is not a whole operation that follows from those before it.
    """
    if not journal.exists():
        return
    if not journal.is_file():
        raise StorageError(f"{journal} is not a file: move it away")
    for left in journal.parent.glob(f"{journal.name}.lock*"):
        left.unlink()
    studies: list[str] = []
    finished: list[bool] = []
    whole = 0
    with journal.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                _follow(json.loads(line), studies, finished)
            except (ValueError, LookupError, TypeError, RecursionError):
                raise StorageError(
                    f"{journal}: line {number} is damaged, or a line before it is missing: restore the file, or keep "
                    f"the trials before it with `sed -i '{number},$d' {journal}` and run again"
                ) from None
            whole += len(line)
    if whole < journal.stat().st_size:
        os.truncate(journal, whole)


def _follow(operation: Mapping[str, Any], studies: list[str], finished: list[bool]) -> None:
    """Follow an operation of Optuna's journal: the names of the studies, and whether each trial is finished.

    Optuna passes over an operation on a trial that it does not know or that is finished: two workers may race. Here
    one process owns the journal and ends a trial before it begins the next, so that anything else says that lines are
    missing.
    """
    from optuna.storages.journal._storage import JournalOperation
    from optuna.trial import TrialState

    code = JournalOperation(operation["op_code"])
    if code == JournalOperation.CREATE_STUDY:
        if operation["study_name"] not in studies:  # it is created again each time that it is opened
            studies.append(operation["study_name"])
    elif "study_id" in operation:
        begins = code == JournalOperation.CREATE_TRIAL
        if operation["study_id"] not in range(len(studies)) or (begins and not all(finished)):
            raise LookupError
        if begins:
            finished.append(TrialState(operation.get("state", TrialState.RUNNING)).is_finished())
    elif operation["trial_id"] not in range(len(finished)) or finished[operation["trial_id"]]:
        raise LookupError
    elif code == JournalOperation.SET_TRIAL_STATE_VALUES:
        finished[operation["trial_id"]] = TrialState(operation["state"]).is_finished()


def _replay(journal: Path, study: str) -> optuna.Study:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
        opened = optuna.create_study(storage=storage, study_name=study, direction="maximize", load_if_exists=True)
        if opened.directions != [optuna.study.StudyDirection.MAXIMIZE]:
            raise ValueError("the study does not maximise")
        for trial in opened.get_trials(deepcopy=False):
            if not trial.state.is_finished():
                storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.FAIL)
    except OSError:
        raise
    except Exception as error:  # whatever Optuna's replay makes of an operation that lacks a field
        raise StorageError(
            f"{journal} cannot be replayed ({type(error).__name__}: {error}): restore the file, or move it away to "
            "start the study again"
        ) from error
    return opened
