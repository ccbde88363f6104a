"""Attacks by requests: other spellings, other names, nested fields, other endpoints, other places for files."""

import json

import pytest

from core.errors import GovernanceError
from governance import promotion
from governance.audit import audit
from governance.guard import serving
from governance.registry import read_registry
from governance.state import State
from tests.governance.requests import MODEL, PAGES, access, call, refused, send

V3 = "/ajax-api/3.0/mlflow"


@pytest.fixture
def own(server):
    """An experiment of one's own, with a run, a logged model and a registered model."""
    experiment = send(server, "POST", "experiments/create", name="mine")["experiment_id"]
    run = send(server, "POST", "runs/create", experiment_id=experiment, start_time=1)["run"]["info"]["run_id"]
    model = send(server, "POST", "logged-models", experiment_id=experiment, name="x")["model"]["info"]["model_id"]
    send(server, "POST", "registered-models/create", name="mine")
    return {"experiment": experiment, "run": run, "model": model}


@pytest.fixture
def theirs(governed):
    """What the ledger's first version is made of."""
    payload = State(governed.ledger().read()).registration(1).payload
    return {
        "experiment": str(governed.sql("SELECT experiment_id FROM experiments WHERE name = ?", MODEL)[0][0]),
        "run": payload["run_id"],
        "model": payload["model_uri"].split("/models/")[1].split("/")[0],
    }


TABLES = (
    "experiments",
    "runs",
    "metrics",
    "params",
    "tags",
    "logged_models",
    "logged_model_tags",
    "logged_model_metrics",
)
TABLES += ("registered_model_tags", "model_version_tags", "model_versions", "inputs", "trace_info", "experiment_tags")


def rows(world):
    return {table: sorted(map(repr, world.sql(f"SELECT * FROM {table}"))) for table in TABLES}


SPELLINGS = ["0{0}", " {0}", "{0} ", "{0}\n", "{0}.0", "+{0}", "{0}_", "0_{0}", "0x{0}", "\u0660{0}", "fullwidth"]


def test_the_experiment_is_governed_in_every_spelling(server, governed, theirs):
    for spelling in SPELLINGS:
        number = theirs["experiment"]
        wide = number.translate({ord(digit): ord(digit) + 0xFEE0 for digit in "0123456789"})
        written = wide if spelling == "fullwidth" else spelling.format(number)
        before = rows(governed)
        for path, fields in (
            ("experiments/update", {"new_name": "other"}),
            ("experiments/delete", {}),
            ("experiments/set-experiment-tag", {"key": "a", "value": "b"}),
            ("runs/create", {"start_time": 1}),
            ("logged-models", {"name": "x"}),
            ("traces", {"timestamp_ms": 1}),
        ):
            refused(server, "POST", path, "as MLflow spells it", experiment_id=written, **fields)
        assert rows(governed) == before
        assert {line["verdict"] for line in access(governed)} == {"refused"}


def test_a_number_beyond_every_database_is_no_fault_of_the_server(server, governed):
    for number in ("9" * 5000, "9" * 20, "9" * 10):
        refused(server, "POST", "experiments/delete", "as MLflow spells it", experiment_id=number)
        for method, path in (("POST", "registered-models/alias"), ("DELETE", "model-versions/delete")):
            refused(server, method, path, "no version number", name=MODEL, alias="champion", version=number)


