"""The store is made once and whole; its artifacts move with the checkout, and stay inside it."""

import contextlib
import json
import multiprocessing
import os
import shutil
import socket
import sqlite3
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from core.checkout import find_root
from core.errors import ConfigError, GovernanceError, StorageError
from governance import store
from governance.places import resolve
from governance.registry import read_registry
from pipelines.ui import server_command, server_environment


def create(root):
    store.ensure_store(Path(root))


@pytest.mark.slow
def test_two_processes_create_one_good_store(tmp_path):
    context = multiprocessing.get_context("spawn")
    makers = [context.Process(target=create, args=(tmp_path,)) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert [maker.exitcode for maker in makers] == [0, 0]
    with contextlib.closing(sqlite3.connect(tmp_path / "mlruns/mlflow.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT COUNT(*) FROM alembic_version").fetchone() == (1,)
    assert store.client(tmp_path).search_registered_models() == []


def test_a_killed_creation_leaves_no_store(tmp_path, monkeypatch):
    def killed(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mlflow.store.db.utils._initialize_tables", killed)
    with pytest.raises(KeyboardInterrupt):
        store.ensure_store(tmp_path)
    assert not (tmp_path / "mlruns/mlflow.db").exists()


def test_a_store_that_another_holds_is_waited_for_and_then_named(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_GOVERN_WAIT", 0.1)
    second = store.governing(tmp_path)
    with store.governing(tmp_path), pytest.raises(StorageError, match="another process changes the registry"):
        second.__enter__()


def test_a_locked_database_is_named(governed, monkeypatch):
    monkeypatch.setattr("governance.registry._PATIENCE", 0.1)
    holder = sqlite3.connect(governed.root / "mlruns/mlflow.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StorageError, match="locked by another process"):
            read_registry(governed.root, governed.policy.model)
    finally:
        holder.close()


@pytest.mark.parametrize(
    "uri",
    [
        "signals:/../mlflow.db",
        "signals:/a/../../mlflow.db",
        "signals:/a/%2e%2e/%2e%2e/mlflow.db",
        "signals://host/path",
        "signals:/a?x=1",
        "file:///etc/passwd",
        "/etc/passwd",
    ],
)
def test_addresses_that_lead_outside_are_refused(tmp_path, uri):
    with pytest.raises(GovernanceError, match="artifact address"):
        resolve(uri, tmp_path)


def test_a_link_that_leads_outside_is_refused(tmp_path):
    (tmp_path / "mlruns/artifacts").mkdir(parents=True)
    (tmp_path / "mlruns/artifacts/door").symlink_to("/etc")
    with pytest.raises(GovernanceError, match="leads outside"):
        resolve("signals:/door", tmp_path)


def test_addresses_resolve_below_the_root(tmp_path):
    assert resolve("signals:/a/b", tmp_path) == tmp_path.resolve() / "mlruns/artifacts/a/b"


def test_the_root_is_named_or_found_and_never_guessed(tmp_path, monkeypatch):
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    checkout = tmp_path / "checkout"
    (checkout / "deep/er").mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml"):
        (checkout / name).write_text("")
    monkeypatch.delenv("SIGNALS_ROOT", raising=False)
    monkeypatch.chdir(checkout / "deep/er")
    assert find_root() == checkout
    assert resolve("signals:/a") == checkout / "mlruns/artifacts/a"
    monkeypatch.chdir(tmp_path)
    for name in (None, str(tmp_path), str(tmp_path / "nowhere")):
        if name:
            monkeypatch.setenv("SIGNALS_ROOT", name)
        for ask in (find_root, lambda: resolve("signals:/a"), lambda: get_artifact_repository("signals:/a")):
            with pytest.raises(ConfigError, match="change to one or set SIGNALS_ROOT"):
                ask()
    monkeypatch.setenv("SIGNALS_ROOT", str(checkout))
    assert find_root() == checkout


def test_mlflow_reads_a_moved_checkout(governed):
    from mlflow.artifacts import download_artifacts

    client = store.client(governed.root)
    run = client.get_run(client.get_model_version("layered-signals", "1").run_id)
    assert run.info.artifact_uri.startswith("signals:/")
    names = [entry.path for entry in client.list_artifacts(run.info.run_id)]
    assert {"evaluation", "data_quality", "governance", "metrics.json"} <= set(names)
    with store.tracked(store.tracking_uri(governed.root)):
        place = download_artifacts("models:/layered-signals/1/artifacts/bundle/weights.json")
    assert Path(place).is_relative_to(governed.root)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url, seconds=60.0):
    """Body of a page, once the server answers."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read()
        except urllib.error.HTTPError:
            raise
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.3)


@pytest.mark.slow
def test_the_real_server_shows_the_artifacts_of_a_moved_checkout(governed):
    again = governed.root.with_name("moved again")
    shutil.move(governed.root, again)
    port = free_port()
    server = subprocess.Popen(
        server_command(store.tracking_uri(again), "127.0.0.1", port),
        env=server_environment(again),
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        base = f"http://127.0.0.1:{port}"
        assert get(f"{base}/health") == b"OK"
        found = json.loads(get(f"{base}/api/2.0/mlflow/registered-models/get?name=layered-signals"))["registered_model"]
        assert {a["alias"]: a["version"] for a in found["aliases"]} == {"champion": "1", "candidate": "2"}
        version = json.loads(get(f"{base}/api/2.0/mlflow/model-versions/get?name=layered-signals&version=1"))
        run = version["model_version"]["run_id"]
        page = get(f"{base}/get-artifact?path=evaluation/report.html&run_uuid={run}")
        assert b"report" in page
        outside = urllib.parse.quote("../../../../mlflow.db")
        with pytest.raises(urllib.error.HTTPError):
            get(f"{base}/get-artifact?path={outside}&run_uuid={run}")
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
