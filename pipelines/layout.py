"""Where things lie, relative to the root of the checkout. Nothing else in the project knows a path."""

from __future__ import annotations

from pathlib import Path

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
