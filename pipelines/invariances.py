"""Stage `invariances`: the proof, on this very data, that nothing uses what was not yet known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from core.files import write_json
from features.invariance import prove, prove_cleaning, require, spread_cuts
from pipelines.features import split_available
from pipelines.layout import CLEAN, INVARIANCES, RAW
from pipelines.panels import load_panel
from pipelines.stage import Settings, run_stage
from pipelines.tables import read_tables

SYMBOLS = 150
"""Symbols that the features are proved on; the cross-section of the rest adds time, not kinds of leak."""


def main(settings: Settings) -> None:
    """Prove every registered feature, the cleaning and the universe; refuse to go on with a leak."""
    panel = load_panel(CLEAN, settings.universe)
    built, _ = split_available(settings.inputs.features, panel)
    cuts = spread_cuts(panel)
    report = pd.concat(
        [prove(built, panel, cuts, symbols=SYMBOLS), prove_cleaning(read_tables(RAW), settings.universe, cuts[-1:])],
        ignore_index=True,
    )
    write_json(
        INVARIANCES,
        {
            "ok": bool(report["ok"].all()),
            "checked": len(report),
            "cuts": [str(panel.dates[cut]) for cut in cuts],
            "invariances": {name: bool(part["ok"].all()) for name, part in report.groupby("invariance")},
            "failed": report[~report["ok"].astype(bool)].to_dict("records"),
            "features": sorted(np.unique(report["feature"]).tolist()),
        },
    )
    require(report)
    print(f"invariances hold: {len(report)} checks of {report['feature'].nunique()} computations")


if __name__ == "__main__":
    run_stage(main)
