"""Stage `backtest`: trade the out-of-fold signal a session later, net of costs -> artifacts/backtest."""

from __future__ import annotations

from core.files import atomic_directory, read_parquet, write_json, write_parquet
from features.panel import pivot
from pipelines.layout import BACKTEST, CLEAN, STACK
from pipelines.panels import load_panel
from pipelines.stage import Settings, run_stage
from portfolio.backtest import backtest


def main(settings: Settings) -> None:
    """Backtest the stack's signal over every session it was predicted out of fold."""
    panel = load_panel(CLEAN, settings.universe)
    signals = read_parquet(STACK / "oof.parquet", columns=["date", "symbol", "signal"])
    result = backtest(
        pivot(signals, "signal", panel.dates, panel.symbols),
        panel["close"],
        panel["volume"],
        panel.dates,
        settings.backtest,
        sector=panel.sector,
        level_break=panel["level_break"],
    )
    with atomic_directory(BACKTEST) as folder:
        write_parquet(folder / "daily.parquet", result.daily)
        write_json(folder / "summary.json", result.summary)
    summary = result.summary
    print(f"backtest: net Sharpe {summary['net_sharpe']:.2f}, worst drawdown {summary['max_drawdown']:.1%}")


if __name__ == "__main__":
    run_stage(main)
