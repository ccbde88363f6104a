"""The signals of every session of a range, each from the champion and the data of its day.

Each session is written whole or not at all, and one that stands whole is left alone: a run that was killed, or ended
in failures, goes on where the next one begins.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from core.dates import date_option
from core.errors import ConfigError, SessionError, SignalsError, StorageError
from pipelines.infer import Job, serve, whole_day
from pipelines.layout import SIGNALS
from pipelines.log import Log
from sources.calendar import Dates, last_completed, sessions

_FATAL = (ConfigError, StorageError)
"""What is no matter of one session: the next would fail alike."""


def backfill(start: str, end: str, force: bool = False, log: Log | None = None) -> int:
    """Serve every session of `[start, end]`; return the highest exit code of any, 0 where none failed.

    Parameters
    ----------
    start, end
        Days as YYYY-MM-DD; they need not be sessions themselves.
    force
        Write the sessions again that stand already.

    Raises
    ------
    SessionError
        A date is none, the range holds no session, or ends after the last completed one.
    ConfigError, StorageError
        What would end every further session alike; those before it stand.
    """
    job = Job.open(log or Log("backfill"))
    wanted = _range(start, end, last_completed(job.now))
    told: Counter[str] = Counter()
    worst = 0
    for session in wanted:
        job.log.begin(session)
        found = None if force else whole_day(job.root / SIGNALS / f"date={session}")
        if found is not None:
            told["done before"] += 1
            job.log.result("done", f"{session} done before, by version {found['version']}", version=found["version"])
            continue
        try:
            serve(job, session, force)
            told["written"] += 1
        except _FATAL:
            raise
        except SignalsError as error:
            told["failed"] += 1
            worst = max(worst, error.exit_code)
            job.log.failure(error)
    job.log.begin()
    counts = {name.replace(" ", "_"): told[name] for name in ("written", "done before", "failed")}
    listed = ", ".join(f"{told[name]} {name}" for name in ("written", "done before", "failed"))
    job.log.result("summary", f"{len(wanted)} sessions: {listed}", exit_code=worst, **counts)
    return worst


def _range(start: str, end: str, last: np.datetime64) -> Dates:
    first, final = date_option("--start", start, SessionError), date_option("--end", end, SessionError)
    if final < first:
        raise SessionError(f"--end {end} lies before --start {start}: turn them round")
    found = sessions(first, final)
    if not len(found):
        raise SessionError(f"the exchange has no session from {start} to {end}: widen the range")
    if found[-1] > last:
        raise SessionError(f"--end {end}: the last completed session is {last}; end there")
    return found
