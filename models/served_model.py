"""The bundle as an MLflow model: this file is packed with it, and with the code that the bundle was made by.

The packed code is imported apart from any of the same name, so that a version runs what was registered with it,
also in a process that has another state of the project loaded.
"""

import contextlib
import importlib
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import mlflow
import numpy as np


class PackedCode:
    """Top-level packages of a folder, imported under their own names and out of everybody else's way.

    Parameters
    ----------
    folder
        Holds the packages. It is copied first: importing and compiling write beside the sources.
    """

    def __init__(self, folder):
        self._copy = tempfile.TemporaryDirectory(prefix="served-")
        self._root = Path(self._copy.name) / "code"
        shutil.copytree(folder, self._root, ignore=shutil.ignore_patterns("__pycache__"))
        self._names = frozenset(path.name for path in self._root.iterdir())
        self._modules = {}
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def active(self):
        """Inside, the packages' names mean the packed code, also where it imports as it goes."""
        with self._lock:
            others = self._take()
            sys.modules.update(self._modules)
            sys.path.insert(0, str(self._root))
            importlib.invalidate_caches()
            try:
                yield
            finally:
                sys.path.remove(str(self._root))
                self._modules = self._take()
                sys.modules.update(others)

    def _take(self):
        names = [name for name in sys.modules if name.partition(".")[0] in self._names]
        return {name: sys.modules.pop(name) for name in names}


class ServedStack(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined]
    """Signals from features: whole sessions in, one row a symbol out."""

    def load_context(self, context):
        """Read the bundle that was packed with this file."""
        self.code = PackedCode(Path(context.artifacts["code"]))
        with self.code.active():
            bundle = importlib.import_module("models.bundle")
            self.assemble = importlib.import_module("models.dataset").assemble_dataset
            self.bundle = bundle.Bundle.load(Path(context.artifacts["bundle"]))

    def predict(self, context, model_input, params=None):
        """Signals of the last sessions given.

        Parameters
        ----------
        model_input : DataFrame
            `date`, `symbol`, optionally `scale` (volatility of the outcome), and every feature. Rows are ranked
            among those of their date: give the whole universe of a date at once, and as many dates in a row as
            the bundle's layers look back on. Signals begin with the first date that has all of them.
        params : dict
            `market`: returns of the market up to the last date, oldest first, where the bundle tells regimes by them.

        Returns
        -------
        DataFrame
            `date, symbol, signal, signal_<x>, expected_return, interval_low, interval_high, p_wrong`.
        """
        missing = [name for name in ("date", "symbol", *self.bundle.features) if name not in model_input]
        if missing:
            raise ValueError(f"column {missing[0]!r} is missing ({len(missing)} in all): give the bundle's features")
        rows = model_input.sort_values(["date", "symbol"], kind="stable", ignore_index=True)
        dates, session = np.unique(rows["date"].to_numpy("datetime64[D]"), return_inverse=True)
        if len(dates) < self.bundle.lookback:
            raise ValueError(f"{len(dates)} dates were given, the layers look back on {self.bundle.lookback}")
        market = np.asarray((params or {}).get("market", []), dtype=np.float64)
        if len(market) < self.bundle.market_lookback:
            raise ValueError(
                f"{len(market)} market returns were given, {self.bundle.market_lookback} are needed: "
                "pass params={'market': [...]}"
            )
        # dates before the first row have market returns and no rows
        earlier = max(0, len(market) - len(dates))
        axis = np.concatenate([dates[0] - np.arange(earlier, 0, -1), dates])
        symbols, symbol = np.unique(rows["symbol"].to_numpy(dtype=str), return_inverse=True)
        unknown = np.full(len(rows), np.nan, dtype=np.float32)
        data = self.assemble(
            dates=axis,
            symbols=symbols,
            sector=np.full(len(symbols), -1),
            session=session + earlier,
            symbol=symbol,
            X=rows[list(self.bundle.features)].to_numpy(dtype=np.float32),
            features=self.bundle.features,
            label=unknown,
            forward=unknown,
            raw=unknown,
            market=np.concatenate([np.full(len(axis) - len(market), np.nan), market]) if len(market) else None,
        )
        first = earlier + self.bundle.lookback - 1
        scale = rows["scale"].to_numpy(dtype=np.float32) if "scale" in rows else unknown
        with self.code.active():
            signals = self.bundle.predict(data, scale[session + earlier >= first], first, reasons=False)
        return signals.drop(columns="rank").astype({"date": "datetime64[ns]"})


mlflow.models.set_model(ServedStack())
