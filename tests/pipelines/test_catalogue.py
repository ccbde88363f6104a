"""The feature catalogue as a user types it: what features are, and what each says by itself, the holdout apart."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from features.registry import FAMILIES, build_features
from models.scoring import default_lags, newey_west_t, rank_ic
from pipelines.catalogue import choose
from pipelines.cli import app
from pipelines.params import load_settings
from pipelines.samples import load_samples


@pytest.fixture
def root(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is a checkout as far as listing features goes, with one family only."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy2(repository / name, tmp_path / name)
    values = yaml.safe_load((tmp_path / "params.yaml").read_text())
    values["features"]["families"] = ["market"]
    values["features"]["market"]["momentum"] = [100]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setenv("SIGNALS_ROOT", str(tmp_path))
    return tmp_path


def ask(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_list_is_that_of_params(root: Path) -> None:
    listed = json.loads(ask("features", "--json"))
    declared = load_settings(root / "params.yaml").inputs.features
    assert [item["name"] for item in listed] == [feature.name for feature in declared]
    assert {"momentum_100"} == {item["name"] for item in listed if re.fullmatch(r"momentum_\d+", item["name"])}
    assert {item["family"] for item in listed} == {"market"}
    assert all(item["in_run"] for item in listed)
    assert set(listed[0]) >= {"lookback", "units", "sign", "inputs", "doc", "reference"}


def test_all_families_or_one(root: Path) -> None:
    listed = json.loads(ask("features", "--all", "--json"))
    assert {item["family"] for item in listed} == {name for name in FAMILIES if FAMILIES[name].build()}
    assert {item["family"] for item in listed if item["in_run"]} == {"market"}
    told = ask("features", "--family", "text")
    assert told.startswith("text: ")
    assert "not in the run" in told.splitlines()[0]
    refused = CliRunner().invoke(app, ["features", "--family", "astrology"])
    assert refused.exit_code == 2
    assert "choose one of" in refused.stderr


def test_the_table_fits_a_hundred_columns(root: Path) -> None:
    told = ask("features", "--all")
    assert max(map(len, told.splitlines())) <= 100
    words = " ".join(told.split())
    for item in json.loads(ask("features", "--all", "--json")):
        assert re.search(rf"(?m)^{re.escape(item['name'])} +{item['lookback']} ", told)
        assert " ".join(item["doc"].split()) in words
        assert " ".join(item["reference"].split()) in words


def test_without_clean_data_it_says_what_to_run(root: Path) -> None:
    refused = CliRunner().invoke(app, ["catalogue"])
    assert refused.exit_code == 3
    assert "dvc repro" in refused.stderr
    assert not (root / "docs").exists()


@pytest.fixture(scope="module")
def measured(finished, tmp_path_factory: pytest.TempPathFactory):
    """A finished project whose params leave a family out, after `signals catalogue`."""
    project = finished.copy(tmp_path_factory.mktemp("catalogue") / "project")
    project.set_params({"features": {"families": ["market", "fundamental"]}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGNALS_ROOT", str(project.root))
        assert "written: docs/features.md" in ask("catalogue")
    return project


@pytest.mark.slow
def test_the_page_shows_every_feature(measured) -> None:
    text = (measured.root / "docs/features.md").read_text()
    features = build_features(choose(load_settings(measured.root / "params.yaml"), everything=True))
    for feature in features:
        assert f"| {feature.name} |" in text
    assert "| text | no |" in text
    assert "Not in the run" in text
    assert "The holdout is left out: the last 126 sessions" in text
    assert "Data: simulated. 40 symbols" in text
    assert "Bonferroni" in text
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert len(pictures) == 3
    for picture in pictures:
        assert (measured.root / "docs" / picture).read_bytes().startswith(b"\x89PNG")
    assert sum(file.stat().st_size for file in (measured.root / "docs/images/features").iterdir()) < 1e6
    html = (measured.root / "reports/features/features.html").read_text()
    assert all(feature.name in html for feature in features)
    assert str(measured.root) not in text + html


@pytest.mark.slow
def test_figures_are_those_of_the_scoring_without_the_holdout(measured) -> None:
    found = json.loads((measured.root / "reports/features/features.json").read_text())
    samples = load_samples(measured.root / "data/dataset", measured.root / "data/features")
    data, horizon = samples.data, samples.horizon
    holdout = min(fold.test[0] for fold in samples.folds if fold.holdout)
    judged = data.session + horizon + 1 <= holdout
    shown = {item["feature"]: item for item in found["features"]}
    for name in ("reversal_5", "momentum_252", "earnings_yield", "sentiment_5"):
        values = data.X[:, list(data.features).index(name)]
        daily = rank_ic(values[judged], data.forward[judged], data.session[judged])
        assert shown[name]["ic"] == pytest.approx(daily.mean(), abs=1e-6)
        assert shown[name]["t"] == pytest.approx(newey_west_t(daily, default_lags(len(daily), horizon)), abs=1e-4)
        assert shown[name]["days"] == len(daily)
        assert shown[name]["coverage"] == pytest.approx(np.isfinite(values).mean(), abs=1e-6)
    assert found["judged"][1] == str(data.dates[holdout - horizon - 1])
    assert found["thresholds"]["tests"] == sum(item["t"] is not None for item in found["features"])
