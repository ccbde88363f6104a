"""Stage `tune@LAYER`: search a layer's parameters before the first test block -> artifacts/tune/LAYER."""

from __future__ import annotations

from core.code import digest_code
from core.files import atomic_directory, write_json, write_parquet
from models.layers.base import LAYERS, require_machine
from models.tuning import tune
from pipelines.layout import DATASET, FEATURES, JOURNALS, TUNE
from pipelines.samples import digest_samples, load_samples
from pipelines.stage import Settings, block_of, one_argument, run_stage

LIBRARIES = ("numba", "numpy", "optuna", "pandas", "scipy")
"""Those whose version may change what a trial of any layer comes to."""


def main(settings: Settings, layer: str) -> None:
    """Run the layer's study to its number of trials; a killed one goes on where it was."""
    params = block_of(settings.layers, layer, "layers.names")
    require_machine(layer, params)
    samples = load_samples(DATASET, FEATURES)
    result = tune(
        layer,
        params,
        samples.data,
        samples.tuning,
        settings.tuning,
        seed=settings.seed,
        folder=JOURNALS,
        data_digest=digest_samples(DATASET, FEATURES),
        code_digest=digest_code(("core", "market", "models"), (*LIBRARIES, *LAYERS[layer].libraries)),
        horizon=samples.horizon,
    )
    with atomic_directory(TUNE / layer) as folder:
        chosen = {"params": result.best_params, "value": result.best_value, "trial": result.chosen}
        write_json(folder / "best.json", chosen)
        write_parquet(folder / "trials.parquet", result.trials)
        write_parquet(folder / "returns.parquet", result.returns)
    print(
        f"{layer}: trial {result.chosen} of {len(result.trials)} is chosen, rank IC {result.best_value:.4f} on the "
        "tuning folds"
    )


if __name__ == "__main__":
    run_stage(main, one_argument("layer"))
