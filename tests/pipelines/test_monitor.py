"""`signals monitor` on a checkout with a faked past: real prices and features, invented evidence, planted skill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from core.files import atomic_directory, canonical_json, digest_bytes, digest_tree, write_json, write_parquet
from core.params import merge
from features.target import make_target
from governance.ledger import Ledger
from governance.outputs import write_manifest
from governance.places import ARTIFACTS, LEDGER
from governance.seal import seal
from models.profile import profile
from pipelines import cli
from pipelines.day import read_day
from pipelines.features import describe
from pipelines.history import read_history
from pipelines.monitor import read_prices
from pipelines.params import load_settings
from sources.calendar import sessions

HORIZON, SERVED, SKILL = 5, 60, 0.25
DAYS = sessions("2014-06-02", "2016-12-30")
PARAMS = {
    "data": {"source": "files", "path": "tables"},
    "universe": {"min_dollar_volume": 0.0, "coverage_sessions": 60, "break_sessions": 60},
    "target": {"beta_window": 60},
    "features": {"families": ["market"]},
    "layers": {"names": ["linear"]},
    "monitoring": {"false_alarm_sessions": 250, "simulations": 100, "history_sessions": 100, "drift_sessions": 10},
}


def _prices() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    returns = rng.normal(0.0, 0.015, (len(DAYS), 30)) + rng.normal(0.0, 0.008, (len(DAYS), 1))
    close = 50 * np.exp(np.cumsum(returns, axis=0))
    frame = pd.DataFrame(
        {
            "date": np.repeat(DAYS.astype("datetime64[ns]"), 30),
            "symbol": np.tile([f"S{i:02d}" for i in range(30)], len(DAYS)),
            "close": close.ravel(),
            "volume": rng.uniform(1e6, 2e6, close.size).round(),
        }
    )
    spread = 1 + rng.uniform(0.001, 0.01, (2, len(frame)))
    return frame.assign(open=frame["close"], high=frame["close"] * spread[0], low=frame["close"] / spread[1])


def _register(root: Path, version: int, bundle_source: Path) -> str:
    """A version as the ledger and the artifact store have it; returns the digest of its bundle."""
    model, evidence = (root / ARTIFACTS / f"{what}-{version}" for what in ("model", "evidence"))
    shutil.copytree(bundle_source, model / "artifacts/bundle")
    bundle = model / "artifacts/bundle"
    manifest = {"format": 2, "features": json.loads((bundle / "names.json").read_text()), "layers": ["linear"]}
    (bundle / "names.json").unlink()
    write_json(bundle / "stack.json", {"version": version})
    manifest["files"] = digest_tree(bundle)
    digest = digest_bytes(canonical_json(manifest).encode())
    write_json(bundle / "manifest.json", {**manifest, "digest": digest})
    days = pd.bdate_range("2010-01-01", periods=600)
    noise = np.random.default_rng(version).normal(0.0, 0.2, (600, 2))
    daily = pd.DataFrame(SKILL + noise, columns=["stack", "linear"]).assign(
        date=days, part="test", regime="calm", net=0
    )
    write_parquet(evidence / "daily.parquet", daily)
    write_json(evidence / "lineage.json", {"serving": {}})
    write_json(evidence / "metrics.json", {"calibration": {"brier": 0.24, "ece": 0.01}})
    Ledger(root / LEDGER).append(
        "registered",
        "Ann <ann@example.org>",
        {
            "version": version,
            "run_id": f"run-{version}",
            "author": "Ann <ann@example.org>",
            "git": {"commit": "0" * 40, "dirty": False},
            "gates": [],
            "evidence": digest,
            "bundle_digest": digest,
            "model_uri": f"signals:/model-{version}",
            "bundle_uri": f"signals:/model-{version}/artifacts/bundle",
            "model_files": seal(model),
            "evidence_uri": f"signals:/evidence-{version}",
            "evidence_files": seal(evidence),
        },
    )
    return digest


def write_day(folder: Path, day: np.datetime64, rows: pd.DataFrame, version: int, digest: str) -> None:
    """A day as the daily job leaves it."""
    with atomic_directory(folder / f"date={day}") as out:
        write_parquet(out / "signals.parquet", rows)
        manifest = {"date": str(day), "version": version, "bundle": digest, "symbols": len(rows), "in_sample": False}
        write_manifest(out, {**manifest, "warnings": []})


def _serve(panel, residual, t: int, skill: float) -> pd.DataFrame:
    rng = np.random.default_rng(t)
    held = np.flatnonzero(panel.universe[t])
    outcome = np.nan_to_num(residual[t, held])
    signal = skill * outcome / 0.03 + np.sqrt(1 - skill**2) * rng.normal(size=len(held))
    return pd.DataFrame(
        {
            "date": np.full(len(held), panel.dates[t]).astype("datetime64[s]"),
            "symbol": panel.symbols[held].astype(object),
            "rank": np.argsort(np.argsort(-signal)) + 1,
            "signal": signal,
            "signal_linear": signal + rng.normal(size=len(held)),
            "expected_return": 0.001 * signal,
            "interval_low": -0.056,
            "interval_high": 0.056,
            "p_wrong": 0.45,
            "top_reasons": "",
        }
    )


@pytest.fixture(scope="module")
def past(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions that served one after the other until the data's last session."""
    root = tmp_path_factory.mktemp("monitored") / "project"
    (root / "tables").mkdir(parents=True)
    write_parquet(root / "tables/prices.parquet", _prices())
    shutil.copy(repository / "dvc.yaml", root / "dvc.yaml")
    values = yaml.safe_load((repository / "params.yaml").read_text())
    merge(values, PARAMS)
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    settings = load_settings(root / "params.yaml")
    source = settings.open_source()

    made = root / "made"
    bars = {"open", "high", "low", "close", "volume"}
    names = [one.name for one in settings.inputs.features if one.lookback <= 70 and bars.issuperset(one.inputs)][:10]
    declared = [describe(feature) for feature in settings.inputs.features if feature.name in names]
    trained = read_day(source, settings.inputs, names, DAYS[-SERVED - 30], 120).rows
    write_json(made / "names.json", names)
    write_json(made / "features.json", declared)
    write_json(made / "profile.json", {**profile(trained), "feeds": {}})
    write_json(made / "params.json", settings.resolved(("universe", "target", "features", "stack")))
    digests = {version: _register(root, version, made) for version in (1, 2)}

    panel = read_prices(source, settings.universe, settings.target, DAYS[-SERVED].item(), DAYS[-1])
    residual = make_target(panel, settings.target).residual
    for t in range(len(panel.dates) - SERVED, len(panel.dates)):
        version = 1 if t < len(panel.dates) - 40 else 2
        write_day(root / "signals", panel.dates[t], _serve(panel, residual, t, SKILL), version, digests[version])
    return root


