"""What MLflow answers outside Flask: uploads to the proxied artifact store, traces, its gateway, jobs and assistant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from core.checkout import find_root
from core.errors import StorageError
from governance.access_log import Person, write_line
from governance.decide import error_of, ruling_on
from governance.endpoints import KINDS, native_name
from governance.mlflow_request import read_native

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send


def guard_outside(app: FastAPI, who: Callable[[Scope], Person]) -> FastAPI:
    """Put the policy before the routes of MLflow's FastAPI app.

    Parameters
    ----------
    app
        MLflow's app; changed in place.
    who
        Names the user of a request.
    """
    from starlette.middleware import Middleware
    from starlette.routing import Mount

    native = [route for route in app.router.routes if not isinstance(route, Mount)]
    # The last of the list is the innermost: it runs after MLflow's own security and login.
    app.user_middleware.append(Middleware(_Outside, who=who, native=native))
    return app


class _Outside:
    """ASGI middleware, inside every other: rules on the native routes that are served, and closes the others."""

    def __init__(self, app: ASGIApp, who: Callable[[Scope], Person], native: Sequence[BaseRoute]) -> None:
        self.app, self.who, self.native = app, who, native

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = None
        if scope["type"] == "http":
            from starlette.concurrency import run_in_threadpool

            answer = await run_in_threadpool(self._refused, scope)
        if answer is None:
            await self.app(scope, receive, send)
            return
        from starlette.responses import Response as Answer

        status, text = answer
        await Answer(text, status, media_type="application/json")(scope, receive, send)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        from starlette.routing import Match

        route = f"{scope['method']} {scope['path']}"
        served = native_name(scope["method"], scope["path"])
        if served is None:
            if any(native.matches(dict(scope))[0] is Match.FULL for native in self.native):
                # The assistant, for one, runs shell commands as the server's own user, who can write the ledger.
                return error_of(f"{route} is closed on this server: see docs/governance.md", "ENDPOINT_NOT_FOUND")
            return None
        name, parts = served
        if KINDS[name] == "read":
            return None
        root, person = find_root(), self.who(scope)
        asked, ruling, failure = ruling_on(
            root, person, name, lambda model: read_native(root, model, name, parts, scope["headers"])
        )
        verdict, reason, answer = "allowed", "", None
        if failure is not None:
            verdict, reason, answer = "failed", failure[0], error_of(*failure)
        elif ruling is not None and ruling.verdict == "refuse":
            verdict, reason, answer = "refused", ruling.reason, error_of(ruling.reason, "PERMISSION_DENIED")
        elif ruling is None:
            return None
        try:
            status = None if answer is None else answer[0]
            write_line(root, person, route, asked.action, asked.fields, verdict, reason, status)
        except StorageError as error:
            return error_of(str(error), "TEMPORARILY_UNAVAILABLE")
        return answer
