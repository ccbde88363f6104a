"""A tiny training on disk: a bundle, its reports and trials, in a git checkout with a DVC lock."""

import contextlib
import shutil
import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from core.files import canonical_json, digest_bytes, digest_tree, write_json, write_parquet
from features.invariance import INVARIANCES
from governance import keys, promotion
from governance.dvc_lock import folder_md5
from governance.evidence import Training
from governance.gates import GovernanceRule
from governance.ledger import Ledger
from governance.lineage import collect_lineage
from governance.packing import PACKED
from governance.projection import Registration, project
from governance.promotion import Decision
from governance.store import ensure_store

AUTHOR = "Ann Author <ann@example.org>"
REVIEWER = "Rob Reviewer <rob@example.org>"
OPERATOR = "Olga Operator"

SERVED = """
import json
import pathlib

import mlflow
import pandas as pd


class Served(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        folder = pathlib.Path(context.artifacts["bundle"])
        self.weights = json.loads((folder / "weights.json").read_text())

    def predict(self, context, model_input, params=None):
        out = model_input[["date", "symbol"]].copy()
        signal = sum(model_input[name].astype(float).fillna(0.0) * w for name, w in self.weights.items())
        for name in ("signal", "expected_return", "interval_low", "interval_high", "p_wrong"):
            out[name] = signal
        return out


mlflow.models.set_model(Served())
"""

DECLARED = [{"name": name, "family": "market", "lookback": 21} for name in ("momentum", "value")]

PROVEN = {
    "ok": True,
    "checked": len(DECLARED) * len(INVARIANCES),
    "failed": [],
    "features": [feature["name"] for feature in DECLARED],
    "invariances": dict.fromkeys(INVARIANCES, True),
}

# The pipeline that the training pretends to come from.
PIPELINE = {
    "stages": {
        "features": {"foreach": ["market"], "do": {"cmd": "x", "deps": ["${item}"], "outs": ["data/clean"]}},
        "stack": {
            "cmd": "x",
            "params": ["seed"],
            "deps": ["data/clean", "market"],
            "outs": ["artifacts/bundle", "reports", "artifacts/tune", "artifacts/train"],
        },
    }
}

POLICY = {
    "gates": [
        {"name": "rank_ic_t", "metric": "test.stack.rank_ic_t", "min": 3.0, "reason": "the signal is not chance"},
        {"name": "rank_ic", "metric": "test.stack.rank_ic", "min": 0.01, "reason": "the signal is worth a trade"},
        {"name": "turnover", "metric": "backtest.turnover", "max": 0.5, "severity": "warn", "reason": "costs eat it"},
        {"name": "invariances", "check": "invariances", "waivable": False, "reason": "no look-ahead anywhere"},
        {"name": "clean_tree", "check": "clean_tree", "reason": "the code is the committed one"},
        {"name": "lineage", "check": "lineage", "reason": "it can be made again"},
        {"name": "beats_champion", "check": "beats_champion", "min": 1.0, "reason": "better than what serves"},
    ]
}


def run_git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)


def add_key(root: Path, person: str, **changes: object) -> tuple[Path, str]:
    """Make a key pair for a person and let it count; return the private key's path and the public key."""
    path, key = keys.create_key(person, root)
    entries = [entry.model_dump() for entry in keys.read_ring(root).keys]
    entries.append({"person": person, "public": key.public, **changes})
    (root / "keys.yaml").write_text(yaml.safe_dump({"keys": entries}))
    return path, key.public


@pytest.fixture(scope="session", name="add_key")
def _add_key():
    return add_key


