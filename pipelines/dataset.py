"""Stage `dataset`: the universe's rows with target and risk scale, and the folds -> data/dataset."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from core.files import atomic_directory, read_json, write_json, write_parquet
from features.feeds import silences
from features.returns import market_return
from features.risk import risk_scale
from features.target import make_target
from models.folds import tuning_folds, walk_forward
from pipelines.layout import CLEAN, DATASET, FEATURES
from pipelines.panels import load_panel
from pipelines.stage import Settings, run_stage


def main(settings: Settings) -> None:
    """Write rows, sessions, symbols, the list of features, the feeds' silences and the folds."""
    panel = load_panel(CLEAN, settings.universe)
    horizon = settings.target.horizon
    folds = walk_forward(panel.dates, settings.folds, horizon)
    inner = tuning_folds(panel.dates, settings.folds, horizon)
    target = make_target(panel, settings.target)
    session, symbol = panel.rows()
    outcomes = {
        "label": target.label,
        "forward": target.residual,
        "raw": target.forward,
        "scale": risk_scale(panel, horizon),
    }
    rows = pd.DataFrame({"session": session.astype(np.int32), "symbol": symbol.astype(np.int32)})
    for further in sorted({*settings.target.auxiliary} - {horizon}):
        outcomes[f"label_{further}"] = make_target(panel, settings.target, further).label
    for name, values in outcomes.items():
        rows[name] = values[session, symbol].astype(np.float32)
    listed = {family: read_json(FEATURES / family / "features.json")["built"] for family in sorted(settings.features)}
    with atomic_directory(DATASET) as folder:
        write_parquet(folder / "rows.parquet", rows)
        write_parquet(folder / "sessions.parquet", pd.DataFrame({"date": panel.dates, "market": market_return(panel)}))
        write_parquet(folder / "symbols.parquet", pd.DataFrame({"symbol": panel.symbols, "sector": panel.sector}))
        write_json(folder / "features.json", listed)
        write_json(folder / "feeds.json", silences(panel))
        write_json(
            folder / "folds.json",
            {
                "horizon": horizon,
                "folds": [dataclasses.asdict(fold) for fold in folds],
                "tuning": [dataclasses.asdict(fold) for fold in inner],
            },
        )
    known = int(np.isfinite(rows["label"]).sum())
    print(f"{len(rows):,} rows ({known:,} with a known outcome), {len(folds)} folds, {len(inner)} tuning folds")


if __name__ == "__main__":
    run_stage(main)
