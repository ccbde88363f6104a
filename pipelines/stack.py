"""Stage `stack`: combine the layers out of fold, calibrate, write the bundle -> artifacts/stack, artifacts/bundle."""

from __future__ import annotations

import numpy as np
import pandas as pd

from core.files import atomic_directory, read_json, read_parquet, write_json, write_parquet
from models.bundle import write_bundle
from models.folds import known_before
from models.layers.base import LAYERS
from models.meta import layer_column
from models.paths import combinatorial_paths
from models.stack import StackResult, stack
from pipelines.layout import BUNDLE, DATASET, FEATURES, STACK, TRAIN
from pipelines.samples import load_samples
from pipelines.stage import Settings, run_stage

DECIDING = ("seed", "data", "universe", "target", "features", "folds", "layers", "tuning", "stack")
"""Sections of params.yaml that decide what a bundle is; the others only judge it."""


def main(settings: Settings) -> None:
    """Combine what the layers predicted out of fold, and put their final fits into one bundle."""
    samples = load_samples(DATASET, FEATURES)
    data = samples.data
    oof = {}
    for name in sorted(settings.layers):
        column = np.full(len(data), np.nan)
        kept = read_parquet(TRAIN / name / "oof.parquet")
        column[kept["row"].to_numpy()] = kept["prediction"].to_numpy()
        oof[name] = column
    result = stack(oof, data, samples.blocks, settings.stack, horizon=samples.horizon, scale=samples.scale)
    weights = dict(zip(result.meta.layers, result.meta.weights.tolist(), strict=True))
    with atomic_directory(STACK) as folder:
        write_parquet(folder / "oof.parquet", result.frame)
        write_parquet(folder / "weights.parquet", result.weights)
        write_parquet(folder / "comparison.parquet", result.comparison)
        write_parquet(folder / "ladder.parquet", result.ladder)
        write_parquet(folder / "rungs.parquet", pd.concat([result.rows.keys(), result.rungs], axis=1))
        write_parquet(folder / "paths.parquet", paths_before_holdout(result, settings, samples.horizon))
        meta = result.meta
        told = {
            "rung": meta.rung,
            "states": list(meta.states.names) if meta.states else [],
            "weights": weights,
            "slope": meta.slope,
            "columns": {name: layer_column(name) for name in meta.layers},
        }
        write_json(folder / "meta.json", told)
    digest = write_bundle(
        BUNDLE,
        layers={name: LAYERS[name].load(TRAIN / name / "model") for name in sorted(settings.layers)},
        meta=result.meta,
        declared=samples.declared,
        params=settings.resolved(DECIDING),
        dataset=data,
        feeds=read_json(DATASET / "feeds.json"),
    )
    shares = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
    print(f"stack: rung {result.meta.rung}, mean weights {shares}; bundle {digest[:12]}")


def paths_before_holdout(result: StackResult, settings: Settings, horizon: int) -> pd.DataFrame:
    """Every rung along the combinatorial paths of the sessions whose outcomes end before the holdout."""
    holdout, session = result.frame["holdout"].to_numpy(dtype=bool), result.rows.session
    before = known_before(session, int(session[holdout].min()), horizon) if holdout.any() else ~holdout
    scores = result.frame[[layer_column(name) for name in result.meta.layers]].to_numpy()
    return combinatorial_paths(
        scores[before],
        result.states.to_numpy()[before],
        result.rows.take(before),
        horizon,
        settings.folds.embargo,
        rule=settings.stack,
    )


if __name__ == "__main__":
    run_stage(main)
