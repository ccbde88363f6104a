"""Requests to the MLflow server, read as MLflow itself reads them.

A request in another spelling (camel case, JSON within a string, a model named by its run) must not
slip past the policy, so its own parser and its own store say what it is about.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from governance.rulings import Request

CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
"""HTTP methods that may change something."""

_READS = ("Search", "Get", "Query", "BatchGet", "Calculate", "CreatePresignedDownloadUrl")
_READING_PAGES = frozenset({"_graphql", "serve_search_datasets", "serve_post_ui_telemetry"})


def changes_something() -> bool:
    """Whether the request that Flask has in hand may change anything."""
    from flask import request

    if request.method not in CHANGES or request.endpoint is None or request.endpoint in _READING_PAGES:
        return False
    kind = _kinds().get(request.endpoint)
    return kind is None or not kind.DESCRIPTOR.name.startswith(_READS)


def read_request(model: str) -> Request | None:
    """The request that Flask has in hand; None where MLflow cannot read it either, and will say so itself.

    Parameters
    ----------
    model
        Name of the governed model and of its experiment.
    """
    from flask import request
    from google.protobuf.json_format import MessageToDict
    from mlflow.exceptions import MlflowException
    from mlflow.server import handlers

    route = dict(request.view_args or {})
    kind = _kinds().get(str(request.endpoint))
    if kind is None:
        # Which of the two its handler listens to is not known here: either may name the experiment.
        query, body = request.args.to_dict(), _body()
        inside = any(_inside({**part, **route}, model) for part in (query, body))
        return Request(str(request.endpoint), {**body, **query, **route}, inside)
    try:
        message = handlers._get_request_message(kind())
    except MlflowException:
        return None
    fields = {**MessageToDict(message, preserving_proto_field_name=True), **route}
    of_registry = kind.DESCRIPTOR.file.name.endswith("model_registry.proto")
    return Request(kind.DESCRIPTOR.name, fields, inside=not of_registry and _inside(fields, model))


def _body() -> dict[str, Any]:
    """The JSON object in the body, also one within a string; empty where there is none."""
    from flask import request

    body = request.get_json(force=True, silent=True)
    if isinstance(body, str):
        with contextlib.suppress(ValueError):
            body = json.loads(body)
    return body if isinstance(body, dict) else {}


def _kinds() -> dict[str, Any]:
    """MLflow's request messages by the name of the endpoint that takes them."""
    from mlflow.server.handlers import HANDLERS

    return {handler.__name__: message for message, handler in HANDLERS.items()}


def _inside(fields: Mapping[str, Any], model: str) -> bool:
    """Whether a request names the governed experiment, or a run or logged model of it."""
    from mlflow.exceptions import MlflowException
    from mlflow.server.handlers import _get_tracking_store

    named = {key: str(fields[key]) for key in ("run_id", "run_uuid", "model_id", "experiment_id") if fields.get(key)}
    if not named:
        return False
    store = _get_tracking_store()
    governed = store.get_experiment_by_name(model)
    if governed is None:
        return False
    find: dict[str, Callable[[str], str]] = {
        "run_id": lambda name: store.get_run(name).info.experiment_id,
        "run_uuid": lambda name: store.get_run(name).info.experiment_id,
        "model_id": lambda name: store.get_logged_model(name, allow_deleted=True).experiment_id,
        "experiment_id": str,
    }
    for key, value in named.items():
        try:
            if str(find[key](value)) == str(governed.experiment_id):
                return True
        except MlflowException:
            # No such run or model: MLflow's own handler says so.
            continue
    return False
