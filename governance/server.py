"""The MLflow server with the project's policy in front: an app of MLflow's plugin group `mlflow.app`.

`mlflow server --app-name signals` (which is what `signals ui` starts) answers every request that
would change something governed by the rulings of `governance.rulings`: refused with the reason,
which MLflow's pages show in their own dialogs; carried out as the promotion or review that it asks
for, with every check of the command line; or let through. `signals-team` is the same over MLflow's
basic authentication, where the user is the one who logged in.

MLflow offers no public hook for this: the module leans on the endpoint names of its Flask app, on
its request parser and on its native artifact route. The version is pinned, and the tests list every
route of the installed one.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.checkout import find_root
from core.errors import StorageError
from governance.access_log import Person, write_line
from governance.decide import error_of, ruling_on
from governance.lineage import author
from governance.mlflow_request import CHANGES, needs_ruling, read_request
from governance.native_routes import guard_outside
from governance.rulings import Request

if TYPE_CHECKING:
    from fastapi import FastAPI
    from flask import Flask, Response
    from starlette.types import Scope

SINGLE_USER = (
    "unauthenticated single-user mode: whoever reaches this server acts as {name}, and review.by is taken at its "
    "word; keep it on this machine, or start it with --team for logins"
)

_log = logging.getLogger("signals.server")
_WHO = "signals.who"
_DONE = {"promote": "promoted", "review": "reviewed", "allow": "allowed", "refuse": "refused"}


def create_app() -> FastAPI | Flask:
    """The server of one person on one machine: no login, the user is git's identity.

    Returns
    -------
    FastAPI or Flask
        What the chosen web server runs: uvicorn the first, gunicorn and waitress the second.
    """
    from mlflow.server import app

    _log.warning(SINGLE_USER.format(name=author(find_root())))
    _guard(app, _local_person)
    if not _asynchronous():
        return app
    from mlflow.server.fastapi_app import create_fastapi_app

    return guard_outside(create_fastapi_app(app), lambda _: _local_person())


def create_team_app() -> FastAPI | Flask:
    """The same behind MLflow's basic authentication; needs the extra `team`.

    Raises
    ------
    ImportError
        The extra is not installed.
    """
    from mlflow.server import app
    from mlflow.server.auth import create_app as with_logins

    # First the login, then the policy: Flask asks its hooks in the order they came.
    made = with_logins(app)
    _guard(app, _logged_in_person)
    return made if made is app else guard_outside(made, _claimed_person)


def _asynchronous() -> bool:
    from mlflow.environment_variables import _MLFLOW_SGI_NAME

    return _MLFLOW_SGI_NAME.get() == "uvicorn"


# Who asks.


def _local_person() -> Person:
    return Person(author(find_root()), verified=False)


def _logged_in_person() -> Person:
    from flask import g, request

    name = getattr(g, "mlflow_authenticated_user", None)
    if name:
        return Person(name, verified=True)
    return Person(request.authorization.username or "" if request.authorization else "", verified=False)


def _claimed_person(scope: Scope) -> Person:
    """The user of a request that the login in front has let through."""
    for name, value in scope["headers"]:
        kind, _, text = value.decode("latin-1").partition(" ")
        if name == b"authorization" and kind.casefold() == "basic":
            return Person(base64.b64decode(text).decode("utf-8", "replace").partition(":")[0], verified=True)
    return Person("", verified=False)


# Requests that Flask answers.


def _guard(app: Flask, who: Callable[[], Person]) -> None:
    """Put the policy before, and the access log after, every request of MLflow's Flask app."""
    hooked = _WHO in app.extensions
    app.extensions[_WHO] = who
    if not hooked:
        app.before_request(_before)
        app.after_request(_after)


@dataclass(frozen=True)
class _Note:
    """What the access log is to say of a request, as far as it is known."""

    root: Path
    person: Person
    asked: Request
    verdict: str
    reason: str = ""


def _before() -> Response | None:
    from flask import current_app, g, request

    if not needs_ruling():
        return None
    root, person = find_root(), current_app.extensions[_WHO]()
    asked, ruling, failure = ruling_on(root, person, str(request.endpoint), lambda model: read_request(root, model))
    if failure is not None:
        g.signals = _Note(root, person, asked, "failed", failure[0])
        return _answer(*failure)
    if ruling is None:
        return None
    g.signals = _Note(root, person, asked, _DONE[ruling.verdict], ruling.reason)
    if ruling.verdict == "allow":
        return None
    if ruling.verdict == "refuse":
        return _answer(ruling.reason, "PERMISSION_DENIED")
    # Done through the ledger, which has set MLflow's alias and tags: the handler has nothing left to do.
    return current_app.response_class("{}", mimetype="application/json")


def _after(response: Response) -> Response:
    from flask import current_app, g, request

    note: _Note | None = g.pop("signals", None)
    if note is None:
        if request.method not in CHANGES or response.status_code not in (401, 403):
            return response
        # Turned away by the login, or by MLflow's own checks, before the policy was asked.
        person = current_app.extensions[_WHO]()
        note = _Note(find_root(), person, Request(str(request.endpoint)), "refused", "by MLflow")
    verdict = "failed" if note.verdict == "allowed" and response.status_code >= 400 else note.verdict
    route = f"{request.method} {request.path}"
    try:
        write_line(
            *(note.root, note.person, route, note.asked.action, note.asked.fields),
            *(verdict, note.reason, response.status_code),
        )
    except StorageError as error:
        return _answer(f"{verdict}, but the access log could not be written: {error}", "INTERNAL_ERROR")
    return response


def _answer(message: str, code: str) -> Response:
    """An error in MLflow's own form, which its pages show."""
    from flask import current_app

    status, text = error_of(message, code)
    return current_app.response_class(text, status=status, mimetype="application/json")
