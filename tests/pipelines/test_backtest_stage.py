"""The stage `backtest` on a small market: what it writes, and that a limit in params.yaml binds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from core.errors import ConfigError, DataError
from core.files import digest_file, read_json, read_parquet, write_json, write_parquet
from core.params import merge
from pipelines.backtest import main
from pipelines.params import load_settings
from pipelines.tables import write_tables
from portfolio.construction import TOLERANCE
from sources.calendar import sessions

SYMBOLS = [f"S{k:02d}" for k in range(24)]
SECTORS = ["Energy", "Financials", "Materials"] * 8
DAYS = sessions(pd.Timestamp("2013-01-02").date(), pd.Timestamp("2015-03-31").date())
FIRST = 470


@pytest.fixture(scope="module")
def made(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with clean tables and out-of-fold rows, and a quick `portfolio`."""
    root = tmp_path_factory.mktemp("stage")
    rng = np.random.default_rng(5)
    shape = (len(DAYS), len(SYMBOLS))
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.006, (shape[0], 1)) + rng.normal(0, 0.012, shape), axis=0))
    keys = {"date": np.repeat(DAYS, shape[1]).astype("datetime64[ns]"), "symbol": SYMBOLS * shape[0]}
    prices = pd.DataFrame(
        {**keys, **dict.fromkeys(("open", "high", "low", "close"), close.ravel()), "volume": 1e6, "level_break": 0.0}
    )
    securities = pd.DataFrame({"symbol": SYMBOLS, "sector": SECTORS, "industry": SYMBOLS[:12] * 2})
    write_tables(root / "data/clean", {"prices": prices, "securities": securities})
    values = rng.normal(size=shape[1] * (shape[0] - FIRST))
    rows = pd.DataFrame({name: column[FIRST * shape[1] :] for name, column in keys.items()}).assign(
        fold=0, signal=values, signal_a=values, expected_return=0.004 * values,
        p_wrong=np.clip(0.5 - 0.06 * np.abs(values), 0.3, 0.5),
    )  # fmt: skip
    write_parquet(root / "artifacts/stack/oof.parquet", rows)
    write_json(root / "artifacts/stack/meta.json", {"columns": {"boosting": "signal_a"}})
    params = yaml.safe_load((repository / "params.yaml").read_text())
    params["features"]["families"] = ["market"]
    params["universe"].update(min_dollar_volume=0.0, coverage_sessions=63, break_sessions=63, dollar_volume_sessions=21)
    params["portfolio"]["compare"]["sessions"] = 0
    params["portfolio"]["pods"] = None
    # What the regimes make of noise is not what is tested.
    params["portfolio"]["book"]["stance"].update(calm=1.0, stress=1.0)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "project"
    shutil.copytree(made, copy)
    monkeypatch.chdir(copy)
    return copy


def run(root: Path, changes: dict) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """Targets as (session, symbol), limits and summary of the stage with other choices of `portfolio`."""
    values = yaml.safe_load((root / "params.yaml").read_text())
    merge(values, {"portfolio": changes})
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    main(load_settings(root / "params.yaml"))
    folder = root / "artifacts/backtest"
    held, daily = read_parquet(folder / "positions.parquet"), read_parquet(folder / "daily.parquet")
    asked = held[held["date"].isin(daily.loc[daily["because"] != "", "date"])]
    targets = asked.pivot(index="date", columns="symbol", values="target").reindex(columns=SYMBOLS).fillna(0.0)
    return targets, read_parquet(folder / "limits.parquet"), read_json(folder / "summary.json")


def limited(**limits: object) -> dict:
    return {"book": {"construction": {"limits": limits}}}