@dataclass
class World:
    """A checkout with one training in it, and shorthands to govern it."""

    root: Path
    policy: GovernanceRule

    @property
    def training(self) -> Training:
        return Training(
            bundle=self.root / "artifacts/bundle",
            reports=self.root / "reports",
            tune=self.root / "artifacts/tune",
            train=self.root / "artifacts/train",
            served_model=self.root / "models/served_model.py",
        )

    def train(self, weight: float = 1.0, rank_ic: float = 0.03, t: float = 5.0, trials: int = 2, seed: int = 0) -> None:
        """Write a training whose bundle depends on `weight` and whose scores are given."""
        bundle, reports = self.training.bundle, self.training.reports
        shutil.rmtree(bundle, ignore_errors=True)
        write_json(bundle / "weights.json", {"momentum": weight, "value": -weight})
        write_json(bundle / "features.json", DECLARED)
        write_json(bundle / "params.json", {"target": {"horizon": 5}})
        manifest = {
            "format": 2,
            "features": ["momentum", "value"],
            "layers": ["boosting", "linear"],
            "files": digest_tree(bundle),
        }
        digest = digest_bytes(canonical_json(manifest).encode())
        write_json(bundle / "manifest.json", {**manifest, "digest": digest})
        score = {"rank_ic": rank_ic, "rank_ic_t": t}
        write_json(
            reports / "metrics.json",
            {
                "test": {"stack": score, "linear": score, "boosting": score},
                "holdout": {"stack": {"rank_ic": rank_ic}},
                "backtest": {"turnover": 0.2, "net_sharpe": 0.8},
            },
        )
        days = pd.bdate_range("2015-01-01", periods=300)
        noise = np.random.default_rng(seed).normal(0.0, 0.01, days.size)
        write_parquet(reports / "evaluation/daily_ic.parquet", pd.DataFrame({"date": days, "stack": rank_ic + noise}))
        write_json(reports / "invariances.json", PROVEN)
        write_json(self.root / "data/clean/counts.json", {"prices": len(days)})
        (reports / "evaluation/report.html").write_text("<html><body>report</body></html>")
        write_json(reports / "data_quality/quality.json", {"rows": 10})
        for layer in ("linear", "boosting"):
            folder = self.training.tune / layer
            write_json(folder / "best.json", {"params": {"alpha": 0.1}})
            table = pd.DataFrame({"trial": range(trials)})
            table["value"] = np.linspace(0.0, 0.02, trials)
            table["fold_0"] = table["value"]
            table["alpha"] = 0.1 * table["trial"]
            table["kind"] = "ridge"
            write_parquet(folder / "trials.parquet", table)
            write_json(self.training.train / layer / "importance.json", {"momentum": 1.0})
        self.lock()

    def lock(self) -> None:
        """Record what the training wrote in dvc.lock, as DVC would."""

        def entry(path: str) -> dict:
            return {"path": path, "md5": folder_md5(self.root / path), "size": 10, "nfiles": 2}

        code, clean = [entry("market")], entry("data/clean")
        outs = [entry(path) for path in ("artifacts/bundle", "reports", "artifacts/tune", "artifacts/train")]
        stages = {
            "features@market": {"cmd": "x", "deps": code, "outs": [clean]},
            "stack": {
                "cmd": "x",
                "deps": [clean, *code],
                "params": {"params.yaml": {"seed": 1}},
                "outs": outs,
            },
        }
        (self.root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))

    def lineage(self) -> dict:
        reports = self.training.kept
        return collect_lineage(self.root, self.training.bundle, DECLARED, trials={"linear": 2}, reports=reports)

    def register(self) -> Registration:
        return project(self.root, self.policy, self.training, self.lineage())

    def approve(self, version: int, by: str = REVIEWER) -> Decision:
        return promotion.review(self.root, self.policy, version, "approved", by, "read the report")

    def promote(self, version: int) -> Decision:
        return promotion.promote(self.root, self.policy, version, OPERATOR)

    def ledger(self) -> Ledger:
        return Ledger(self.root / "mlruns/ledger.jsonl")

    def sql(self, statement: str, *values: object) -> list[tuple]:
        """Change or read the database behind everyone's back."""
        with contextlib.closing(sqlite3.connect(self.root / "mlruns/mlflow.db")) as database, database:
            return database.execute(statement, values).fetchall()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An initialised MLflow database: creating the schema takes seconds, copying it milliseconds."""
    root = tmp_path_factory.mktemp("store")
    ensure_store(root)
    return root / "mlruns/mlflow.db"


def make_world(root: Path, store: Path) -> World:
    """A committed checkout with one training and an empty store."""
    (root / "mlruns").mkdir(parents=True)
    shutil.copyfile(store, root / "mlruns/mlflow.db")
    made = World(root, GovernanceRule.model_validate(POLICY))
    (root / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    params = {"seed": 1, "data": {"source": "simulated", "simulated": {"planted_ic": 0.1}}, "governance": POLICY}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    for package in PACKED:
        (root / package).mkdir()
        (root / package / "__init__.py").write_text("")
    made.training.served_model.write_text(SERVED)
    (root / ".gitignore").write_text("/mlruns/\n")
    for arguments in (
        ("init", "-q"),
        ("config", "user.name", "Ann Author"),
        ("config", "user.email", "ann@example.org"),
        ("add", "."),
        ("commit", "-q", "-m", "start"),
    ):
        run_git(root, *arguments)
    made.train()
    return made


@pytest.fixture(scope="session", name="make_world")
def _make_world():
    return make_world


@pytest.fixture
def world(tmp_path, empty_store, monkeypatch):
    """A checkout with a training that is not registered yet."""
    root = tmp_path / "checkout"
    monkeypatch.setenv("SIGNALS_ROOT", str(root))
    return make_world(root, empty_store)


@pytest.fixture(scope="session")
def reigning(tmp_path_factory, empty_store):
    """Version 1 is champion; version 2, better and approved, waits."""
    made = make_world(tmp_path_factory.mktemp("reigning") / "checkout", empty_store)
    for version, settings in ((1, {}), (2, {"weight": 2.0, "rank_ic": 0.05, "seed": 1})):
        made.train(**settings)
        assert made.register().version == version
        made.approve(version)
    made.promote(1)
    return made


@pytest.fixture
def governed(tmp_path, reigning, monkeypatch):
    """A copy of `reigning` in another folder: what is read from it proves that checkouts can move."""
    root = tmp_path / "moved"
    shutil.copytree(reigning.root, root)
    monkeypatch.setenv("SIGNALS_ROOT", str(root))
    return World(root, reigning.policy)


@pytest.fixture(scope="session")
def app():
    """MLflow's app with the policy, once a process: Flask takes no hooks after its first request."""
    from mlflow.server import app

    from governance.server import create_app

    assert create_app() is app
    assert create_app() is app
    return app


@pytest.fixture
def server(app, governed, monkeypatch):
    """A client of the app on the store of `governed`."""
    from mlflow.server import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR, handlers

    monkeypatch.setenv(BACKEND_STORE_URI_ENV_VAR, f"sqlite:///{governed.root}/mlruns/mlflow.db")
    monkeypatch.setenv(ARTIFACT_ROOT_ENV_VAR, "signals:/experiments")
    for name in ("_tracking_store", "_model_registry_store"):
        monkeypatch.setattr(handlers, name, None)
    return app.test_client()


@pytest.fixture
def both(server, governed, monkeypatch):
    """The native routes and Flask's, as uvicorn runs them."""
    from governance.server import create_app

    monkeypatch.setenv("_MLFLOW_SGI_NAME", "uvicorn")
    monkeypatch.setenv("_MLFLOW_SERVER_SERVE_ARTIFACTS", "true")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", str(governed.root / "mlruns/artifacts"))
    return create_app()
