"""Stage `train@LAYER`: out-of-fold predictions and the final fit of a layer -> artifacts/train/LAYER."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
from tqdm import tqdm

from core.code import digest_code
from core.files import atomic_directory, read_json, write_json, write_parquet
from models.checkpoints import Checkpoints
from models.layers.base import LAYERS, require_machine
from models.scoring import rank_ic
from models.training import train_layer
from pipelines.layout import CHECKPOINTS, DATASET, FEATURES, TRAIN, TUNE
from pipelines.samples import digest_samples, load_samples
from pipelines.stage import Settings, block_of, one_argument, run_stage


def main(settings: Settings, layer: str) -> None:
    """Train with the tuned parameters; keep every prediction that the model had not seen."""
    params = block_of(settings.layers, layer, "layers.names")
    require_machine(layer, params)
    samples = load_samples(DATASET, FEATURES)
    best = read_json(TUNE / layer / "best.json")["params"]
    bar = tqdm(total=len(samples.blocks) + 1, desc=layer, file=sys.stderr, disable=None, leave=False)

    def show(done: int, _total: int, what: str) -> None:
        bar.set_postfix_str(what)
        bar.update(done - bar.n)

    identity = {
        "layer": layer,
        "params": best,
        "seed": settings.seed,
        "data": digest_samples(DATASET, FEATURES),
        "code": digest_code(("core", "market", "models"), LAYERS[layer].libraries),
    }
    checkpoints = Checkpoints(CHECKPOINTS / layer, identity)
    result = train_layer(layer, best, samples.data, samples.blocks, settings.seed, show, checkpoints)
    bar.close()
    rows = np.flatnonzero(np.isfinite(result.oof))
    oof = pd.DataFrame({"row": rows.astype(np.int64), "prediction": result.oof[rows]})
    with atomic_directory(TRAIN / layer) as folder:
        write_parquet(folder / "oof.parquet", oof)
        write_json(folder / "importance.json", result.importance)
        write_json(folder / "seeds.json", list(result.model.seed_scores))
        (folder / "model").mkdir()
        result.model.save(folder / "model")
    checkpoints.clear()
    data = samples.data
    judged = data.session >= samples.folds[0].test[0]
    daily = rank_ic(result.oof[judged], data.forward[judged], data.session[judged])
    print(f"{layer}: {len(rows):,} out-of-fold predictions, mean rank IC {np.nanmean(daily):.4f} in the test blocks")


if __name__ == "__main__":
    run_stage(main, one_argument("layer"))
