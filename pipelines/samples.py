"""The dataset at rest: keys and outcomes from `dataset`, values from the feature families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.errors import DataError
from core.files import canonical_json, digest_bytes, digest_tree, read_json, read_parquet
from models.dataset import Dataset, assemble_dataset
from models.folds import Fold, warm_up


@dataclass(frozen=True, eq=False)
class Samples:
    """What the model stages read.

    Attributes
    ----------
    scale : (R,) float32
        Risk scale of each row's outcome, known at its session.
    folds, tuning
        Walk-forward folds; inner folds before the first test block.
    declared
        Feature declarations, in the order of the columns of `data.X`.
    horizon
        Sessions a position is held.
    """

    data: Dataset
    scale: NDArray[np.float32]
    folds: tuple[Fold, ...]
    tuning: tuple[Fold, ...]
    declared: tuple[Mapping[str, Any], ...]
    horizon: int

    @property
    def blocks(self) -> tuple[Fold, ...]:
        """The inner folds, numbered below 0, and the folds: every block that layers predict out of fold."""
        return *warm_up(self.tuning), *self.folds


def load_samples(folder: Path, features: Path) -> Samples:
    """Read the dataset stage's folder and the feature values it lists.

    Raises
    ------
    DataError
        A file is missing, or a family's rows are not the dataset's.
    """
    rows = read_parquet(folder / "rows.parquet")
    sessions = read_parquet(folder / "sessions.parquet")
    symbols = read_parquet(folder / "symbols.parquet")
    split = read_json(folder / "folds.json")
    listed: Mapping[str, Sequence[Mapping[str, Any]]] = read_json(folder / "features.json")
    declared = tuple(item for family in sorted(listed) for item in listed[family])
    X = np.empty((len(rows), len(declared)), dtype=np.float32)
    column = 0
    for family in sorted(listed):
        names = [item["name"] for item in listed[family]]
        if names:
            _fill(X[:, column : column + len(names)], features / family / "values", names, len(rows))
            column += len(names)
    further = {name: int(name.removeprefix("label_")) for name in rows.columns if name.startswith("label_")}
    data = assemble_dataset(
        dates=sessions["date"].to_numpy("datetime64[D]"),
        symbols=symbols["symbol"].to_numpy(dtype=str),
        sector=symbols["sector"].to_numpy(),
        session=rows["session"].to_numpy(),
        symbol=rows["symbol"].to_numpy(),
        X=X,
        features=[item["name"] for item in declared],
        label=rows["label"].to_numpy(),
        forward=rows["forward"].to_numpy(),
        raw=rows["raw"].to_numpy(),
        horizon=split["horizon"],
        labels={horizon: rows[name].to_numpy() for name, horizon in further.items()},
        market=sessions["market"].to_numpy(),
        signs=[item["sign"] for item in declared],
    )
    return Samples(
        data=data,
        scale=rows["scale"].to_numpy(),
        folds=tuple(_fold(values) for values in split["folds"]),
        tuning=tuple(_fold(values) for values in split["tuning"]),
        declared=declared,
        horizon=split["horizon"],
    )


def digest_samples(folder: Path, features: Path) -> str:
    """One digest of everything that `load_samples` reads."""
    families = sorted(read_json(folder / "features.json"))
    trees = [digest_tree(folder), *(digest_tree(features / family) for family in families)]
    return digest_bytes(canonical_json([families, trees]).encode())


def _fill(block: NDArray[np.float32], folder: Path, names: list[str], expected: int) -> None:
    """Copy a family's columns into `block`, one year at a time."""
    start = 0
    for file in sorted(folder.glob("year=*/part.parquet")):
        table = pq.read_table(file, columns=names, partitioning=None)
        stop = start + table.num_rows
        if stop > expected:
            break
        for place, name in enumerate(names):
            block[start:stop, place] = table.column(name).to_numpy()
        start = stop
    if start != expected:
        raise DataError(f"{folder} does not hold the dataset's {expected:,} rows: run `dvc repro` to remake both")


def _fold(values: Mapping[str, Any]) -> Fold:
    ranges: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Fold(**ranges)
