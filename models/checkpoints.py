"""Fold by fold predictions kept aside, so that a killed training goes on with the fold it was in.

A checkpoint is found again by a digest of all that its content follows from, so that one made of other data, code or
parameters is never taken for it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.files import atomic_file, canonical_json, digest_bytes
from models.folds import Fold


class Checkpoints:
    """Predictions of finished folds in a folder.

    Parameters
    ----------
    folder
        Where they lie; not an output of a stage, for it is removed when the training is done.
    identity
        Whatever else decides a prediction, as plain values: layer, parameters, seed, digests of data and code.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self._identity = dict(identity)

    def _path(self, fold: Fold) -> Path:
        parts = {**self._identity, "fold": asdict(fold)}
        return self.folder / f"{digest_bytes(canonical_json(parts).encode())[:32]}.npy"

    def load(self, fold: Fold, rows: int) -> NDArray[np.float64] | None:
        """The fold's predictions, or None where they are not here whole."""
        path = self._path(fold)
        if not path.is_file():
            return None
        try:
            found = np.load(path, allow_pickle=False)
        except (ValueError, EOFError):
            return None
        return found if found.shape == (rows,) and found.dtype == np.float64 else None

    def save(self, fold: Fold, predictions: NDArray[np.float64]) -> None:
        """Keep a fold's predictions, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self._path(fold)) as temporary, temporary.open("wb") as handle:
            np.save(handle, predictions, allow_pickle=False)

    def clear(self) -> None:
        """Remove them all."""
        shutil.rmtree(self.folder, ignore_errors=True)
