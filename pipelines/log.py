"""What a command says of its own work: lines for people, or one JSON object a line for machines.

A secret never gets into a log: the value of every environment variable whose name says that it is
one, and the user and password of an address, are blotted out of whatever is told.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from core.errors import SignalsError
from core.text import shown

VARIABLE = "SIGNALS_LOG"
HIDDEN = "***"
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
_ADDRESS = re.compile(r"(\w://)[^\s/@]+@")
_SHORTEST = 6
"""A shorter value is no secret worth the name, and would blot out words."""


class Log:
    """Tells events of one command.

    Parameters
    ----------
    command
        Name of the command, a field of every JSON line.
    as_json
        JSON lines on standard error, and nothing on standard output; the environment variable
        `SIGNALS_LOG=json` asks for the same. Else results go to standard output, the rest to standard error.
    """

    def __init__(self, command: str, as_json: bool = False) -> None:
        self.command = command
        self.as_json = as_json or wants_json()
        self._started = self._begun = time.monotonic()
        self._context: dict[str, Any] = {}

    def begin(self, session: Any = None) -> None:
        """Name a session in every further line and count durations from here; without one, end the last."""
        self._context = {} if session is None else {"session": str(session)}
        self._begun = self._started if session is None else time.monotonic()

    def know(self, **fields: Any) -> None:
        """Add fields to every further line of the session."""
        self._context = {**self._context, **fields}

    def result(self, event: str, message: str, **fields: Any) -> None:
        """What was done."""
        if self.as_json:
            self._write("info", event, message, fields)
        else:
            print(shown(hide_secrets(message)))

    def warning(self, message: str, event: str = "warning", **fields: Any) -> None:
        """What must be known, and stops nothing."""
        if self.as_json:
            self._write("warning", event, message, fields)
        else:
            print(f"warning: {shown(hide_secrets(message))}", file=sys.stderr)

    def failure(self, error: SignalsError) -> None:
        """An expected error that ends the command, or one session of it: one line."""
        message = " ".join(str(error).split())
        if self.as_json:
            self._write("error", "failed", message, {"error": type(error).__name__, "exit_code": error.exit_code})
        else:
            print(f"error: {shown(hide_secrets(message))}", file=sys.stderr)

    def crash(self, error: BaseException) -> None:
        """A fault of the program itself, with its traceback in one field; only where the lines are JSON."""
        told = "".join(traceback.format_exception(error))
        fields = {"error": type(error).__name__, "exit_code": 1, "traceback": hide_secrets(told)}
        self._write("critical", "crashed", " ".join(str(error).split()), fields)

    def _write(self, level: str, event: str, message: str, fields: dict[str, Any]) -> None:
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "command": self.command,
            "event": event,
            **self._context,
            **fields,
            "duration": round(time.monotonic() - self._begun, 3),
            "message": hide_secrets(message),
        }
        print(json.dumps(line, ensure_ascii=False, default=str), file=sys.stderr, flush=True)


def wants_json() -> bool:
    """Whether the environment asks for JSON lines."""
    return os.environ.get(VARIABLE, "").strip().lower() == "json"


def hide_secrets(text: str) -> str:
    """The text without the values of secret environment variables, and without user and password of addresses."""
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST:
            text = text.replace(value, HIDDEN)
    return _ADDRESS.sub(rf"\1{HIDDEN}@", text)


@contextmanager
def told(log: Log) -> Iterator[None]:
    """End the process with the exit code of an expected error, told in one line; JSON tells any other in one too."""
    try:
        yield
    except SignalsError as error:
        log.failure(error)
        sys.exit(error.exit_code)
    except Exception as error:
        if not log.as_json:
            raise
        log.crash(error)
        sys.exit(1)
