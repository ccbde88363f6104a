"""Stage `evaluate`: judge the out-of-fold signals, every trial counted -> reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.files import atomic_directory, atomic_file, read_json, read_parquet, write_json, write_parquet, write_text
from features.kernels import rolling_mean
from features.panel import Panel, positions
from features.returns import market_return
from models.evaluation import Evaluation, evaluate
from pipelines.layout import BACKTEST, CLEAN, DATASET, REPORTS, STACK, TRAIN, TUNE
from pipelines.panels import load_panel
from pipelines.stage import Settings, run_stage
from pipelines.tables import read_outcomes, read_securities, sectors_of
from reporting.evaluation import evaluation_page

SIZE_SESSIONS = 63


def main(settings: Settings) -> None:
    """Write the metrics that the gates read, the tables behind them, plots, and the page."""
    meta = read_json(STACK / "meta.json")
    signals = read_parquet(STACK / "oof.parquet")
    panel = load_panel(CLEAN, settings.universe)
    layers = sorted(settings.layers)
    result = evaluate(
        # Judged by the layers' names; the letters are for those who read signals.
        signals.rename(columns={column: f"signal_{layer}" for layer, column in meta["columns"].items()}),
        label_outcomes(panel),
        trials={layer: read_parquet(TUNE / layer / "returns.parquet") for layer in layers},
        equity=read_parquet(BACKTEST / "daily.parquet"),
        backtest=read_json(BACKTEST / "summary.json"),
        market=pd.Series(market_return(panel), index=pd.DatetimeIndex(panel.dates)),
        horizon=settings.target.horizon,
        level=settings.stack.level,
        rule=settings.evaluation,
        rung=meta.get("rung"),
        **{name: read_table(STACK / f"{name}.parquet") for name in ("paths", "ladder", "comparison", "weights")},
        importance=read_by_layer(layers, "importance.json"),
        seeds=read_by_layer(layers, "seeds.json"),
    )
    with atomic_directory(REPORTS / "evaluation") as folder:
        for name, table in sorted(result.tables.items()):
            write_parquet(folder / f"{name}.parquet", table)
        write_text(folder / "report.html", evaluation_page(result.metrics, result.tables))
    write_json(REPORTS / "metrics.json", result.metrics)
    write_plots(result)
    for part in ("test", "holdout"):
        scores = result.metrics[part]
        told = (f"{name} {score['rank_ic']:.4f} (t {score['rank_ic_t']:.1f})" for name, score in scores.items())
        print(f"rank IC, {part}: " + ", ".join(told))


def read_table(path: Path) -> pd.DataFrame | None:
    """A table of the stack; None where the stack wrote none."""
    return read_parquet(path) if path.is_file() else None


def read_by_layer(layers: Sequence[str], name: str) -> dict[str, Any]:
    """What each layer that has such a file wrote about its fit."""
    files = {layer: TRAIN / layer / name for layer in layers}
    return {layer: read_json(path) for layer, path in files.items() if path.is_file()}


def label_outcomes(panel: Panel) -> pd.DataFrame:
    """Outcome, sector and size of every row of the dataset, by date and symbol."""
    rows = read_outcomes(DATASET, ("forward", "raw"))
    session, symbol = positions(rows, panel.dates, panel.symbols)
    # Without a sector a symbol is in no group, rather than in one of all that have none.
    sectors = pd.Series(panel.symbols).map(sectors_of(read_securities(CLEAN))).to_numpy(dtype=object)
    return rows.assign(sector=sectors[symbol], size=traded_size(panel)[session, symbol])


def traded_size(panel: Panel) -> NDArray[np.float64]:
    """`(T, N)` log of the mean value traded a session over the last quarter, known at each close.

    Traded value stands for size, since shares outstanding are not known of every source.
    """
    mean = rolling_mean(panel["close"] * panel["volume"], SIZE_SESSIONS, SIZE_SESSIONS // 2)
    return np.log(np.where(mean > 0, mean, np.nan))


def write_plots(result: Evaluation) -> None:
    """Two small series for `dvc plots`."""
    daily = result.tables["daily_ic"]
    curve = pd.DataFrame({"date": daily["date"].dt.strftime("%Y-%m-%d"), "stack": daily["stack"].fillna(0).cumsum()})
    equity = result.tables["equity"]
    money = pd.DataFrame({"date": equity["date"].dt.strftime("%Y-%m-%d"), "equity": np.cumprod(1 + equity["net"])})
    for name, frame in {"rank_ic": curve, "equity": money}.items():
        with atomic_file(REPORTS / "plots" / f"{name}.csv") as temporary:
            frame.to_csv(temporary, index=False, float_format="%.8g")


if __name__ == "__main__":
    run_stage(main)
