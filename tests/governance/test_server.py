"""MLflow's own app behind the policy: the routes as the pages and the client call them."""

import json
import re

import pytest

from core.errors import GovernanceError, StorageError
from governance import promotion
from governance.access_log import Person
from governance.decide import _reviewer
from governance.endpoints import KINDS, NATIVE, native_name
from governance.guard import serving
from governance.mlflow_request import IDENTIFIERS
from governance.registry import read_registry
from governance.rulings import _MODEL_RULES
from governance.state import State
from tests.governance.requests import API, MODEL, PAGES, access, call, refused, send

REVIEWER = "Rob Reviewer <rob@example.org>"


def set_alias(alias, version):
    return {"name": MODEL, "alias": alias, "version": str(version)}


def set_tag(key, value, version=2):
    return {"name": MODEL, "version": str(version), "key": key, "value": value}


def aliases(world):
    return dict(read_registry(world.root, MODEL).aliases)


def ledger(world):
    return world.ledger().read().records


def test_an_alias_set_on_an_approved_version_is_a_promotion(server, governed):
    assert send(server, "POST", "registered-models/alias", **set_alias("champion", 2)) == {}
    last = ledger(governed)[-1]
    assert (last.kind, last.actor, last.payload["version"]) == ("promoted", "Ann Author <ann@example.org>", 2)
    assert last.payload["comment"] == "alias champion set in MLflow"
    served = serving(governed.root)
    assert (served.version, served.warnings) == (2, ())
    assert aliases(governed) == {"candidate": 2, "champion": 2, "previous_champion": 1}
    told = send(server, "GET", f"registered-models/get?name={MODEL}")["registered_model"]["aliases"]
    assert {"alias": "champion", "version": "2"} in told
    (line,) = access(governed)
    assert (line["user"], line["verified"]) == ("Ann Author <ann@example.org>", False)
    assert (line["route"], line["action"]) == (f"POST {PAGES}/registered-models/alias", "SetRegisteredModelAlias")
    assert (line["verdict"], line["status"]) == ("promoted", 200)
    assert line["target"] == set_alias("champion", 2)


def test_saying_it_twice_promotes_once(server, governed):
    for _ in range(2):
        send(server, "POST", "registered-models/alias", **set_alias("champion", 2))
    assert [r.kind for r in ledger(governed)].count("promoted") == 2
    assert [line["verdict"] for line in access(governed)] == ["promoted", "allowed"]


def break_artifact(world):
    (path,) = [p for p in (world.root / "mlruns/artifacts").rglob("weights.json") if '"momentum": 2.0' in p.read_text()]
    path.write_text("{}")


def approve_by_author(world):
    lax = world.policy.model_copy(update={"require_second_person": False})
    promotion.review(world.root, lax, 2, "approved", "ann@example.org", "mine is fine")


def register_failing(world):
    world.train(weight=3.0, t=1.0, seed=2)
    assert world.register().version == 3
    world.approve(3)


REASONS = {
    "no record": (lambda w: None, 7, "version 7 is not in the ledger"),
    "a failing gate": (register_failing, 3, "gate rank_ic_t fails (test.stack.rank_ic_t = 1, must be >= 3)"),
    "no approval": (lambda w: (w.train(weight=3.0, rank_ic=0.09, seed=2), w.register()), 3, "nobody has approved it"),
    "a rejection": (
        lambda w: promotion.review(w.root, w.policy, 2, "rejected", REVIEWER, "drawdown"),
        2,
        "rejected it (drawdown)",
    ),
    "its author's approval": (approve_by_author, 2, "approved by its own author"),
    "another digest": (break_artifact, 2, "weights.json was changed"),
    "a swapped row": (
        lambda w: w.sql("UPDATE model_versions SET storage_location = '/evil' WHERE version = 2"),
        2,
        "points at /evil",
    ),
    "an edited ledger": (
        lambda w: w.ledger().path.write_text(w.ledger().path.read_text().replace("Rob", "Bob")),
        2,
        "was changed after it was written",
    ),
    "broken parameters": (lambda w: (w.root / "params.yaml").write_text("seed: 1"), 2, "no block `governance`"),
}