@pytest.fixture
def project(past: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(past, tmp_path / "project"))


@pytest.fixture
def run(monkeypatch):
    def run(root: Path, *words: str):
        monkeypatch.setenv("SIGNALS_ROOT", str(root))
        done = CliRunner().invoke(cli.app, list(words))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run


def report(root: Path) -> dict:
    return json.loads((root / "reports/monitor/monitor.json").read_text())


def test_a_served_past_is_judged_and_reported(project, run) -> None:
    done = run(project, "monitor", "--strict")
    assert done.exit_code == 0, done.stderr
    told = report(project)
    assert (told["version"], told["as_of"]) == (2, "2016-12-30")
    assert told["verdict"] in ("fine", "watch"), told["sentence"]
    assert told["sentence"] in done.stdout
    stack = told["metrics"]["skill"]["stack"]
    assert stack["days"] == 40 - HORIZON - 1
    assert stack["rank_ic"] == pytest.approx(SKILL, abs=0.12)
    assert told["metrics"]["drift"]["families"].keys() == {"market"}
    assert told["metrics"]["data"] | {"served": 60, "missing": 0, "broken": 0, "stale": 0} == told["metrics"]["data"]
    measured = {one["metric"] for one in told["findings"] if one["measured"] is not None}
    assert {one["metric"] for one in told["findings"]} - measured == {"shadow.best_t"}
    folder = project / "reports/monitor"
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "metrics.prom", "monitor.json"]
    before = digest_tree(folder)
    run(project, "monitor")
    assert digest_tree(folder) == before


