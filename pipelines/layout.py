"""Where things lie, relative to the root of the checkout. Nothing else in the project knows a path."""

from __future__ import annotations

import os
from pathlib import Path

from core.errors import ConfigError
from core.text import require_path

PARAMS = Path("params.yaml")
LOCK = Path("dvc.lock")

RAW = Path("data/raw")
CLEAN = Path("data/clean")
FEATURES = Path("data/features")
DATASET = Path("data/dataset")

TUNE = Path("artifacts/tune")
TRAIN = Path("artifacts/train")
STACK = Path("artifacts/stack")
BUNDLE = Path("artifacts/bundle")
BACKTEST = Path("artifacts/backtest")

REPORTS = Path("reports")
QUALITY = REPORTS / "data_quality"
INVARIANCES = REPORTS / "invariances.json"
CATALOGUE = REPORTS / "features"
RECOVERY = REPORTS / "truth.json"
MONITOR = REPORTS / "monitor"
TEAR_SHEET = REPORTS / "tearsheet"
DOCS = Path("docs")

JOURNALS = Path("var/studies")
CHECKPOINTS = Path("var/training")
MLRUNS = Path("mlruns")
SIGNALS = Path("signals")
PREVIEW = Path("preview")
SHADOW = Path("shadow")
RISK = Path("risk")
PREVIEW_RISK = RISK / "preview"


def find_root() -> Path:
    """Root of the checkout: `SIGNALS_ROOT`, else the nearest parent that holds dvc.yaml and params.yaml.

    Raises
    ------
    ConfigError
        Neither names a checkout, or its path is not UTF-8.
    """
    named = os.environ.get("SIGNALS_ROOT")
    candidates = [Path(named)] if named else [Path.cwd(), *Path.cwd().parents]
    for folder in candidates:
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return require_path(folder.resolve())
    where = f"SIGNALS_ROOT={named}" if named else str(Path.cwd())
    raise ConfigError(f"{where} is no checkout with dvc.yaml and params.yaml: change to one or set SIGNALS_ROOT")
