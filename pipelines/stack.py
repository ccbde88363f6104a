"""Stage `stack`: weigh the layers out of fold, calibrate, write the bundle -> artifacts/stack, artifacts/bundle."""

from __future__ import annotations

import numpy as np

from core.files import atomic_directory, read_json, read_parquet, write_json, write_parquet
from models.bundle import write_bundle
from models.layers.base import LAYERS
from models.meta import layer_column
from models.stack import stack
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
    result = stack(oof, data, samples.folds, settings.stack, horizon=samples.horizon, scale=samples.scale)
    with atomic_directory(STACK) as folder:
        write_parquet(folder / "oof.parquet", result.frame)
        write_parquet(folder / "weights.parquet", result.weights)
        write_parquet(folder / "comparison.parquet", result.comparison)
        columns = {name: layer_column(name) for name in result.meta.layers}
        told = {"weights": result.meta.to_dict()["weights"], "slope": result.meta.slope, "columns": columns}
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
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in result.meta.to_dict()["weights"].items())
    print(f"stack: weights {weights}; bundle {digest[:12]}")


if __name__ == "__main__":
    run_stage(main)