NESTED = {
    "metric of a batch": ("POST", "runs/log-batch", "{run}", {"metrics": [{"model_id": "{model}"}]}),
    "metric in camel case": ("POST", "runs/log-batch", "{run}", {"metrics": [{"modelId": "{model}"}]}),
    "run of a metric": ("POST", "runs/log-batch", "{run}", {"metrics": [{"run_id": "{theirs}"}]}),
    "metric": ("POST", "runs/log-metric", "{run}", {"key": "x", "value": 1, "timestamp": 1, "model_id": "{model}"}),
    "input": ("POST", "runs/log-inputs", "{run}", {"models": [{"model_id": "{model}"}]}),
    "output": ("POST", "runs/outputs", "{run}", {"models": [{"model_id": "{model}", "step": 0}]}),
    "two runs": ("POST", "runs/set-tag", "{run}", {"run_uuid": "{theirs}", "key": "author", "value": "me"}),
    "source run": ("POST", "logged-models", None, {"experiment_id": "{mine}", "source_run_id": "{theirs}"}),
    "upload of a model": ("POST", "artifacts/presigned-upload-url", "{run}", {"path": "x", "model_id": "{model}"}),
    "version of another model": (
        *("POST", "model-versions/create", None),
        {"name": "mine", "source": "models:/{model}", "model_id": "{model}"},
    ),
    "copy of a version": ("POST", "model-versions/create", None, {"name": "mine", "source": f"models:/{MODEL}/1"}),
    "copy by alias": ("POST", "model-versions/create", None, {"name": "mine", "source": f"models:/{MODEL}@champion"}),
    "version of a run": (
        "POST",
        "model-versions/create",
        "{theirs}",
        {"name": "mine", "source": "mlflow-artifacts:/9"},
    ),
    "trace": (
        *("POST", "/traces", None),
        {
            "trace": {
                "trace_info": {"trace_id": "tr-1", "trace_location": {"mlflow_experiment": {"experiment_id": "{1}"}}}
            }
        },
    ),
    "trace, all in camel case": (
        *("POST", "/traces", None),
        {"trace": {"traceInfo": {"traceId": "tr-1", "traceLocation": {"mlflowExperiment": {"experimentId": "{1}"}}}}},
    ),
    "data set": ("POST", "/datasets/create", None, {"name": "x", "experiment_ids": ["{mine}", "{1}"]}),
    "traces of a run": ("POST", "traces/link-to-run", "{theirs}", {"trace_ids": ["tr-1"]}),
    "issue": ("POST", "/issues", None, {"experiment_id": "{mine}", "name": "x", "source_run_id": "{theirs}"}),
    "scorer": ("POST", "/scorers/register", None, {"experiment_id": "{1}", "name": "x", "serialized_scorer": "{}"}),
    "label": ("POST", "/label-schemas/create", None, {"experiment_id": "{1}", "name": "x", "type": "FEEDBACK"}),
    "review queue": ("POST", "/review-queues/create", None, {"experiment_id": "{1}", "name": "x"}),
    "traces deleted": ("POST", "traces/delete-traces", None, {"experiment_id": "{1}", "request_ids": ["tr-1"]}),
}


def filled(value, names):
    if isinstance(value, dict):
        return {key: filled(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, names) for inner in value]
    return names.get(value, value) if value != "models:/{model}" else f"models:/{names['{model}']}"


@pytest.mark.parametrize("name", NESTED)
def test_what_is_named_deep_in_a_request_counts(server, governed, own, theirs, name):
    method, path, run, fields = NESTED[name]
    names = {"{run}": own["run"], "{mine}": own["experiment"], "{theirs}": theirs["run"]}
    names |= {"{model}": theirs["model"], "{1}": theirs["experiment"]}
    fields = filled(fields | ({"run_id": run} if run else {}), names)
    for metric in fields.get("metrics", ()):
        metric |= {"key": "net_sharpe", "value": 99.0, "timestamp": 1, "step": 0}
    before = rows(governed)
    base = V3 if path.startswith("/") else PAGES
    refused(
        server, method, path.removeprefix("/"), "author" if name == "two runs" else "signals register", base, **fields
    )
    assert rows(governed) == before
    assert access(governed)[-1]["verdict"] == "refused"


