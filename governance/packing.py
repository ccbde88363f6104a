"""Pack a bundle as an MLflow model that loads without this project."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from governance.store import ensure_store, quiet_mlflow, tracked

if TYPE_CHECKING:
    from mlflow.models.model import ModelInfo
    from mlflow.models.signature import ModelSignature

_NEEDS = ("numpy", "pandas", "lightgbm")
_EXAMPLE_ROWS = 3


def signature_of(features: list[str], layers: list[str]) -> ModelSignature:
    """Inputs and outputs of the served model: a row a symbol and session, a column a feature."""
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, Schema

    from models.meta import layer_column

    keys = [ColSpec("datetime", "date"), ColSpec("string", "symbol")]
    scale = ColSpec("double", "scale", required=False)
    inputs = Schema([*keys, scale, *(ColSpec("float", name) for name in features)])
    numbers = ("signal", *map(layer_column, layers), "expected_return", "interval_low", "interval_high", "p_wrong")
    return ModelSignature(inputs, Schema([*keys, *(ColSpec("double", name) for name in numbers)]))


def example_of(features: list[str]) -> Any:
    """A few neutral rows that fit the signature."""
    import numpy as np
    import pandas as pd

    values = np.linspace(-1.0, 1.0, _EXAMPLE_ROWS * len(features), dtype=np.float32).reshape(_EXAMPLE_ROWS, -1)
    frame = pd.DataFrame(values, columns=features)
    frame.insert(0, "symbol", [f"S{i}" for i in range(_EXAMPLE_ROWS)])
    frame.insert(0, "date", np.datetime64("2017-01-03", "us"))
    return frame


def log_model(root: Path, run_id: str, served_model: Path, bundle: Path, manifest: Mapping[str, Any]) -> ModelInfo:
    """Log the bundle and its models-from-code file under a run.

    The requirements are named, never inferred: inferring would load the model in another process.
    """
    uri = ensure_store(root)
    quiet_mlflow()
    import mlflow

    features = list(manifest["features"])
    with tracked(uri), warnings.catch_warnings(record=True), mlflow.start_run(run_id=run_id):
        # MLflow 3.17 warns of its own use of pandas, and (past any filter) of missing type hints.
        warnings.simplefilter("ignore")
        return mlflow.pyfunc.log_model(
            name="stack",
            python_model=str(served_model),
            artifacts={"bundle": str(bundle)},
            signature=signature_of(features, list(manifest["layers"])),
            input_example=example_of(features),
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in _NEEDS],
            metadata={"bundle.digest": manifest["digest"]},
        )