def test_limits_in_params_bind(root: Path) -> None:
    loose, limits, summary = run(root, limited(position=0.06, sector=0.2, effective_names=None))
    # In float32 at rest.
    slack = TOLERANCE + 1e-7
    assert 0.04 < loose.abs().max().max() <= 0.06 + slack
    sector = pd.Series(SECTORS, index=SYMBOLS)
    assert 0.05 < loose.T.groupby(sector).sum().abs().max().max() <= 0.2 + slack
    assert summary["binding"]["position"] > 5

    tight, limits, summary = run(root, limited(position=0.03, sector=0.02))
    assert tight.abs().max().max() <= 0.03 + slack
    assert tight.T.groupby(sector).sum().abs().max().max() <= 0.02 + slack
    assert {"position", "sector"} <= set(limits.loc[~limits["relaxed"], "kind"])
    assert summary["binding"]["sector"] > 5
    assert summary["relaxed"] == {}
    assert summary["effective_names"] > 10

    few, _, summary = run(root, limited(position=0.03, sector=0.2, gross=0.3))
    assert few.abs().sum(axis=1).max() <= 0.3 + slack
    assert summary["binding"]["gross"] > 5


def test_what_is_written_agrees(root: Path) -> None:
    pods = {"review_sessions": 10, "least_sessions": 20, "evidence_sessions": 20}
    ways = {"sessions": 30, "rebalance_sessions": [10], "schemes": ["risk_parity"], "capitals": [1e6, 1e8]}
    targets = {"strategies": {"book": {"net_sharpe": 1000.0}, "boosting": {"volatility": 9.0}}, "correlation": 0.5}
    _, _, summary = run(root, {"pods": pods, "compare": ways, "targets": targets})
    told = {file.stem: read_parquet(file) for file in (root / "artifacts/backtest").glob("*.parquet")}
    daily = told["daily"]
    assert len(daily) == len(DAYS) - FIRST
    assert daily["cost"].to_numpy() == pytest.approx(
        daily[["commission", "impact", "borrow", "hedge_cost"]].sum(axis=1).to_numpy(), abs=1e-15
    )
    assert summary["effective_names"] == daily.loc[daily["names"] > 0, "effective_names"].median()
    assert summary["largest_weight"] == daily["largest"].max()
    assert summary["drawdown_volatilities"] == pytest.approx(summary["max_drawdown"] / summary["volatility"])
    assert told["capacity"]["capital"].tolist() == [1e6, 1e8]
    ways_told = [("optimised", 5), ("optimised", 10), ("risk_parity", 5)]
    assert list(zip(told["compared"]["scheme"], told["compared"]["rebalance_sessions"], strict=True)) == ways_told
    assert set(told["compared"]["days"]) == {30}
    met = told["targets"].set_index(["strategy", "target"])["met"].to_dict()
    # The layer is the stack here, so that the two are alike.
    assert met["book", "net_sharpe"] is False
    assert met["boosting", "volatility"] is True
    assert met["boosting, stack", "correlation"] is False
    assert set(told["pod_reviews"]["pod"]) == {"boosting", "stack"}
    assert summary["rank"]["days"] == len(told["rank"])


def test_a_pod_of_ones_own_is_the_file_that_is_named(root: Path) -> None:
    rows = read_parquet(root / "artifacts/stack/oof.parquet", columns=["date", "symbol", "signal"])
    write_parquet(root / "mine.parquet", rows.assign(signal=-rows["signal"]))
    own = {"mine": {"path": "mine.parquet", "digest": digest_file(root / "mine.parquet")}}
    run(root, {"pods": {"own": own, "least_sessions": 20}})
    assert "mine" in set(read_parquet(root / "artifacts/backtest/pod_reviews.parquet")["pod"])
    write_parquet(root / "mine.parquet", rows)
    with pytest.raises(DataError, match="not the one named"):
        run(root, {})
    (root / "mine.parquet").unlink()
    with pytest.raises(DataError, match=r"mine\.parquet does not exist"):
        run(root, {})


def test_a_horizon_of_its_own_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"portfolio\.book\.horizon = 7"):
        run(root, {"book": {"horizon": 7}})
