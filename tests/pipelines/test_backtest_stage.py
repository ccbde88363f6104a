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
from features.panel import Panel
from features.returns import market_return
from pipelines.backtest import main
from pipelines.books import book_inputs
from pipelines.holdings import holdings
from pipelines.params import load_settings
from pipelines.tables import write_tables
from portfolio.backtest import RankRule, backtest
from portfolio.book_rule import BookRule
from portfolio.construction import TOLERANCE
from portfolio.performance import summarise
from portfolio.portfolio_rule import PortfolioRule
from portfolio.walk import walk
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
    targets = {"strategies": {"book": {"net_sharpe": 1000.0, "beta": 9.0}, "boosting": {"volatility": 9.0}}}
    targets["correlation"] = 0.5
    run(root, {})
    without_pods = read_parquet(root / "artifacts/backtest/rank.parquet")
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
    pd.testing.assert_frame_equal(told["rank"], without_pods)
    values = told["targets"].set_index(["strategy", "target"])["value"]
    assert values["book", "beta"] == abs(summary["beta"])


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


def test_a_pod_of_ones_own_has_a_name_of_its_own(root: Path) -> None:
    own = {"boosting": {"path": "artifacts/stack/oof.parquet", "digest": "0" * 64}}
    with pytest.raises(ConfigError, match="boosting is the name of a layer"):
        run(root, {"pods": {"own": own}})


def test_a_horizon_of_its_own_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"portfolio\.book\.horizon = 7"):
        run(root, {"book": {"horizon": 7}})


def beta(net: np.ndarray, index: np.ndarray) -> float:
    """Slope of one series on another."""
    return float(np.cov(net, index)[0, 1] / index.var(ddof=1))


def test_every_beta_is_to_the_index_that_the_hedge_is_of() -> None:
    """Half of the symbols with a price are outside the universe, and move by what the portfolio is exposed to."""
    rng = np.random.default_rng(3)
    sessions_, names, start = 700, 40, 300
    market, other = rng.normal(0, 0.01, (2, sessions_, 1))
    tilt = np.tile([1.0, -1.0], names // 4)
    member = market * rng.uniform(0.6, 1.4, names // 2) + other * tilt + rng.normal(0, 0.004, (sessions_, names // 2))
    outside = 2 * other + rng.normal(0, 0.004, (sessions_, names // 2))
    close = 50 * np.exp(np.cumsum(np.hstack([member, outside]), axis=0))
    close[rng.random(close.shape) < 0.01] = np.nan
    fields = dict.fromkeys(("open", "high", "low", "close"), close) | {
        "volume": np.full(close.shape, 1e7), "level_break": np.zeros(close.shape)
    }  # fmt: skip
    universe = np.tile(np.arange(names) < names // 2, (sessions_, 1))
    dates = np.datetime64("2010-01-04") + np.arange(sessions_)
    symbols = np.array([f"S{k:02d}" for k in range(names)])
    panel = Panel(dates, symbols, fields, universe, np.zeros(names, dtype=np.int64))
    rows = pd.DataFrame({"date": np.repeat(dates, names // 2), "symbol": list(symbols[: names // 2]) * sessions_})
    rows["date"], rows["p_wrong"] = rows["date"].astype("datetime64[ns]"), 0.3
    rows["signal"] = rows["expected_return"] = np.tile(0.02 * (tilt > 0), sessions_)
    # Bought in a calm market, then held and hedged.
    stress = np.where(np.arange(sessions_) < start + 20, 0.1, 0.2)
    limits = dict.fromkeys(("net_low", "net_high", "sector", "effective_names")) | {"factors": {}, "position": 0.1}
    construction = {"limits": limits, "risk_aversion": 10.0}
    stance = {"defence": "future", "calm": 0.15, "stress": 0.15}
    book = BookRule.model_validate({"construction": construction, "stance": stance, "drawdown": None})
    rule = PortfolioRule(book=book, rank=RankRule(min_names=5, sector_neutral=False))
    given, signals = book_inputs(panel, rows, stress, {}, rule=rule, horizon=5)
    found = walk(given, signals, book, start=start)
    rank = backtest(signals.forecast * rng.uniform(0.5, 1.5, close.shape), given, rule.rank, book).daily

    index = np.nan_to_num(market_return(panel))
    for daily in (found.daily, rank):
        np.testing.assert_array_equal(daily["market"], index[-len(daily) :])
        assert summarise(daily)["beta"] == pytest.approx(beta(daily["net"], index[-len(daily) :]))
    # What the index hedge holds is minus the betas, to that same index, of the weights.
    hedged = found.daily.iloc[100:]
    exposure = (given.factors["market"][start:] * found.weights)[100:].sum(axis=1)
    assert exposure.min() > 0.3
    np.testing.assert_allclose(hedged["index"][1:], -exposure[:-1], rtol=0.1)
    assert abs(summarise(hedged)["beta"]) < 0.03
    assert summarise(hedged.assign(net=hedged["net"] - hedged["hedge"]))["beta"] > 0.3
    # Of all that has a price it would be another figure.
    steps = np.diff(close, axis=0) / close[:-1]
    assert abs(beta(hedged["net"], np.nanmean(steps, axis=1)[-len(hedged) :])) > 0.1
    # And the risk report's.
    told = holdings(panel, {}, found.weights[-1]).loadings.beta
    np.testing.assert_allclose(told @ found.weights[-1], exposure[-1], rtol=0.02)