def test_an_outcome_is_that_of_the_training_path(past) -> None:
    settings = load_settings(past / "params.yaml")
    source = settings.open_source()
    whole = read_prices(source, settings.universe, settings.target, DAYS[0].item(), DAYS[-1])
    some = read_prices(source, settings.universe, settings.target, DAYS[-20].item(), DAYS[-1])
    wanted, found = (make_target(panel, settings.target).residual[-20:] for panel in (whole, some))
    assert np.isfinite(found[:14]).mean() > 0.9
    np.testing.assert_array_equal(found, wanted)


def test_judged_at_a_past_session_nothing_later_counts(project, run) -> None:
    day = str(DAYS[-10])
    run(project, "monitor", "--as-of", day, "--no-features")
    before = report(project)
    assert before["metrics"]["skill"]["stack"]["days"] == 31 - HORIZON - 1
    file = project / "tables/prices.parquet"
    prices = pd.read_parquet(file)
    late = prices["date"] > pd.Timestamp(day)
    prices.loc[late, ["open", "high", "low", "close"]] *= np.random.default_rng(1).uniform(0.9, 1.1, (late.sum(), 1))
    prices.to_parquet(file)
    for later in DAYS[-9:]:
        shutil.rmtree(project / f"signals/date={later}")
    run(project, "monitor", "--as-of", day, "--no-features")
    assert report(project) == before


def _alter(folder: Path) -> None:
    file = folder / "signals.parquet"
    pd.read_parquet(file).assign(signal=0.0).to_parquet(file)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_alter, "signals.parquet was changed"),
        (lambda folder: (folder / "signals.parquet").write_bytes(b"PAR1"), "signals.parquet was changed"),
        (lambda folder: (folder / "manifest.json").unlink(), "missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "not a manifest"),
        (lambda folder: (folder / "more.txt").write_text("x"), "more.txt was added"),
        (lambda folder: _redate(folder), "is of 2016-12-30"),
        (lambda folder: _double(folder), "one row a symbol"),
    ],
    ids=["edited", "no-parquet", "no-manifest", "torn-manifest", "no-object", "added", "of-another-day", "doubled"],
)
def test_a_spoilt_day_is_told_and_left_out(past, tmp_path, spoil, words) -> None:
    folder = Path(shutil.copytree(past / "signals", tmp_path / "signals"))
    spoil(folder / f"date={DAYS[-15]}")
    found = read_history(folder, DAYS[-1], 100)
    bad = found.days[found.days["state"] == "broken"]
    assert bad["date"].tolist() == [pd.Timestamp(DAYS[-15])]
    assert words in bad["problem"].iloc[0]
    assert found.rows["date"].nunique() == SERVED - 1


def _redate(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name(f"date={DAYS[-1]}"), folder)


def _double(folder: Path) -> None:
    rows = pd.read_parquet(folder / "signals.parquet")
    write_day(folder.parent, DAYS[-15], pd.concat([rows, rows.head(1)]), 2, "d")


