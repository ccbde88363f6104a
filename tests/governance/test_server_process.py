"""A server process as `signals ui` starts it, used through MLflow's own client."""

import importlib.util
import json
import os
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from governance.guard import serving
from pipelines.ui import logins_config
from tests.governance.servers import started

pytestmark = pytest.mark.slow

MODEL = "layered-signals"


def connect(address):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=address, registry_uri=address)


def access(world):
    return [json.loads(line) for line in (world.root / "mlruns/access.jsonl").read_text().splitlines()]


def test_the_server_of_one_person(governed):
    from mlflow.exceptions import MlflowException

    governed.train(weight=3.0, rank_ic=0.09, seed=2)
    assert governed.register().version == 3
    with started(governed.root) as (address, log):
        client = connect(address)
        with pytest.raises(MlflowException, match="version 3 may not be promoted: nobody has approved it"):
            client.set_registered_model_alias(MODEL, "champion", "3")
        with pytest.raises(MlflowException, match="stages are not used here"):
            client.transition_model_version_stage(MODEL, "3", "Production")
        client.set_model_version_tag(MODEL, "3", "review.comment", "stable by year")
        client.set_model_version_tag(MODEL, "3", "review.by", "Rob <rob@example.org>")
        client.set_model_version_tag(MODEL, "3", "review.status", "approved")
        client.set_registered_model_alias(MODEL, "champion", "3")
        assert client.get_model_version_by_alias(MODEL, "champion").version in (3, "3")
        served = serving(governed.root)
        assert (served.version, served.warnings) == (3, ())
        with pytest.raises(MlflowException, match="signals rollback"):
            client.delete_registered_model_alias(MODEL, "champion")
        upload = urllib.request.Request(
            f"{address}/api/2.0/mlflow-artifacts/artifacts/{MODEL}/models/x", data=b"x", method="PUT"
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(upload)
        assert refused.value.code == 403
        assert "unauthenticated single-user mode" in log.read_text()
    verdicts = [line["verdict"] for line in access(governed)]
    assert verdicts == [*["refused"] * 2, *["allowed"] * 2, "reviewed", "promoted", *["refused"] * 2]


def test_twenty_readers_and_two_writers_of_the_server(governed):
    """Every page is answered and every change made while a reviewer and a commenter write."""
    rounds = 5
    api = "api/2.0/mlflow"
    pages = (
        f"{api}/registered-models/get?name={MODEL}",
        f"{api}/model-versions/get?name={MODEL}&version=2",
        f"{api}/registered-models/alias?name={MODEL}&alias=champion",
        f"{api}/registered-models/search",
    )
    done = threading.Event()

    with started(governed.root) as (address, _), ThreadPoolExecutor(22) as pool:

        def read(page):
            while not done.is_set():
                with urllib.request.urlopen(f"{address}/{page}", timeout=60) as answer:
                    assert MODEL.encode() in answer.read()

        def review():
            client = connect(address)
            for number in range(rounds):
                client.set_model_version_tag(MODEL, "2", "review.comment", f"looked at it {number} times")
                client.set_model_version_tag(MODEL, "2", "review.by", "Rob <rob@example.org>")
                client.set_model_version_tag(MODEL, "2", "review.status", "approved")

        def remark():
            client = connect(address)
            for number in range(4 * rounds):
                client.set_model_version_tag(MODEL, "2", "remark", str(number))

        readers = [pool.submit(read, pages[number % len(pages)]) for number in range(20)]
        try:
            for writer in [pool.submit(review), pool.submit(remark)]:
                writer.result()
        finally:
            done.set()
        for reader in readers:
            reader.result()
    said = [record.payload["comment"] for record in governed.ledger().read().of_kind("reviewed")]
    assert said[-rounds:] == [f"looked at it {number} times" for number in range(rounds)]
    assert serving(governed.root).warnings == ()


@pytest.mark.skipif(importlib.util.find_spec("flask_wtf") is None, reason="the extra `team` is not installed")
def test_the_server_of_a_team(governed, monkeypatch):
    from mlflow.exceptions import MlflowException
    from mlflow.server import get_app_client

    governed.train(weight=3.0, rank_ic=0.09, seed=2)
    assert governed.register().version == 3
    environment = {
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a secret of the test",
        "MLFLOW_AUTH_ADMIN_PASSWORD": "admin-password-of-the-test",
        "MLFLOW_AUTH_CONFIG_PATH": str(logins_config(governed.root)),
    }
    logins = ("ann@example.org", "rob@example.org", "rob", "vera@example.org")

    def log_in(name):
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        password = environment["MLFLOW_AUTH_ADMIN_PASSWORD"] if name == "admin" else f"{name}-password-1"
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)

    with started(governed.root, team=True, **environment) as (address, _):
        log_in("admin")
        users = get_app_client("basic-auth", tracking_uri=address)
        for login in logins:
            users.create_user(login, f"{login}-password-1")
        for login in logins[:3]:
            users.grant_user_permission(login, "registered_model", MODEL, "EDIT")
        client = connect(address)

        def review(login, comment):
            log_in(login)
            client.set_model_version_tag(MODEL, "3", "review.comment", comment)
            client.set_model_version_tag(MODEL, "3", "review.status", "approved")

        with pytest.raises(MlflowException, match="must come from someone else"):
            review("ann@example.org", "mine is fine")
        with pytest.raises(MlflowException, match="is no email address"):
            review("rob", "looks fine")
        with pytest.raises(MlflowException, match="Permission denied"):
            review("vera@example.org", "I only look")
        review("rob@example.org", "stable by year")
        client.set_registered_model_alias(MODEL, "champion", "3")
        upload = urllib.request.Request(f"{address}/api/2.0/mlflow-artifacts/artifacts/{MODEL}/x", b"x", method="PUT")
        with pytest.raises(urllib.error.HTTPError) as stranger:
            urllib.request.urlopen(upload)
        assert stranger.value.code == 401
    review, promoted = governed.ledger().read().records[-2:]
    assert (review.kind, review.actor) == ("reviewed", "rob@example.org")
    assert (promoted.kind, promoted.actor) == ("promoted", "rob@example.org")
    assert serving(governed.root).version == 3
    lines = access(governed)
    assert all(line["verified"] for line in lines if line["verdict"] != "refused" or line["reason"] != "by MLflow")
    assert {line["user"] for line in lines} >= {"ann@example.org", "rob@example.org", "vera@example.org"}
    assert "password" not in json.dumps(lines)
    assert os.stat(governed.root / "mlruns/users.db").st_size > 0
