"""Requests to the MLflow server, read as MLflow itself reads them.

A request in another spelling (camel case, JSON within a string, a model named by its run) must not
slip past the policy, so its own parser and its own store say what it is about. Where two readings
are possible (body, query, route), whatever any of them names counts.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, MutableSequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import GovernanceError
from governance.endpoints import KINDS
from governance.holdings import assigned_path
from governance.ledger import Ledger
from governance.places import LEDGER
from governance.rulings import Request

if TYPE_CHECKING:
    from mlflow.store.tracking.abstract_store import AbstractStore

CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
"""HTTP methods that may change something."""

_RUN, _MODEL, _TRACE, _EXPERIMENT = "run", "logged model", "trace", "experiment"
IDENTIFIERS: Mapping[str, str] = {
    **dict.fromkeys(("experiment_id", "experiment_ids"), _EXPERIMENT),
    **dict.fromkeys(("run_id", "run_uuid", "source_run_id"), _RUN),
    **dict.fromkeys(("model_id",), _MODEL),
    **dict.fromkeys(("trace_id", "trace_ids", "request_id", "request_ids"), _TRACE),
}
"""Fields, at any depth of a request, that name an experiment or something in one."""

# MLflow's numbers pass through `int`, which also takes " 1", "01", "1_0" and other scripts: one spelling is let in.
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_PRINTABLE = re.compile(r"[!-~]{1,500}")
_ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
_UPLOADS = frozenset({"UploadArtifact", "serve_upload_artifact"})
"""Their body is a file, whatever it says."""
_HEADERS = {b"x-mlflow-experiment-id": "experiment_id", b"x-mlflow-run-id": "run_id"}


def needs_ruling() -> bool:
    """Whether the policy has a say in the request that Flask has in hand."""
    from flask import request

    if request.endpoint is None or request.method == "OPTIONS":
        return False
    return KINDS.get(_action()) not in ("read", "logins")


def read_request(root: Path, model: str) -> Request:
    """The request that Flask has in hand.

    Parameters
    ----------
    model
        Name of the governed model and of its experiment.

    Raises
    ------
    GovernanceError
        An identifier is not spelled as MLflow spells it, or the governed experiment is not where the ledger says.
    MlflowException
        MLflow cannot read the request either, or its database does not answer.
    """
    from flask import request
    from mlflow.server import handlers

    action, kind = _action(), _messages().get(str(request.endpoint))
    is_upload = action in _UPLOADS
    route, query = dict(request.view_args or {}), request.args.to_dict(flat=False)
    body = {} if is_upload else _body()
    if kind is None or is_upload:
        fields = {**body, **request.args.to_dict(), **route}
        named: list[Any] = [route, query, body]
    else:
        message = handlers._get_request_message(kind())
        fields = {field.name: value for field, value in message.ListFields() if not _is_nested(value)} | route
        named = [route, query, body, message]
        if kind.DESCRIPTOR.name == "CreateModelVersion":
            named.append(_lineage(message))
    if action == "serve_upload_artifact":
        run = handlers._get_tracking_store().get_run(str(fields.get("run_uuid", "")))
        fields["artifact_path"] = assigned_path(run.info.artifact_uri)
    return Request(action, fields, _is_inside(root, model, named))


def read_native(root: Path, model: str, name: str, parts: Mapping[str, str], headers: list[Any]) -> Request:
    """A request that MLflow answers outside Flask.

    Parameters
    ----------
    name, parts
        As `endpoints.native_name` has them.
    headers
        The ASGI scope's.

    Raises
    ------
    GovernanceError, MlflowException
        As `read_request`.
    """
    given = [(_HEADERS[key], value.decode("latin-1")) for key, value in headers if key in _HEADERS]
    return Request(name, {**dict(given), **parts}, _is_inside(root, model, [{key: value} for key, value in given]))


def _action() -> str:
    """MLflow's name of the request in hand: that of its message, else of its endpoint."""
    from flask import request

    message = _messages().get(str(request.endpoint))
    return str(request.endpoint) if message is None else str(message.DESCRIPTOR.name)


@cache
def _messages() -> Mapping[str, Any]:
    """MLflow's request messages by the name of the endpoint that takes them."""
    from mlflow.server.handlers import HANDLERS

    return {handler.__name__: message for message, handler in HANDLERS.items()}


