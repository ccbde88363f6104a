"""Pack a bundle as an MLflow model that loads without this project: the code it needs goes with it."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import BundleError
from governance.store import ensure_store, quiet_mlflow, tracked

if TYPE_CHECKING:
    from mlflow.models.model import ModelInfo
    from mlflow.models.signature import ModelSignature

PACKED = ("core", "market", "models")
"""Packages that a bundle's layers and meta-learner are made of; they travel with every version."""

_NEEDS = ("numpy", "pandas", "pyarrow", "scipy", "numba", "pydantic", "PyYAML", "tqdm", "lightgbm")
_EXAMPLE_ROWS = 3


def signature_of(manifest: Mapping[str, Any]) -> ModelSignature:
    """Inputs and outputs of the served model: a row a symbol and session, a column a feature."""
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    from models.meta import layer_column

    keys = [ColSpec("datetime", "date"), ColSpec("string", "symbol")]
    scale = ColSpec("double", "scale", required=False)
    inputs = Schema([*keys, scale, *(ColSpec("float", name) for name in manifest["features"])])
    layers = map(layer_column, manifest["layers"])
    numbers = ("signal", *layers, "expected_return", "interval_low", "interval_high", "p_wrong")
    outputs = Schema([*keys, *(ColSpec("double", name) for name in numbers)])
    if not manifest.get("market_lookback"):
        return ModelSignature(inputs, outputs)
    return ModelSignature(inputs, outputs, ParamSchema([ParamSpec("market", "double", [], shape=(-1,))]))


def example_of(manifest: Mapping[str, Any]) -> Any:
    """A few neutral rows that fit the signature, on as many dates as the layers look back on; and its parameters."""
    import numpy as np
    import pandas as pd

    features, dates = list(manifest["features"]), pd.bdate_range("2017-01-03", periods=manifest.get("lookback", 1))
    values = np.linspace(-1.0, 1.0, _EXAMPLE_ROWS * len(features), dtype=np.float32).reshape(_EXAMPLE_ROWS, -1)
    frame = pd.DataFrame(np.tile(values, (len(dates), 1)), columns=features)
    frame.insert(0, "symbol", [f"S{i}" for i in range(_EXAMPLE_ROWS)] * len(dates))
    frame.insert(0, "date", np.repeat(dates.to_numpy("datetime64[us]"), _EXAMPLE_ROWS))
    if not (sessions := manifest.get("market_lookback", 0)):
        return frame
    return frame, {"market": (0.01 * np.sin(np.arange(sessions))).tolist()}


def pack_code(checkout: Path, folder: Path) -> None:
    """Copy the sources of the packed packages from a checkout into a folder.

    Raises
    ------
    BundleError
        The checkout lacks one of them.
    """
    for name in PACKED:
        if not (checkout / name / "__init__.py").is_file():
            raise BundleError(f"{checkout} has no package {name}: register from a whole checkout")
        for source in sorted((checkout / name).rglob("*.py")):
            copy = folder / source.relative_to(checkout)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


def log_model(root: Path, run_id: str, served_model: Path, bundle: Path, manifest: Mapping[str, Any]) -> ModelInfo:
    """Log the bundle, its models-from-code file and the code it was made by under a run.

    The requirements are named, never inferred: inferring would load the model in another process.
    """
    uri = ensure_store(root)
    quiet_mlflow()
    import mlflow

    from models.layers.base import LAYERS

    needs = sorted({*_NEEDS}.union(*(LAYERS[name].libraries for name in manifest["layers"])))
    with (
        tracked(uri),
        warnings.catch_warnings(record=True),
        tempfile.TemporaryDirectory() as name,
        mlflow.start_run(run_id=run_id),
    ):
        # MLflow 3.17 warns of its own use of pandas, and (past any filter) of missing type hints.
        warnings.simplefilter("ignore")
        code = Path(name) / "code"
        pack_code(served_model.parent.parent, code)
        return mlflow.pyfunc.log_model(
            name="stack",
            python_model=str(served_model),
            artifacts={"bundle": str(bundle), "code": str(code)},
            signature=signature_of(manifest),
            input_example=example_of(manifest),
            pip_requirements=[f"{library}=={metadata.version(library)}" for library in needs],
            metadata={"bundle.digest": manifest["digest"]},
        )
