"""From a finished run to served signals, as the people who do it type it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.files import digest_tree
from features.registry import build_features
from pipelines.day import read_day
from pipelines.evaluate import traded_size
from pipelines.panels import load_panel
from pipelines.params import load_settings
from pipelines.samples import load_samples
from pipelines.tables import read_tables
from sources.base import open_source

pytestmark = pytest.mark.slow

GRACE = "Grace <grace@example.org>"
FAILING = {"gates": [{"name": "no_leakage", "check": "invariances", "waivable": False, "reason": "leaks are fatal"}]}


@pytest.fixture(scope="module")
def served(finished, tmp_path_factory: pytest.TempPathFactory):
    """A project whose first version is in production; read it or copy it."""
    project = finished.copy(tmp_path_factory.mktemp("served") / "project")
    project.set_params({"governance": FAILING})
    project.signals("register")
    return project


def manifest_of(project, folder: str, day: str) -> dict:
    return json.loads((project.root / folder / f"date={day}" / "manifest.json").read_text())


def last_session(project) -> str:
    sessions = pd.read_parquet(project.root / "data/dataset/sessions.parquet")
    return f"{sessions['date'].iloc[-1]:%Y-%m-%d}"


def test_a_preview_is_marked_and_kept_apart(served) -> None:
    day = last_session(served)
    served.signals("preview")
    folder = served.root / "preview" / f"date={day}"
    assert manifest_of(served, "preview", day)["preview"] is True
    assert (folder / "signals.csv").read_text().startswith("# PREVIEW")
    frame = pd.read_parquet(folder / "signals.parquet")
    assert frame["signal"].abs().max() > 0
    assert abs(frame["signal"].mean()) < 1e-6
    assert sorted(frame["rank"]) == list(range(1, len(frame) + 1))
    assert frame["p_wrong"].between(0, 1).all()
    assert (frame["interval_low"] < frame["interval_high"]).all()
    assert not (served.root / "signals").exists()


def test_without_a_champion_nothing_is_served(served) -> None:
    done = served.signals("infer", "--as-of", last_session(served), check=False)
    assert done.returncode == 7
    assert done.stderr.count("\n") == 1
    assert "champion" in done.stderr


def test_a_version_cannot_be_told_apart_from_itself(served) -> None:
    done = served.signals("compare", "candidate", "1")
    assert "The two cannot be told apart" in done.stdout
    assert "WARNING version 1 is compared with itself" in done.stdout
    told = json.loads((served.root / "reports/compare/1-vs-1/comparison.json").read_text())
    daily = pd.read_parquet(served.root / "reports/evaluation/daily.parquet")
    assert told["days"] == daily["stack"].notna().sum() > 500
    assert told["rank_ic"]["all"]["challenger"] == pytest.approx(daily["stack"].mean())
    refused = served.signals("compare", "candidate", check=False)
    assert refused.returncode == 7
    assert refused.stderr.count("\n") == 1
    assert "no version is in production" in refused.stderr


@pytest.mark.parametrize(
    ("as_of", "code", "words"),
    [
        ("2016-12-25", 4, "no session"),
        ("2016-07-04", 4, "no session"),
        ("soon", 4, "YYYY-MM-DD"),
        ("2012-01-04", 4, "universe"),
        ("2011-06-01", 4, "no prices"),
        ("2017-01-03", 4, "no prices for 2017-01-03"),
    ],
)
def test_a_wrong_date_is_one_clear_line(served, as_of: str, code: int, words: str) -> None:
    done = served.signals("preview", "--as-of", as_of, check=False)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_whole_way_to_production(served, tmp_path: Path) -> None:
    project = served.copy(tmp_path / "project")
    day = last_session(project)
    refused = project.signals("promote", "candidate", "--by", GRACE, check=False)
    assert refused.returncode == 7
    own = project.signals("review", "candidate", "approve", "--comment", "mine", "--by", "ada@example.org", check=False)
    assert own.returncode == 7
    project.signals("review", "candidate", "approve", "--comment", "read the report", "--by", GRACE)
    project.signals("promote", "candidate", "--by", GRACE)

    project.signals("infer", "--as-of", day)
    folder = project.root / "signals" / f"date={day}"
    first = digest_tree(folder)
    manifest = manifest_of(project, "signals", day)
    assert manifest["version"] == 1
    assert set(manifest["files"]) == {"signals.parquet", "signals.csv"}

    again = project.signals("infer", "--as-of", day)
    assert "nothing to do" in again.stdout
    project.signals("infer", "--as-of", day, "--force")
    assert digest_tree(folder) == first

    # The served bundle is the one in the store, not the one that the next training leaves behind.
    project.set_params({"stack": {"rung": "equal"}})
    project.signals("infer", "--as-of", day, "--force")
    assert digest_tree(folder) == first

    moved = project.root.rename(tmp_path / "moved")
    project = type(project)(moved)
    project.signals("infer", "--as-of", day, "--force")
    assert digest_tree(moved / "signals" / f"date={day}") == first

    shown = project.signals("history").stdout
    assert "grace" in shown.lower()
    project.signals("rollback", "--reason", "drill", "--by", GRACE)
    stopped = project.signals("infer", "--as-of", day, "--force", check=False)
    assert stopped.returncode == 7
    assert digest_tree(moved / "signals" / f"date={day}") == first


@pytest.fixture(scope="module")
def standing(served, tmp_path_factory: pytest.TempPathFactory):
    """The project with its version promoted and the last session served; copy it."""
    project = served.copy(tmp_path_factory.mktemp("standing") / "project")
    project.signals("review", "candidate", "approve", "--comment", "fine", "--by", GRACE)
    project.signals("promote", "candidate", "--by", GRACE)
    project.signals("infer", "--as-of", last_session(project))
    return project


def test_changed_data_does_not_overwrite_served_signals(standing, tmp_path: Path) -> None:
    project = standing.copy(tmp_path / "project")
    before = digest_tree(project.root / "signals")
    project.set_params({"data": {"simulated": {"seed": 8}}})
    done = project.signals("infer", "--as-of", last_session(project), check=False)
    assert done.returncode == 3
    assert "--force" in done.stderr
    assert digest_tree(project.root / "signals") == before


def test_another_champion_does_not_overwrite_served_signals(standing, tmp_path: Path) -> None:
    project = standing.copy(tmp_path / "project")
    day = last_session(project)
    manifest = project.root / "signals" / f"date={day}" / "manifest.json"
    manifest.write_text(json.dumps({**manifest_of(project, "signals", day), "bundle": "of the champion before"}))
    before = digest_tree(manifest.parent)
    done = project.signals("infer", "--as-of", day, check=False)
    assert done.returncode == 3
    assert "another champion" in done.stderr
    assert digest_tree(manifest.parent) == before
    project.signals("infer", "--as-of", day, "--force")
    assert manifest_of(project, "signals", day)["version"] == 1


def test_a_session_of_the_training_is_marked_in_sample(served) -> None:
    served.signals("preview")
    assert manifest_of(served, "preview", last_session(served))["in_sample"] is False
    done = served.signals("preview", "--as-of", "2016-06-30")
    assert "2016-06-30 is in sample" in done.stderr
    assert manifest_of(served, "preview", "2016-06-30")["in_sample"] is True


@pytest.fixture(scope="module")
def delivered(finished, tmp_path_factory: pytest.TempPathFactory):
    """The finished project, its tables delivered as files."""
    project = finished.copy(tmp_path_factory.mktemp("delivered") / "project")
    for name, table in read_tables(project.root / "data/raw").items():
        table.to_parquet(project.root / f"data/files/{name}.parquet")
    project.set_params({"data": {"source": "files"}})
    return project


def _stopped(project, table: str, column: str) -> None:
    file = project.root / f"data/files/{table}.parquet"
    rows = pd.read_parquet(file)
    end = rows[column].max() - pd.Timedelta(days=400)
    rows[rows[column] < end].to_parquet(file)


def _without_figures(project) -> None:
    file = project.root / "data/files/fundamentals.parquet"
    pd.read_parquet(file).assign(net_income=np.nan).to_parquet(file)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda project: _stopped(project, "posts", "created_at"), ["'posts'", "silent", "stopped"]),
        (lambda project: _stopped(project, "fundamentals", "available_date"), ["'filings'", "silent", "stopped"]),
        (_without_figures, ["is known for 0% of the symbols", "incomplete"]),
    ],
    ids=["posts", "filings", "figures"],
)
def test_a_feed_that_stopped_stops_the_day(delivered, tmp_path: Path, spoil, words: list[str]) -> None:
    day = last_session(delivered)
    delivered.signals("preview", "--as-of", day)
    project = delivered.copy(tmp_path / "project")
    spoil(project)
    before = digest_tree(project.root / "preview")
    done = project.signals("preview", "--as-of", day, check=False)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
    assert digest_tree(project.root / "preview") == before


def test_code_that_declares_a_feature_otherwise_is_refused(served, tmp_path: Path) -> None:
    project = served.copy(tmp_path / "project")
    file = project.root / "features/families/market.py"
    text = file.read_text()
    wanted = '@market.feature("seasonality", lookback=YEAR + 1'
    assert wanted in text
    file.write_text(text.replace(wanted, '@market.feature("seasonality", lookback=YEAR + 2'))
    done = project.signals("preview", check=False)
    assert done.returncode == 6
    assert "'seasonality' is declared with lookback 254, the bundle was made with 253" in done.stderr
    file.write_text(text.replace('"seasonality"', '"season"'))
    done = project.signals("preview", check=False)
    assert done.returncode == 6
    assert "no feature 'seasonality'" in done.stderr


def test_serving_sees_what_training_saw(finished) -> None:
    """The day's features, from the declared lookback alone, are the training rows to the bit."""
    settings = load_settings(finished.root / "params.yaml")
    samples = load_samples(finished.root / "data/dataset", finished.root / "data/features")
    source = open_source("simulated", None, settings.provider)
    for back, lookback in ((1, 1), (40, 1), (3, 20)):
        session, last = samples.data.dates[-back], len(samples.data.dates) - back
        day = read_day(source, settings.inputs, samples.data.features, session, lookback, market_lookback=300)
        trained = samples.data.between(last - lookback + 1, last)
        assert trained.keys().equals(day.rows.keys())
        assert np.array_equal(trained.X.view(np.uint32), day.rows.X.view(np.uint32))
        assert np.array_equal(samples.scale[samples.data.rows(last, last)], day.scale)
        assert samples.data.market[last - 299 : last + 1].tobytes() == day.rows.market[-300:].tobytes()
        assert day.own.keys().equals(samples.data.between(last, last).keys())


def test_the_report_knows_what_the_stack_wrote(finished) -> None:
    root = finished.root
    for name in ("ladder", "comparison", "paths", "weights"):
        told = pd.read_parquet(root / f"reports/evaluation/{name}.parquet")
        pd.testing.assert_frame_equal(told, pd.read_parquet(root / f"artifacts/stack/{name}.parquet"))
        assert len(told)
    assert pd.read_parquet(root / "reports/evaluation/by_size.parquet")["size"].tolist() == ["small", "middle", "large"]
    metrics = json.loads((root / "reports/metrics.json").read_text())
    assert metrics["overfitting"]["paths_worst_ic"] is not None

    panel = load_panel(root / "data/clean", load_settings(root / "params.yaml").universe)
    traded = pd.DataFrame(panel["close"] * panel["volume"]).rolling(63, min_periods=31).mean()
    np.testing.assert_allclose(traded_size(panel), np.log(traded), rtol=1e-9)


def test_the_stack_finds_the_planted_signal(finished) -> None:
    metrics = json.loads((finished.root / "reports/metrics.json").read_text())
    assert metrics["test"]["stack"]["rank_ic"] > 0.02
    assert len(build_features(load_settings(finished.root / "params.yaml").features)) > 60