@pytest.mark.parametrize("name", REASONS)
def test_a_version_that_may_not_serve_keeps_out_with_the_reason(server, governed, name):
    spoil, version, words = REASONS[name]
    spoil(governed)
    before, pointed = governed.ledger().path.read_bytes(), aliases(governed)
    message = refused(server, "POST", "registered-models/alias", words, **set_alias("champion", version))
    assert governed.ledger().path.read_bytes() == before
    assert aliases(governed) == pointed
    line = access(governed)[-1]
    assert (line["verdict"], line["status"], line["reason"]) == ("refused", 403, message)


def test_a_review_in_the_pages_is_a_review_in_the_ledger(server, governed):
    governed.train(weight=3.0, rank_ic=0.09, seed=2)
    assert governed.register().version == 3
    status = set_tag("review.status", "approved", 3)
    refused(server, "POST", "model-versions/set-tag", "save the tag review.comment", **status)
    send(server, "POST", "model-versions/set-tag", **set_tag("review.comment", "stable by year", 3))
    refused(server, "POST", "model-versions/set-tag", "must come from someone else", **status)
    send(server, "POST", "model-versions/set-tag", **set_tag("review.comment", "stable by year", 3))
    send(server, "POST", "model-versions/set-tag", **set_tag("review.by", REVIEWER, 3))
    send(server, "POST", "model-versions/set-tag", **status)
    last = ledger(governed)[-1]
    assert (last.kind, last.actor, last.payload["status"]) == ("reviewed", REVIEWER, "approved")
    assert last.payload["comment"] == "stable by year"
    tags = read_registry(governed.root, MODEL).versions[3].tags
    assert (tags["review.status"], tags["review.by"]) == ("approved", REVIEWER)
    send(server, "POST", "registered-models/alias", **set_alias("champion", 3))
    assert serving(governed.root).version == 3


@pytest.mark.parametrize("text", ["a\x00b", "\x1b[2J", "a" * 5001])
@pytest.mark.parametrize("key", ["review.comment", "review.by"])
def test_what_is_no_text_is_refused_in_the_pages(server, governed, key, text):
    before = read_registry(governed.root, MODEL)
    refused(server, "POST", "model-versions/set-tag", f"the tag {key} ", **set_tag(key, text))
    assert read_registry(governed.root, MODEL) == before


def test_half_a_character_in_a_request_is_its_own_fault(server, governed):
    """It cannot be sent as UTF-8, but JSON can spell it."""
    before = read_registry(governed.root, MODEL)
    for key in ("review.comment", "review.by", "mine"):
        send(server, "POST", "model-versions/set-tag", 403, **set_tag(key, "fine \ud83d"))
    assert read_registry(governed.root, MODEL) == before


def test_the_champion_is_not_rejected_but_rolled_back(server, governed):
    send(server, "POST", "model-versions/set-tag", **set_tag("review.comment", "second thoughts", 1))
    send(server, "POST", "model-versions/set-tag", **set_tag("review.by", REVIEWER, 1))
    rejection = set_tag("review.status", "rejected", 1)
    refused(server, "POST", "model-versions/set-tag", "signals rollback", **rejection)


ATTEMPTS = {
    "take the alias away": ("DELETE", "registered-models/alias", {"name": MODEL, "alias": "champion"}),
    "forge the verdict": ("POST", "model-versions/set-tag", set_tag("gates.verdict", "pass")),
    "forge the digest": ("POST", "model-versions/set-tag", set_tag("bundle.digest", "x")),
    "forge a waiver": ("POST", "model-versions/set-tag", set_tag("waiver.rank_ic", "x")),
    "forget the digest": (
        "DELETE",
        "model-versions/delete-tag",
        {"name": MODEL, "version": "2", "key": "bundle.digest"},
    ),
    "forget the ledger": ("DELETE", "registered-models/delete-tag", {"name": MODEL, "key": "ledger.head"}),
    "delete a champion": ("DELETE", "model-versions/delete", {"name": MODEL, "version": "1"}),
    "delete the model": ("DELETE", "registered-models/delete", {"name": MODEL}),
    "rename the model": ("POST", "registered-models/rename", {"name": MODEL, "new_name": "other"}),
    "rename it in camel case": ("POST", "registered-models/rename", {"name": MODEL, "newName": "other"}),
    "move its stage": (
        "POST",
        "model-versions/transition-stage",
        {"name": MODEL, "version": "2", "stage": "Production", "archive_existing_versions": False},
    ),
    "bring a version in": ("POST", "model-versions/create", {"name": MODEL, "source": "models:/m-1"}),
    "rewrite the description": (
        "PATCH",
        "model-versions/update",
        {"name": MODEL, "version": "2", "description": "Gates: pass"},
    ),
}