def _in_hindsight(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    write_manifest(folder, {**manifest, "hindsight": True})


def test_days_made_afterwards_are_no_days_that_were_served(project, run) -> None:
    folders = sorted((project / "signals").glob("date=*"))
    for folder in folders[:10]:
        _in_hindsight(folder)
    found = read_history(project / "signals", DAYS[-1], 100)
    assert found.days["state"].tolist() == ["hindsight"] * 10 + ["served"] * (SERVED - 10)
    assert found.rows["date"].nunique() == SERVED - 10
    assert found.notes == ()
    run(project, "monitor", "--no-features")
    assert not any("afterwards" in note for note in report(project)["notes"])

    for folder in folders[10:]:
        _in_hindsight(folder)
    found = read_history(project / "signals", DAYS[-1], 100)
    assert set(found.days["state"]) == {"served"}
    assert found.rows["date"].nunique() == SERVED
    done = run(project, "monitor", "--no-features")
    afterwards = "was made afterwards, by a version that was not in production then"
    assert any(afterwards in note for note in report(project)["notes"])
    assert "was made afterwards" in " ".join(done.stdout.split())


def test_an_altered_day_freezes(project, run) -> None:
    _alter(project / f"signals/date={DAYS[-15]}")
    done = run(project, "monitor", "--strict", "--no-features")
    assert done.exit_code == 7
    assert done.stderr.startswith("error: the served signals should not be traded: altered: data.broken = 1")
    told = report(project)
    assert (told["verdict"], told["fired"][0]) == ("freeze", "altered")
    assert told["metrics"]["skill"]["stack"]["days"] == 40 - HORIZON - 2


def test_a_gap_is_told_and_judged_by_its_rule(project, run) -> None:
    for day in DAYS[-12:-8]:
        shutil.rmtree(project / f"signals/date={day}")
    run(project, "monitor", "--no-features")
    told = report(project)
    assert told["metrics"]["data"]["missing"] == 4
    assert "gaps" in told["fired"]
    assert told["verdict"] in ("watch", "retrain")


def test_signals_turned_round_freeze(project, run) -> None:
    for day in DAYS[-40:]:
        folder = project / f"signals/date={day}"
        rows = pd.read_parquet(folder / "signals.parquet")
        version = json.loads((folder / "manifest.json").read_text())
        write_day(project / "signals", day, rows.assign(signal=-rows["signal"]), version["version"], version["bundle"])
    done = run(project, "monitor", "--no-features")
    assert done.exit_code == 0
    assert "inverted" in report(project)["fired"]
    assert "signals rollback" in done.stdout


def test_without_features_or_their_inputs_the_rest_is_judged(project, run) -> None:
    bundle = project / ARTIFACTS / "model-2/artifacts/bundle"
    (bundle / "profile.json").write_text("{}")
    run(project, "monitor")
    told = report(project)
    assert any("profile.json was changed" in note for note in told["notes"])
    assert told["metrics"]["skill"]["stack"]["rank_ic"] is not None
    assert told["metrics"]["drift"]["psi"] is None


def _edit_evidence(root: Path) -> None:
    file = root / ARTIFACTS / "evidence-1/daily.parquet"
    pd.read_parquet(file).assign(stack=0.0).to_parquet(file)


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (lambda root: shutil.rmtree(root / "signals"), 3, "holds no signals between"),
        (lambda root: (root / "signals/date=soon").mkdir(), 3, "date=soon is no folder of a session"),
        (lambda root: (root / LEDGER).unlink(), 7, "version 1"),
        (_edit_evidence, 7, "daily.parquet was changed"),
        (
            lambda root: [path.unlink() for path in root.glob("signals/*/manifest.json")],
            3,
            "no session was served whole",
        ),
        (lambda root: (root / "tables/prices.parquet").unlink(), 3, "prices"),
    ],
    ids=["no-signals", "stray", "no-ledger", "evidence", "all-broken", "no-data"],
)
def test_what_cannot_be_judged_is_one_line_and_writes_nothing(project, run, spoil, code, words) -> None:
    spoil(project)
    done = run(project, "monitor")
    assert done.exit_code == code, done.stderr
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert not (project / "reports").exists()


def test_a_date_that_is_no_session_is_refused(project, run) -> None:
    done = run(project, "monitor", "--as-of", "2016-12-25")
    assert done.exit_code == 4
    assert "no session" in done.stderr


def test_a_folder_of_a_holiday_is_broken(past, tmp_path) -> None:
    folder = Path(shutil.copytree(past / "signals", tmp_path / "signals"))
    shutil.copytree(folder / "date=2016-12-23", folder / "date=2016-12-26")
    found = read_history(folder, DAYS[-1], 100)
    bad = found.days[found.days["state"] == "broken"]
    assert bad["problem"].tolist() == ["date=2016-12-26 is no session of the exchange"]
    assert len(found.days) == SERVED + 1
    assert len(read_history(folder, DAYS[-1], 7).days) == 7 + 1


