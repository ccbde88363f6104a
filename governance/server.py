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

from core.errors import ConfigError, GovernanceError, SignalsError, StorageError
from governance import promotion
from governance.access_log import Person, write_line
from governance.gates import GovernanceRule
from governance.lineage import author
from governance.mlflow_request import CHANGES, changes_something, read_request
from governance.people import identities, same_person
from governance.places import project_root
from governance.policy import load_policy
from governance.rulings import BY, CHAMPION, Known, Request, Ruling, concerns, refuse, rule
from governance.snapshot import snapshot

if TYPE_CHECKING:
    from fastapi import FastAPI
    from flask import Flask, Response
    from starlette.types import ASGIApp, Receive, Scope, Send

SINGLE_USER = (
    "unauthenticated single-user mode: whoever reaches this server acts as {name}, and review.by is taken at its "
    "word; keep it on this machine, or start it with --team for logins"
)

_log = logging.getLogger("signals.server")
_WHO = "signals.who"
_ARTIFACTS = "/mlflow-artifacts/artifacts/"
_ASSISTANT = "/ajax-api/3.0/mlflow/assistant"
_FORBIDDEN = 403
_DONE = {"promote": "promoted", "review": "reviewed", "allow": "allowed", "refuse": "refused"}


def create_app() -> FastAPI | Flask:
    """The server of one person on one machine: no login, the user is git's identity.

    Returns
    -------
    FastAPI or Flask
        What the chosen web server runs: uvicorn the first, gunicorn and waitress the second.
    """
    from mlflow.server import app

    _log.warning(SINGLE_USER.format(name=author(project_root())))
    _guard(app, _local_person)
    if not _asynchronous():
        return app
    from mlflow.server.fastapi_app import create_fastapi_app

    return _guard_outside(create_fastapi_app(app), lambda _: _local_person())


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
    return made if made is app else _guard_outside(made, _claimed_person)


def _asynchronous() -> bool:
    from mlflow.environment_variables import _MLFLOW_SGI_NAME

    return _MLFLOW_SGI_NAME.get() == "uvicorn"


# Who asks.


def _local_person() -> Person:
    return Person(author(project_root()), verified=False)


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

    if not changes_something():
        return None
    root, person = project_root(), current_app.extensions[_WHO]()
    asked = Request(str(request.endpoint))
    try:
        policy = load_policy(root)
        found = read_request(policy.model)
        if found is None or not concerns(found, policy.model):
            return None
        asked = found
        ruling = decide(root, policy, person, asked)
    except StorageError as error:
        g.signals = _Note(root, person, asked, "failed", str(error))
        return _answer(str(error), "TEMPORARILY_UNAVAILABLE")
    except SignalsError as error:
        ruling = refuse(str(error))
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
        note = _Note(project_root(), person, Request(str(request.endpoint)), "refused", "by MLflow")
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

    status, text = _error(message, code)
    return current_app.response_class(text, status=status, mimetype="application/json")


def _error(message: str, code: str) -> tuple[int, str]:
    from mlflow.exceptions import MlflowException
    from mlflow.protos import databricks_pb2

    error = MlflowException(message, error_code=databricks_pb2.ErrorCode.Value(code))
    return error.get_http_status_code(), error.serialize_as_json()


def decide(root: Path, policy: GovernanceRule, person: Person, asked: Request) -> Ruling:
    """Rule on a request, and carry out the decision it asks for.

    Raises
    ------
    GovernanceError
        The ledger or the registry cannot be trusted, or the decision may not be made.
    StorageError
        The disk refused, or another command holds the registry.
    """
    _, state, registry = snapshot(root, policy.model, policy.require_signatures)
    known = Known(root, policy.model, state, registry)
    ruling = rule(asked, known)
    if ruling.verdict == "promote":
        promotion.promote(root, policy, ruling.version, person.name, f"alias {CHAMPION} set in MLflow")
    elif ruling.verdict == "review":
        by = _reviewer(person, ruling.by)
        promotion.review(root, policy, ruling.version, ruling.status, by, ruling.comment)
    return ruling


def _reviewer(person: Person, named: str) -> str:
    """Who reviews: the login, or, where there is none, the name the tag gives (as `--by` does)."""
    if not person.verified:
        return named or person.name
    if not any("@" in identity for identity in identities(person.name)):
        raise GovernanceError(
            f"the login {person.name} is no email address, so nobody can tell whether it is the author's: "
            "give reviewers logins that are the addresses git knows them by"
        )
    if named and not same_person(named, person.name):
        raise GovernanceError(f"{BY} says {named}, but you are logged in as {person.name}: set it to your own name")
    return person.name


# What MLflow answers outside Flask: uploads to the proxied artifact store, and its assistant.


class _Outside:
    """ASGI middleware, inside every other: refuses uploads over governed files, and closes the assistant."""

    def __init__(self, app: ASGIApp, who: Callable[[Scope], Person]) -> None:
        self.app, self.who = app, who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = None
        if scope["type"] == "http" and _ASSISTANT in scope["path"]:
            # It runs shell commands as the server's own user, who can write the ledger.
            answer = _error("MLflow's assistant is closed here: it could write the ledger", "ENDPOINT_NOT_FOUND")
        elif scope["type"] == "http" and scope["method"] == "PUT" and _ARTIFACTS in scope["path"]:
            from starlette.concurrency import run_in_threadpool

            answer = await run_in_threadpool(self._refused, scope)
        if answer is None:
            await self.app(scope, receive, send)
            return
        from starlette.responses import Response as Answer

        status, text = answer
        await Answer(text, status, media_type="application/json")(scope, receive, send)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        root, person = project_root(), self.who(scope)
        asked = Request("UploadArtifact", {"artifact_path": scope["path"].partition(_ARTIFACTS)[2]})
        try:
            reason = _objection(root, person, asked)
            verdict, status = ("refused", _FORBIDDEN) if reason else ("allowed", None)
            write_line(root, person, f"PUT {scope['path']}", asked.action, asked.fields, verdict, reason, status)
        except StorageError as error:
            return _error(str(error), "TEMPORARILY_UNAVAILABLE")
        return _error(reason, "PERMISSION_DENIED") if reason else None


def _objection(root: Path, person: Person, asked: Request) -> str:
    """Why an upload may not be; empty where it may."""
    try:
        return decide(root, load_policy(root), person, asked).reason
    except (ConfigError, GovernanceError) as error:
        return str(error)


def _guard_outside(app: FastAPI, who: Callable[[Scope], Person]) -> FastAPI:
    from starlette.middleware import Middleware

    # The last of the list is the innermost: it runs after MLflow's own security and login.
    app.user_middleware.append(Middleware(_Outside, who=who))
    return app