@pytest.mark.parametrize("base", [API, PAGES])
@pytest.mark.parametrize("name", ATTEMPTS)
def test_what_is_governed_stays(server, governed, name, base):
    method, path, fields = ATTEMPTS[name]
    before = governed.sql("SELECT * FROM model_version_tags ORDER BY 1, 2, 3"), aliases(governed)
    refused(server, method, path, "", base, **fields)
    assert (governed.sql("SELECT * FROM model_version_tags ORDER BY 1, 2, 3"), aliases(governed)) == before
    assert serving(governed.root).warnings == ()


def test_a_body_within_a_string_is_read_too(server, governed):
    body = json.dumps(json.dumps(set_alias("champion", 9)))
    answer = server.post(f"{API}/registered-models/alias", data=body, content_type="application/json")
    assert answer.status_code == 403
    assert "version 9 is not in the ledger" in answer.get_json()["message"]


def test_runs_models_and_the_experiment_behind_a_version_stay(server, governed):
    payload = State(governed.ledger().read()).registration(1).payload
    run, model = payload["run_id"], payload["model_uri"].split("/models/")[1].split("/")[0]
    experiment = str(governed.sql("SELECT experiment_id FROM experiments WHERE name = ?", MODEL)[0][0])
    words = "signals register"
    for method, path, fields in (
        ("POST", "runs/delete", {"run_id": run}),
        ("POST", "runs/log-metric", {"run_id": run, "key": "x", "value": 1.0, "timestamp": 1}),
        ("POST", "runs/log-metric", {"run_uuid": run, "key": "x", "value": 1.0, "timestamp": 1}),
        ("POST", "runs/log-metric", {"runId": run, "key": "x", "value": 1.0, "timestamp": 1}),
        ("POST", "runs/log-batch", {"run_id": run, "metrics": []}),
        ("POST", "runs/log-model", {"run_id": run, "model_json": "{}"}),
        ("POST", "runs/create", {"experiment_id": experiment, "start_time": 1}),
        ("POST", "experiments/delete", {"experiment_id": experiment}),
        ("POST", "logged-models", {"experiment_id": experiment, "name": "x"}),
        ("DELETE", f"logged-models/{model}", {}),
        ("PATCH", f"logged-models/{model}/tags", {"tags": [{"key": "a", "value": "b"}]}),
        ("POST", "artifacts/presigned-upload-url", {"run_id": run, "path": "report.html"}),
        ("POST", f"upload-artifact?run_uuid={run}&path=evaluation/report.html", {"run_uuid": "another"}),
    ):
        refused(server, method, path, words, **fields)
    refused(server, "POST", "runs/set-tag", "projection", run_id=run, key="projection", value="open")
    send(server, "POST", "runs/set-tag", run_id=run, key="mlflow.note.content", value="a note")
    assert serving(governed.root).warnings == ()
    assert {line["verdict"] for line in access(governed)} == {"refused", "allowed"}


def test_the_rest_of_mlflow_is_untouched(server, governed):
    experiment = send(server, "POST", "experiments/create", name="mine")["experiment_id"]
    run = send(server, "POST", "runs/create", experiment_id=experiment, start_time=1)["run"]["info"]["run_id"]
    send(server, "POST", "runs/log-metric", run_id=run, key="x", value=1.0, timestamp=1)
    send(server, "POST", "runs/delete", run_id=run)
    send(server, "POST", "registered-models/create", name="mine")
    send(server, "DELETE", "registered-models/delete", name="mine")
    send(server, "POST", "runs/search", experiment_ids=[experiment])
    assert [line["action"] for line in access(governed)] == ["CreateExperiment"]


