"""The access log: who asked the MLflow server for what, and what it said.

One JSON object a line, beside the ledger. It is the story of attempts, refusals included; the
ledger stays the record of decisions.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.files import canonical_json, disk_errors
from governance.places import ACCESS_LOG

_LONGEST = 200
_TOLD = (
    *("name", "new_name", "version", "alias", "stage", "key", "value"),
    *("run_id", "run_uuid", "model_id", "experiment_id", "artifact_path", "path", "artifact_location"),
)


@dataclass(frozen=True)
class Person:
    """Who asks: a name, and whether the server has checked it."""

    name: str
    verified: bool


def write_line(
    root: Path,
    person: Person,
    route: str,
    action: str,
    fields: Mapping[str, Any],
    verdict: str,
    reason: str,
    status: int | None,
) -> None:
    """Append one line, whole or not at all.

    Parameters
    ----------
    route
        Method and path, as asked.
    verdict
        allowed, refused, promoted, reviewed or failed.
    status
        HTTP status of the answer; None for an upload that MLflow goes on to answer.

    Raises
    ------
    StorageError
        The disk refused.
    """
    line = {
        "time": datetime.now(UTC).isoformat(timespec="microseconds"),
        "user": person.name,
        "verified": person.verified,
        "route": route,
        "action": action,
        "target": {key: str(fields[key])[:_LONGEST] for key in _TOLD if fields.get(key)},
        "verdict": verdict,
        "reason": reason,
        "status": status,
    }
    path = root / ACCESS_LOG
    with disk_errors(path):
        # One write to a file opened for appending: two workers never mix their lines.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, canonical_json(line).encode() + b"\n")
        finally:
            os.close(handle)