def test_a_retraining_is_proposed_and_nothing_is_run(project, run, monkeypatch) -> None:
    refused = run(project, "retrain")
    assert refused.exit_code == 3
    assert "run `signals monitor` first" in refused.stderr
    told = {"version": 2, "as_of": "2016-12-30", "verdict": "retrain", "fired": ["skill_lost"]}
    write_json(project / "reports/monitor/monitor.json", told)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("something was run"))
    values = yaml.safe_load((project / "params.yaml").read_text())
    values["data"]["end"], values["target"]["beta_window"] = "2016-06-30", 61
    (project / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    before = (project / "params.yaml").read_text()
    done = run(project, "retrain")
    assert done.exit_code == 0, done.stderr
    assert (project / "params.yaml").read_text() == before
    found = json.loads((project / "reports/monitor/retrain.json").read_text())
    assert found["params"] == {"data": {"start": None, "end": None}, "seed": 7}
    assert found["changes"] == {"data": {"end": None}}
    assert found["differs"] == ["target.beta_window"]
    assert found["fired"] == ["skill_lost"]
    assert "next: signals run" in done.stdout
    run(project, "retrain", "--write")
    assert yaml.safe_load((project / "params.yaml").read_text())["data"]["end"] is None
    assert json.loads((project / "reports/monitor/retrain.json").read_text()) == found
    run(project, "retrain")
    assert json.loads((project / "reports/monitor/retrain.json").read_text())["changes"] == {}


def test_a_shadow_lies_apart_and_only_what_was_registered_runs(project, run, monkeypatch) -> None:
    assert run(project, "shadow").exit_code == 2
    values = yaml.safe_load((project / "params.yaml").read_text())
    values["monitoring"]["shadow"] = [1]
    (project / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    written = []
    digest = json.loads((project / ARTIFACTS / "model-1/artifacts/bundle/manifest.json").read_text())["digest"]
    loaded = SimpleNamespace(digest=digest)
    monkeypatch.setattr("pipelines.infer.Bundle.load", lambda folder, wait: loaded.__dict__.update(at=folder) or loaded)
    monkeypatch.setattr("pipelines.infer._write_day", lambda job, out, *rest: written.append((out, *rest)))
    assert run(project, "shadow", "--as-of", "2016-12-30").exit_code == 0
    out, bundle, session, origin, force = written[0]
    assert out == project / "shadow/version=1"
    assert bundle.at == project / ARTIFACTS / "model-1/artifacts/bundle"
    assert (str(session), force) == ("2016-12-30", False)
    assert (origin["shadow"], origin["version"]) == (True, 1)
    loaded.digest = "0" * 64
    assert run(project, "shadow").exit_code == 6
    (bundle.at / "stack.json").write_text("{}")
    refused = run(project, "shadow")
    assert refused.exit_code == 7
    assert "version 1 may not run in shadow: stored artifact artifacts/bundle/stack.json was changed" in refused.stderr
    assert len(written) == 1


def test_a_version_in_shadow_is_set_against_the_champion(project, run) -> None:
    values = yaml.safe_load((project / "params.yaml").read_text())
    values["monitoring"]["shadow"] = [1, 9]
    (project / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    for day in DAYS[-40:]:
        rows = pd.read_parquet(project / f"signals/date={day}/signals.parquet")
        write_day(project / "shadow/version=1", day, rows.assign(signal=-rows["signal"]), 1, "d")
    run(project, "monitor", "--no-features")
    told = report(project)
    line = told["metrics"]["shadow"]["version_1"]
    assert line["days"] == 40 - HORIZON - 1
    assert line["difference"] == pytest.approx(-2 * told["metrics"]["skill"]["stack"]["rank_ic"])
    assert any("shadow 9 is left out: version=9/ holds no signals" in note for note in told["notes"])