def _body() -> dict[str, Any]:
    """The JSON object in the body, also one within a string; empty where there is none."""
    from flask import request
    from mlflow.exceptions import MlflowException

    body = request.get_json(force=True, silent=True)
    if isinstance(body, str):
        with contextlib.suppress(ValueError):
            body = json.loads(body)
    if body is not None and not isinstance(body, dict):
        raise MlflowException.invalid_parameter_value("the body must be a JSON object")
    return body or {}


def _lineage(message: Any) -> dict[str, Any]:
    """The run and the logged model that a new version's source stands for: MLflow writes a tag on the model."""
    from mlflow.server.handlers import _resolve_registered_model_source_lineage as resolve

    given = {f"has_{key}": message.HasField(key) for key in ("run_id", "model_id")}
    _, run_id, model_id = resolve(message.source, message.run_id, message.model_id, **given)
    return {"run_id": run_id, "model_id": model_id}


def _is_nested(value: Any) -> bool:
    return hasattr(value, "ListFields") or isinstance(value, (Mapping, MutableSequence))


def _named(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every identifier that a value (JSON or a message) names, at any depth."""
    if hasattr(value, "ListFields"):
        for field, inner in value.ListFields():
            yield from _named(inner, field.name)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _named(inner, re.sub(r"(?<!^)([A-Z])", r"_\1", str(name)).lower())
    elif isinstance(value, MutableSequence):
        for inner in value:
            yield from _named(inner, key)
    elif key in IDENTIFIERS and value not in (None, "", b"") and not isinstance(value, bytes):
        yield key, str(value)


def _is_inside(root: Path, model: str, named: list[Any]) -> bool:
    """Whether a request names the governed experiment, or a run, trace or logged model of it."""
    from mlflow.server.handlers import _get_tracking_store

    store = _get_tracking_store()
    governed = _governed_experiments(root, model, store)
    found = {(IDENTIFIERS[key], value) for key, value in _named(named)}
    return any(_experiment_of(store, kind, value) in governed for kind, value in sorted(found))


def _experiment_of(store: AbstractStore, kind: str, name: str) -> str | None:
    """Number of the experiment that something is in; None where it does not exist."""
    from mlflow.exceptions import MlflowException

    if not (_NUMBER if kind == _EXPERIMENT else _PRINTABLE).fullmatch(name):
        raise GovernanceError(f"{name[:80]!r} does not name {_article(kind)} as MLflow spells it: copy it from MLflow")
    try:
        if kind == _EXPERIMENT:
            return name
        if kind == _RUN:
            return str(store.get_run(name).info.experiment_id)
        if kind == _MODEL:
            return str(store.get_logged_model(name, allow_deleted=True).experiment_id)
        return str(store.get_trace_info(name).experiment_id)
    except MlflowException as error:
        # MLflow's own handler says that there is no such thing. A database that does not answer proves nothing.
        if error.error_code not in _ABSENT:
            raise
        return None


def _governed_experiments(root: Path, model: str, store: AbstractStore) -> frozenset[str]:
    """Numbers of the experiments that the ledger's versions are in; before the first one, that of the model's name.

    Raises
    ------
    GovernanceError
        A version's run is not in the database, or the last one's experiment has another name.
    """
    from mlflow.exceptions import MlflowException

    runs = [str(record.payload["run_id"]) for record in Ledger(root / LEDGER).read().of_kind("registered")]
    if not runs:
        found = store.get_experiment_by_name(model)
        return frozenset() if found is None else frozenset({str(found.experiment_id)})
    try:
        homes = [_home(store, run) for run in runs]
        name = store.get_experiment(homes[-1]).name
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        raise GovernanceError(
            f"the database does not have a run that the ledger registered ({error.message}): restore the database and "
            "the ledger from one backup; until then nothing is changed here"
        ) from error
    if name != model:
        raise GovernanceError(
            f"the experiment {homes[-1]} of {model} was renamed to {name}: `signals freeze` or any other governance "
            "command on the host sets the name back; until then nothing is changed here"
        )
    return frozenset(homes)


@lru_cache(maxsize=1024)
def _home(store: AbstractStore, run: str) -> str:
    """A run never moves to another experiment."""
    return str(store.get_run(run).info.experiment_id)


def _article(kind: str) -> str:
    return f"an {kind}" if kind == _EXPERIMENT else f"a {kind}"