def test_work_of_ones_own_goes_on(server, governed, own):
    run, model, experiment = own["run"], own["model"], own["experiment"]
    metric = {"key": "x", "value": 1.0, "timestamp": 1, "step": 0, "model_id": model}
    for method, path, fields in (
        (
            "POST",
            "runs/log-batch",
            {"run_id": run, "metrics": [metric], "tags": [{"key": "mlflow.user", "value": "me"}]},
        ),
        ("POST", "runs/log-inputs", {"run_id": run, "models": [{"model_id": model}]}),
        ("POST", "runs/outputs", {"run_id": run, "models": [{"model_id": model, "step": 0}]}),
        ("POST", "runs/set-tag", {"run_id": run, "key": "mlflow.note.content", "value": "mine"}),
        ("PATCH", f"logged-models/{model}", {"model_id": model, "status": "LOGGED_MODEL_READY"}),
        ("POST", "traces", {"experiment_id": experiment, "timestamp_ms": 1}),
        ("POST", "experiments/set-experiment-tag", {"experiment_id": experiment, "key": "a", "value": "b"}),
        ("POST", "experiments/update", {"experiment_id": experiment, "new_name": "mine too"}),
        ("POST", "registered-models/set-tag", {"name": "mine", "key": "mlflow.prompt.is_prompt", "value": "true"}),
    ):
        send(server, method, path, **fields)
    uploaded = server.post(f"{PAGES}/upload-artifact?run_uuid={run}&path=a/b.txt", data=b"mine")
    assert uploaded.status_code == 200
    assert (
        governed.root / f"mlruns/artifacts/experiments/{experiment}/{run}/artifacts/a/b.txt"
    ).read_bytes() == b"mine"
    location = governed.sql("SELECT artifact_location FROM experiments WHERE name = 'mine too'")
    assert location == [(f"signals:/experiments/{experiment}",)]


def test_the_content_of_a_file_is_no_request(server, governed, own, theirs):
    """An upload to the web servers that are no uvicorn, and one whose text names a governed run."""
    kept = next((governed.root / "mlruns/artifacts").rglob("weights.json"))
    before, place = kept.read_bytes(), kept.relative_to(governed.root / "mlruns/artifacts").as_posix()
    for body in (b"x", b"{", b"3", b"{}", b"[" * 100_000):
        answer = server.put(f"/api/2.0/mlflow-artifacts/artifacts/{place}", data=body, content_type="application/json")
        assert (answer.status_code, kept.read_bytes()) == (403, before)
    for text in ({"run_id": theirs["run"]}, {"experiment_id": "01"}, 3):
        answer = server.post(f"{PAGES}/upload-artifact?run_uuid={own['run']}&path=b.json", json=text)
        assert answer.status_code == 200


def behind_a_new_name(world, name):
    world.sql("UPDATE experiments SET name = ? WHERE name = ?", name, MODEL)


def test_a_renamed_experiment_stays_governed(server, governed, own, theirs):
    """Its name was what the fence went by: without it everything was let through."""
    behind_a_new_name(governed, "elsewhere")
    before, kept = rows(governed), next((governed.root / "mlruns/artifacts").rglob("gates.json"))
    gates = kept.read_bytes()
    for method, path, fields in (
        ("POST", "runs/log-metric", {"run_id": theirs["run"], "key": "x", "value": 9, "timestamp": 1}),
        ("POST", "runs/set-tag", {"run_id": theirs["run"], "key": "author", "value": "me"}),
        ("POST", "runs/delete", {"run_id": theirs["run"]}),
        ("DELETE", f"logged-models/{theirs['model']}", {}),
        ("POST", "experiments/delete", {"experiment_id": theirs["experiment"]}),
        ("POST", "experiments/create", {"name": MODEL}),
        ("POST", "runs/log-metric", {"run_id": own["run"], "key": "x", "value": 9, "timestamp": 1}),
    ):
        refused(server, method, path, "was renamed to elsewhere", **fields)
    path = kept.relative_to(governed.root / "mlruns/artifacts").as_posix().partition("/artifacts/")[2]
    upload = server.post(f"{PAGES}/upload-artifact?run_uuid={theirs['run']}&path={path}", data=b"{}")
    assert (upload.status_code, kept.read_bytes()) == (403, gates)
    assert rows(governed) == before
    made = promotion.freeze(governed.root, governed.policy, "Olga", "look at this")
    assert "was renamed to elsewhere: set back" in " ".join(made.notes)
    refused(server, "POST", "runs/delete", "signals register", run_id=theirs["run"])
    send(server, "POST", "runs/delete", run_id=own["run"])


