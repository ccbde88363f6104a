"""A team's server: logins, a PostgreSQL database, files through the server; real processes of each."""

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from core.errors import ConfigError, GovernanceError, StorageError
from governance.guard import serving
from governance.registry import read_registry
from governance.store import BACKEND, tracking_uri
from pipelines import remote
from pipelines.ui import logins_config, require_safe, server_command
from tests.governance import postgres
from tests.governance.servers import started

MODEL = "layered-signals"
TRAINER, APPROVER, VIEWER = "tess@example.org", "rob@example.org", "vera@example.org"
ADMIN = "admin-password-of-the-test"
needs_postgres = pytest.mark.skipif(
    postgres.binaries() is None, reason="no PostgreSQL here: apt-get install postgresql"
)


def password(login):
    return ADMIN if login == "admin" else f"{login}-password-1"


@pytest.fixture(scope="module")
def team(tmp_path_factory, empty_store, make_world):
    """Version 1 is champion, version 2 waits; a server with a trainer, an approver and a viewer."""
    pytest.importorskip("flask_wtf", reason="the extra `team` is not installed")
    pytest.importorskip("pg8000", reason="the extra `team` is not installed")
    from mlflow.server import get_app_client

    world = make_world(tmp_path_factory.mktemp("team") / "checkout", empty_store)
    (world.root / "mlruns/mlflow.db").unlink()
    with postgres.running() as uri, pytest.MonkeyPatch.context() as patch:
        patch.setenv(BACKEND, uri)
        patch.setenv("SIGNALS_ROOT", str(world.root))
        assert world.register().version == 1
        world.approve(1)
        world.promote(1)
        world.train(weight=2.0, rank_ic=0.05, seed=1)
        assert world.register().version == 2
        environment = {
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "a secret of the test",
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN,
            "MLFLOW_AUTH_CONFIG_PATH": str(logins_config(world.root)),
        }
        with started(world.root, team=True, **environment) as (address, _):
            log_in(patch, "admin")
            users = get_app_client("basic-auth", tracking_uri=address)
            for login in (TRAINER, APPROVER, VIEWER):
                users.create_user(login, password(login))
            users.grant_user_permission(APPROVER, "registered_model", MODEL, "EDIT")
            yield world, address


def log_in(patch, login):
    patch.setenv("MLFLOW_TRACKING_USERNAME", login)
    patch.setenv("MLFLOW_TRACKING_PASSWORD", password(login))


def signals(world, address, login, *arguments):
    """A command of another machine: it has the address and a login, no database and no ledger."""
    environment = {name: value for name, value in os.environ.items() if name != BACKEND}
    elsewhere = world.root.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    for name in ("params.yaml", "dvc.yaml"):
        (elsewhere / name).write_bytes((world.root / name).read_bytes())
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *arguments],
        env={
            **environment,
            "SIGNALS_ROOT": str(elsewhere),
            "MLFLOW_TRACKING_URI": address,
            "MLFLOW_TRACKING_USERNAME": login,
            "MLFLOW_TRACKING_PASSWORD": password(login),
        },
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@needs_postgres
def test_a_trainer_keeps_runs_and_can_neither_approve_promote_nor_overwrite(team, monkeypatch, tmp_path):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    world, address = team
    log_in(monkeypatch, TRAINER)
    client = MlflowClient(tracking_uri=address, registry_uri=address)
    experiment = client.create_experiment("tess")
    run = client.create_run(experiment).info
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    client.log_artifact(run.run_id, str(mine))
    assert (world.root / f"mlruns/artifacts/{experiment}/{run.run_id}/artifacts/mine.txt").read_text() == "mine"

    before = world.ledger().path.read_bytes()
    row = read_registry(world.root, MODEL).versions[2]
    for attempt in (
        lambda: client.set_model_version_tag(MODEL, "2", "review.status", "approved"),
        lambda: client.set_registered_model_alias(MODEL, "champion", "2"),
        lambda: client.set_model_version_tag(MODEL, "2", "gates.verdict", "pass"),
        lambda: client.log_metric(row.run_id, "test.stack.rank_ic", 1.0),
        lambda: client.delete_model_version(MODEL, "2"),
        lambda: client.create_experiment("x", artifact_location=f"/{world.root}/mlruns/artifacts/{MODEL}"),
        lambda: client.create_experiment("x", artifact_location="signals/date=2017-12-26"),
        lambda: client.create_experiment("x", artifact_location="mlflow-artifacts:/0"),
    ):
        with pytest.raises(MlflowException, match=r"Permission denied|signals register|leave artifact_location"):
            attempt()
    place = f"{address}/api/2.0/mlflow-artifacts/artifacts/{row.location.removeprefix('signals:/')}/artifacts/bundle/x"
    login = base64.b64encode(f"{TRAINER}:{password(TRAINER)}".encode()).decode()
    upload = urllib.request.Request(place, b"x", {"Authorization": f"Basic {login}"}, method="PUT")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(upload)
    assert refused.value.code == 403
    assert world.ledger().path.read_bytes() == before
    assert read_registry(world.root, MODEL).versions[2] == row
    served = serving(world.root)
    assert (served.version, served.warnings) == (1, ())