def test_what_mlflow_cannot_read_it_refuses_itself(server, governed):
    answer = server.post(f"{API}/registered-models/alias", data="{", content_type="application/json")
    assert answer.status_code == 400
    told = send(server, "POST", "registered-models/alias", 400, API, **set_alias("latest", 2))
    assert told["error_code"] == "INVALID_PARAMETER_VALUE"
    assert access(governed)[-1]["verdict"] == "failed"


def test_a_locked_registry_says_try_again(server, governed, monkeypatch):
    from filelock import FileLock

    monkeypatch.setattr("governance.store._GOVERN_WAIT", 0.1)
    with FileLock(governed.root / "mlruns/.governance.lock"):
        told = send(server, "POST", "registered-models/alias", 503, **set_alias("champion", 2))
    assert told["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert "another process changes the registry" in told["message"]
    assert access(governed)[-1]["verdict"] == "failed"


def test_an_access_log_that_cannot_be_written_is_no_secret(server, governed, monkeypatch):
    def full(*_):
        raise StorageError("cannot write: the disk is full")

    monkeypatch.setattr("governance.server.write_line", full)
    told = send(server, "POST", "registered-models/alias", 500, **set_alias("mine", 2))
    assert told["message"] == "allowed, but the access log could not be written: cannot write: the disk is full"


def test_uploads_outside_flask_pass_the_same_policy(both, governed):
    kept = next((governed.root / "mlruns/artifacts").rglob("weights.json"))
    place = kept.relative_to(governed.root / "mlruns/artifacts").as_posix()
    before = kept.read_bytes()
    for prefix in ("/api", "/ajax-api"):
        status, body = call(both, "PUT", f"{prefix}/2.0/mlflow-artifacts/artifacts/{place}")
        assert (status, json.loads(body)["error_code"]) == (403, "PERMISSION_DENIED")
        status, body = call(both, "DELETE", f"{prefix}/2.0/mlflow-artifacts/artifacts/{place}")
        assert (status, json.loads(body)["error_code"]) == (403, "PERMISSION_DENIED")
    assert kept.read_bytes() == before
    assert call(both, "PUT", "/api/2.0/mlflow-artifacts/artifacts/experiments/3/x.txt")[0] == 200
    assert [(line["action"], line["verdict"]) for line in access(governed)] == [
        *[("UploadArtifact", "refused"), ("DeleteArtifact", "refused")] * 2,
        ("UploadArtifact", "allowed"),
    ]
    status, body = call(both, "POST", "/ajax-api/3.0/mlflow/assistant/message")
    assert (status, "is closed on this server" in json.loads(body)["message"]) == (404, True)
    governed.ledger().path.write_text("{}\n")
    status, body = call(both, "PUT", "/api/2.0/mlflow-artifacts/artifacts/experiments/3/x.txt")
    assert (status, "not a ledger record" in json.loads(body)["message"]) == (403, True)
    assert access(governed)[-1]["verdict"] == "refused"


def test_every_route_of_the_installed_mlflow_is_classified(app):
    """A new MLflow may bring new ways in: each is refused until it has been looked at, and entered in the table."""
    from mlflow.server.handlers import HANDLERS

    messages = {handler.__name__: message.DESCRIPTOR for message, handler in HANDLERS.items()}
    ways = {rule.endpoint for rule in app.url_map.iter_rules()}
    names = {messages[way].name if way in messages else way for way in ways}
    logins = {name for name, kind in KINDS.items() if kind == "logins"}
    assert names - logins == {*KINDS} - logins - {"export_traces"}
    # Of several messages that one handler takes, one is read: they must be of one form.
    for message, handler in HANDLERS.items():
        assert {*message.DESCRIPTOR.fields_by_name} == {*messages[handler.__name__].fields_by_name}
    of_registry = {name.name for name in messages.values() if name.file.name.endswith("model_registry.proto")}
    assert {name for name in of_registry if KINDS[name] != "read"} == {*_MODEL_RULES}
    assert {name for name, kind in KINDS.items() if kind == "registry"} == {*_MODEL_RULES}


def test_the_logins_of_a_team_are_classified(tmp_path, monkeypatch):
    auth = pytest.importorskip("mlflow.server.auth", reason="the extra `team` is not installed")
    import flask

    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "a secret of the test")
    monkeypatch.setattr(auth, "auth_config", auth.auth_config._replace(database_uri=f"sqlite:///{tmp_path}/users.db"))
    monkeypatch.setattr(auth, "create_admin_user", lambda *_: None)
    own = flask.Flask("logins")
    auth.create_app(own)
    names = {rule.endpoint for rule in own.url_map.iter_rules()} - {"static"}
    assert names == {name for name, kind in KINDS.items() if kind == "logins"}