def test_another_experiment_of_the_name_is_not_the_governed_one(server, governed, own, theirs):
    behind_a_new_name(governed, "elsewhere")
    governed.sql("UPDATE experiments SET name = ? WHERE name = 'mine'", MODEL)
    refused(server, "POST", "runs/delete", "was renamed", run_id=theirs["run"])
    refused(server, "POST", "runs/delete", "was renamed", run_id=own["run"])


def test_a_database_without_the_versions_runs_changes_nothing(server, governed):
    governed.sql("DELETE FROM runs WHERE experiment_id = (SELECT experiment_id FROM experiments WHERE name = ?)", MODEL)
    refused(server, "POST", "runs/delete", "from one backup", run_id="x")
    refused(server, "POST", "experiments/create", "from one backup", name="x")


def test_a_database_that_does_not_answer_lets_nothing_through(server, governed, theirs, own, monkeypatch):
    """A lookup that failed was once taken for a run that does not exist."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
    from mlflow.server.handlers import _get_tracking_store

    def busy(*_, **__):
        raise MlflowException("the database is locked", TEMPORARILY_UNAVAILABLE)

    store = _get_tracking_store()
    send(server, "POST", "runs/set-tag", run_id=own["run"], key="a", value="b")
    before = rows(governed)
    with monkeypatch.context() as patch:
        patch.setattr(store, "get_run", busy)
        send(server, "POST", "runs/set-tag", 503, run_id=theirs["run"], key="author", value="me")
        send(server, "POST", "runs/set-tag", 503, run_id=own["run"], key="a", value="c")
    assert rows(governed) == before
    assert access(governed)[-1]["verdict"] == "failed"


def test_a_body_that_cannot_be_read_changes_nothing(server, governed, theirs):
    for body in ("[" * 100_000, '{"a":' * 100_000, "{", "null", "3", "\x00"):
        before = rows(governed)
        for path in ("runs/delete", "model-versions/set-tag", "experiments/create"):
            answer = server.post(f"{PAGES}/{path}", data=body, content_type="application/json")
            assert answer.status_code == 400, answer.text
        assert rows(governed) == before


def test_an_identifier_that_mlflow_never_gives_is_refused(server, governed):
    for name in ("x\x00", "é", "a b", "x" * 501, "１"):
        for path, field in (("runs/delete", "run_id"), ("traces/link-prompts", "trace_id")):
            refused(server, "POST", path, "as MLflow spells it", **{field: name})


LOCATIONS = ["//{0}", "/{0}", "file://{0}", "signals/date=2017-12-26", "pipelines", "/proc/self/cwd/mlruns", "{0}/../x"]


def test_no_location_of_an_experiment_reaches_the_checkout(server, governed, theirs):
    for location in LOCATIONS:
        folder = next((governed.root / "mlruns/artifacts").rglob("weights.json")).parent
        place = location.format(str(folder).lstrip("/") if location.startswith("//") else folder)
        before = rows(governed)
        refused(
            server, "POST", "experiments/create", "leave artifact_location empty", name="x", artifact_location=place
        )
        assert rows(governed) == before


def test_an_experiment_that_was_let_in_before_gets_no_file(server, governed, own):
    """Made by an older server, or by a client of the database itself."""
    folder = next((governed.root / "mlruns/artifacts").rglob("weights.json")).parent
    for place in (
        f"/{folder}",
        str(folder),
        folder.as_uri(),
        f"signals://{folder}",
        "signals:/x",
        "mlflow-artifacts:/x",
    ):
        governed.sql("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", place, own["run"])
        answer = server.post(f"{PAGES}/upload-artifact?run_uuid={own['run']}&path=x.txt", data=b"x")
        assert answer.status_code == 403, place
    assert not list(governed.root.rglob("x.txt"))
    assert serving(governed.root).warnings == ()


def hidden(world):
    """As the tag hides the model from MLflow, which takes it for a prompt."""
    for key in ("mlflow.prompt.is_prompt", "_mlflow_prompt_type"):
        world.sql("INSERT INTO registered_model_tags (name, key, value) VALUES (?, ?, 'true')", MODEL, key)
        world.sql("INSERT INTO model_version_tags (name, version, key, value) VALUES (?, 2, ?, 'true')", MODEL, key)


DECISIONS = {
    "review": lambda w: promotion.review(w.root, w.policy, 2, "rejected", "Rob <rob@example.org>", "drawdown"),
    "promote": lambda w: w.promote(2),
    "freeze": lambda w: promotion.freeze(w.root, w.policy, "Olga", "look at this"),
    "unfreeze": lambda w: promotion.unfreeze(w.root, w.policy, "Olga", "looked at"),
    "rollback": lambda w: promotion.rollback(w.root, w.policy, "Olga", "worse"),
    "register": lambda w: (w.train(weight=3.0, rank_ic=0.09, seed=2), w.register())[1],
    "register again": lambda w: w.register(),
}


@pytest.mark.parametrize("name", DECISIONS)
def test_a_hidden_model_is_found_again_by_every_decision(governed, name):
    if name == "unfreeze":
        promotion.freeze(governed.root, governed.policy, "Olga", "look at this")
    hidden(governed)
    made = DECISIONS[name](governed)
    assert sum("one that MLflow acts on: removed" in note for note in made.notes) == 4
    registry = read_registry(governed.root, MODEL)
    assert not [key for key in (*registry.tags, *registry.versions[2].tags) if "mlflow" in key]


def test_the_audit_names_the_tags_that_hide_a_model(governed):
    hidden(governed)
    broken = audit(governed.root, governed.policy, governed.root / "signals").broken
    assert [finding.where for finding in broken] == ["model", "model", "version 2", "version 2"]
    assert all("one that MLflow acts on" in finding.what for finding in broken)
    governed.approve(2)
    assert audit(governed.root, governed.policy, governed.root / "signals").broken == ()


@pytest.mark.parametrize("name", ["review", "promote", "freeze", "unfreeze", "rollback"])
def test_what_ails_mlflow_ends_no_decision(governed, name, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def ill(*_, **__):
        raise MlflowException("no")

    if name == "unfreeze":
        promotion.freeze(governed.root, governed.policy, "Olga", "look at this")
    for method in (
        "set_model_version_tag",
        "delete_model_version_tag",
        "delete_registered_model_tag",
        "get_experiment",
    ):
        monkeypatch.setattr(MlflowClient, method, ill)
    hidden(governed)
    before = len(governed.ledger().read().records)
    made = DECISIONS[name](governed)
    assert len(governed.ledger().read().records) == before + 1
    assert "(no); the next command tells it" in " ".join(made.notes)


@pytest.mark.parametrize("key", ["mlflow.prompt.is_prompt", "mlflow.user", "_mlflow_prompt_type"])
def test_no_tag_hides_the_model(server, governed, theirs, key):
    before = rows(governed)
    refused(server, "POST", "registered-models/set-tag", key, name=MODEL, key=key, value="true")
    refused(server, "POST", "model-versions/set-tag", key, name=MODEL, version="1", key=key, value="true")
    refused(
        server, "POST", "experiments/set-experiment-tag", key, experiment_id=theirs["experiment"], key=key, value="x"
    )
    tags = [{"key": key, "value": "true"}]
    refused(server, "POST", "registered-models/create", "signals register", name=MODEL, tags=tags)
    refused(server, "POST", "runs/log-batch", "signals register", run_id=theirs["run"], tags=tags)
    refused(server, "PATCH", f"logged-models/{theirs['model']}/tags", "signals register", tags=tags)
    assert rows(governed) == before


def test_the_model_that_is_not_there_yet_is_nobody_elses(app, world, monkeypatch):
    """Whoever makes model or experiment first owns it, in a team; and may hide it."""
    from mlflow.server import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR, handlers

    monkeypatch.setenv(BACKEND_STORE_URI_ENV_VAR, f"sqlite:///{world.root}/mlruns/mlflow.db")
    monkeypatch.setenv(ARTIFACT_ROOT_ENV_VAR, "signals:/experiments")
    for name in ("_tracking_store", "_model_registry_store"):
        monkeypatch.setattr(handlers, name, None)
    client = app.test_client()
    for path in ("registered-models/create", "experiments/create"):
        refused(client, "POST", path, "signals register", name=MODEL)
    mine = send(client, "POST", "experiments/create", name="mine")["experiment_id"]
    refused(client, "POST", "experiments/update", "signals register", experiment_id=mine, new_name=MODEL)
    assert world.register().version == 1


def test_an_experiment_that_somebody_else_made_is_not_adopted(world):
    from governance.store import client

    number = client(world.root).create_experiment(MODEL, artifact_location=str(world.root / "elsewhere"))
    with pytest.raises(GovernanceError, match="did not make it"):
        world.register()
    assert not (world.root / "elsewhere").exists()
    client(world.root).rename_experiment(number, "mine")
    assert world.register().version == 1


CLOSED = [
    ("POST", f"{V3}/gateway/secrets/create"),
    ("POST", f"{V3}/gateway/endpoints/create"),
    ("POST", f"{V3}/scorer/invoke"),
    ("POST", f"{V3}/genai/evaluate/invoke"),
    ("POST", f"{V3}/issues/invoke"),
    ("POST", f"{V3}/demo/delete"),
    ("POST", f"{V3}/demo/generate"),
    ("PATCH", f"{V3}/jobs/cancel/1"),
    ("POST", f"{V3}/prompt-optimization/jobs"),
    ("POST", f"{PAGES}/runs/create-promptlab-run"),
    ("GET", f"{PAGES}/gateway-proxy"),
    ("POST", f"{V3}/workspaces"),
]


def test_what_runs_code_or_calls_out_is_closed(server, governed):
    for method, path in CLOSED:
        answer = server.open(path, method=method, json={})
        assert (answer.status_code, "closed on this server" in answer.get_json()["message"]) == (403, True)
        assert access(governed)[-1]["verdict"] == "refused"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", "/gateway/x/mlflow/invocations"), ("POST", "/ajax-api/3.0/jobs/"), ("POST", f"{V3}/mcp-servers")),
        *(("PATCH", "/ajax-api/3.0/jobs/cancel/1"), ("DELETE", "/api/3.0/mlflow/mcp-servers/x/tags/y")),
        *(("POST", "/gateway/proxy/x/y"), ("PUT", f"{V3}/assistant/config"), ("GET", f"{V3}/assistant/providers")),
    ],
)
def test_so_it_is_outside_flask(both, method, path):
    status, body = call(both, method, path, b"{}", content_type="application/json")
    assert (status, "closed on this server" in json.loads(body)["message"]) == (404, True)


def test_traces_come_in_for_ones_own_experiment_alone(both, governed, own, theirs):
    before = rows(governed)
    traces = {"content_type": "application/json"}
    for headers in (
        {"x_mlflow_experiment_id": theirs["experiment"]},
        {"x_mlflow_experiment_id": f"0{theirs['experiment']}"},
        {"x_mlflow_experiment_id": own["experiment"], "x_mlflow_run_id": theirs["run"]},
    ):
        status, _ = call(both, "POST", "/v1/traces", b"{}", **traces, **headers)
        assert status == 403
        assert access(governed)[-1]["action"] == "export_traces"
    assert rows(governed) == before
    status, body = call(both, "POST", "/v1/traces", b"{}", **traces, x_mlflow_experiment_id=own["experiment"])
    assert (status, "no spans found" in body.decode()) == (400, True)


def test_an_endpoint_that_nobody_has_classified_is_not_served(server, governed, monkeypatch):
    from governance import endpoints

    fewer = {name: kind for name, kind in endpoints.KINDS.items() if name not in ("CreateWebhook", "GetRun")}
    for module in ("mlflow_request", "rulings"):
        monkeypatch.setattr(f"governance.{module}.KINDS", fewer)
    refused(server, "POST", "webhooks", "CreateWebhook is not known", name="x")
    answer = server.get(f"{PAGES}/runs/get?run_id=x")
    assert (answer.status_code, "GetRun is not known" in answer.get_json()["message"]) == (403, True)