@pytest.mark.slow
@needs_postgres
def test_an_approver_decides_from_another_machine(team, monkeypatch, capsys):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    world, address = team
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    log_in(monkeypatch, VIEWER)
    remote.status(address, MODEL)
    shown = capsys.readouterr().out
    assert "candidate" in shown
    with pytest.raises(GovernanceError, match="Permission denied"):
        remote.review(address, MODEL, "candidate", "approved", None, "I only look")
    log_in(monkeypatch, APPROVER)
    with pytest.raises(GovernanceError, match="nobody has approved it"):
        remote.promote(address, MODEL, "candidate", None, "")
    client = MlflowClient(tracking_uri=address, registry_uri=address)
    with pytest.raises(MlflowException, match="acts on"):
        client.set_registered_model_tag(MODEL, "mlflow.prompt.is_prompt", "true")
    remote.review(address, MODEL, "candidate", "approved", None, "stable by year")
    done = signals(world, address, APPROVER, "promote", "candidate")
    assert (done.returncode, done.stderr) == (0, "")
    assert "version 2 is the champion" in done.stdout
    assert serving(world.root).version == 2
    review, promoted = world.ledger().read().records[-2:]
    assert [(r.kind, r.actor) for r in (review, promoted)] == [("reviewed", APPROVER), ("promoted", APPROVER)]
    lines = (world.root / "mlruns/access.jsonl").read_text()
    assert {json.loads(line)["user"] for line in lines.splitlines()} >= {APPROVER, VIEWER}
    secrets = (postgres.PASSWORD, postgres.PASSWORD.replace(" ", "%20"), *map(password, (APPROVER, VIEWER, "admin")))
    everything = lines + (world.root / "server.log").read_text() + shown + done.stdout
    assert not [secret for secret in secrets if secret in everything]


@pytest.mark.slow
@needs_postgres
def test_a_database_that_is_gone_is_told_without_its_password(team, monkeypatch):
    world, _ = team
    monkeypatch.setenv(BACKEND, os.environ[BACKEND].replace("PGSQL", "gone"))
    with pytest.raises(StorageError, match="does not answer") as error:
        read_registry(world.root, MODEL)
    assert postgres.PASSWORD.split()[0] + "%20" not in str(error.value)


def test_a_password_stays_off_the_command_line(tmp_path, monkeypatch):
    address = "postgresql+pg8000://signals:secret@db/signals"
    monkeypatch.setenv(BACKEND, address)
    assert tracking_uri(tmp_path) == address
    assert not any("secret" in word for word in server_command(address, "127.0.0.1", 5000, team=True))
    monkeypatch.setenv(BACKEND, "mysql://root:secret@db/x")
    with pytest.raises(ConfigError, match="must begin with") as error:
        tracking_uri(tmp_path)
    assert "secret" not in str(error.value)


def test_uploads_go_nowhere_near_the_governed_files(tmp_path, monkeypatch):
    for place in ("mlruns", "mlruns/artifacts/experiments", "."):
        monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", str(tmp_path / place))
        with pytest.raises(ConfigError, match="governed files"):
            require_safe(tmp_path, "127.0.0.1", team=False)
    for place in (str(tmp_path / "mlruns/artifacts"), "s3://bucket/files"):
        monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", place)
        require_safe(tmp_path, "127.0.0.1", team=False)


def test_what_writes_the_ledger_runs_where_it_lies(monkeypatch):
    assert remote.team_server() is None
    monkeypatch.setenv(remote.ADDRESS, "https://mlflow.example.org")
    assert remote.team_server() == "https://mlflow.example.org"
    with pytest.raises(ConfigError, match="`signals rollback` writes the ledger"):
        remote.require_ledger("rollback")
    with pytest.raises(ConfigError, match="leave it out"):
        remote.promote("https://mlflow.example.org", MODEL, "2", "Rob <rob@example.org>", "")
    with pytest.raises(ConfigError, match="carries no comment"):
        remote.promote("https://mlflow.example.org", MODEL, "2", None, "better in every year")
    monkeypatch.setenv(remote.ADDRESS, "https://rob:secret@mlflow.example.org")
    with pytest.raises(ConfigError, match="holds a user") as error:
        remote.team_server()
    assert "secret" not in str(error.value)
