"""Stage `evaluate`: judge the out-of-fold signals, every trial counted -> reports."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.files import atomic_directory, atomic_file, read_json, read_parquet, write_json, write_parquet, write_text
from features.returns import market_return
from models.evaluation import Evaluation, evaluate
from pipelines.layout import BACKTEST, CLEAN, DATASET, REPORTS, STACK, TUNE
from pipelines.panels import load_panel
from pipelines.stage import Settings, run_stage
from reporting.evaluation import evaluation_page


def main(settings: Settings) -> None:
    """Write the metrics that the gates read, the tables behind them, plots, and the page."""
    columns = read_json(STACK / "meta.json")["columns"]
    signals = read_parquet(STACK / "oof.parquet")
    result = evaluate(
        # Judged by the layers' names; the letters are for those who read signals.
        signals.rename(columns={column: f"signal_{layer}" for layer, column in columns.items()}),
        load_outcomes(),
        trials={layer: read_parquet(TUNE / layer / "returns.parquet") for layer in sorted(settings.layers)},
        equity=read_parquet(BACKTEST / "daily.parquet"),
        backtest=read_json(BACKTEST / "summary.json"),
        market=load_market(settings),
        horizon=settings.target.horizon,
        level=settings.stack.level,
        rule=settings.evaluation,
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


def load_outcomes() -> pd.DataFrame:
    """Outcome and sector of every row of the dataset, by date and symbol."""
    rows = read_parquet(DATASET / "rows.parquet", columns=["session", "symbol", "forward", "raw"])
    dates = read_parquet(DATASET / "sessions.parquet")["date"].to_numpy()
    symbols = read_parquet(DATASET / "symbols.parquet")
    sector = label_sectors(symbols["symbol"], read_sectors())
    return pd.DataFrame(
        {
            "date": dates[rows["session"]],
            "symbol": symbols["symbol"].to_numpy()[rows["symbol"]],
            "forward": rows["forward"],
            "raw": rows["raw"],
            "sector": sector[rows["symbol"]],
        }
    )


def label_sectors(symbols: pd.Series, sectors: Mapping[str, str]) -> NDArray[np.object_]:
    """Sector of each symbol by name, `Unknown` where it has none."""
    found = symbols.map(sectors).astype(object)
    return found.where(found.notna(), "Unknown").to_numpy()


def read_sectors() -> dict[str, str]:
    """Sector by symbol; empty where the source has no securities table."""
    if not (CLEAN / "securities.parquet").is_file():
        return {}
    return dict(read_parquet(CLEAN / "securities.parquet", columns=["symbol", "sector"]).to_numpy())


def load_market(settings: Settings) -> pd.Series:
    """Equal-weight return of the universe by date."""
    panel = load_panel(CLEAN, settings.universe)
    return pd.Series(market_return(panel), index=pd.DatetimeIndex(panel.dates))


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