# Identifiers that name no experiment, nor anything in one: only what was made in an experiment of one's own has them.
OWN = {
    *("queue_id", "item_id", "item_ids", "schema_id", "schema_ids", "issue_id", "dataset_id", "dataset_record_ids"),
    *("assessment_id", "webhook_id", "source_id", "span_id", "parent_span_id", "user_id", "client_request_id"),
    *("upload_id", "deployment_job_id", "update_schema_ids"),
}


def test_every_field_that_names_something_is_read(app):
    """At any depth of every message that the fence lets through."""
    from mlflow.server.handlers import HANDLERS

    def named(kind, seen=()):
        for field in kind.fields:
            if re.search(r"(_|^)(u?u?id|ids)$", field.name):
                yield field.name
            if field.message_type is not None and field.message_type.full_name not in seen:
                yield from named(field.message_type, (*seen, field.message_type.full_name))

    last = {handler.__name__: kind.DESCRIPTOR for kind, handler in HANDLERS.items()}
    messages = [kind for kind in last.values() if KINDS[kind.name] in ("fenced", "registry", "files")]
    found = {name for message in messages for name in named(message)}
    assert {"run_id", "model_id", "experiment_ids", "trace_id", "source_run_id"} <= found
    assert found <= OWN | IDENTIFIERS.keys(), found - OWN - IDENTIFIERS.keys()


def test_every_native_route_is_served_by_name_or_closed(app, monkeypatch):
    from mlflow.server import fastapi_app
    from starlette.routing import Mount

    def flat(routes, prefix=""):
        for route in routes:
            if inner := getattr(route, "original_router", None):
                yield from flat(inner.routes, prefix + route.include_context.prefix)
            elif not isinstance(route, Mount):
                yield from ((method, prefix + route.path) for method in route.methods)

    routes = set(flat(fastapi_app.create_fastapi_app(app).router.routes))
    closed = re.compile(r"(/gateway|/ajax-api/3\.0/jobs|/(ajax-)?api/3\.0/mlflow/(assistant|mcp-servers))(/.*)?")
    served = {(method, path) for method, path in routes if native_name(method, path)}
    assert {path for _, path in routes - served if not closed.fullmatch(path)} == set()
    assert {native_name(*route)[0] for route in served} == {*NATIVE.values()}


@pytest.mark.parametrize(
    ("login", "named", "words"),
    [
        ("rob", "", "is no email address"),
        ("rob@example.org", "Ann <ann@example.org>", "review.by says Ann"),
    ],
)
def test_a_login_reviews_in_its_own_name_alone(login, named, words):
    with pytest.raises(GovernanceError, match=words):
        _reviewer(Person(login, verified=True), named)
    assert _reviewer(Person("rob@example.org", verified=True), "Rob <ROB@example.org>") == "rob@example.org"
    assert _reviewer(Person("Ann <ann@example.org>", verified=False), "Rob") == "Rob"
    assert _reviewer(Person("Ann <ann@example.org>", verified=False), "") == "Ann <ann@example.org>"
