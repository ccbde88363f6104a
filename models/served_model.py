"""The bundle as an MLflow model: this one file is packed with it and runs without the project.

It repeats on a data frame what `models.bundle` does on a dataset; a test holds the two together.
"""

import json
from pathlib import Path
from statistics import NormalDist

import lightgbm
import mlflow
import numpy as np
import pandas as pd

KNOWN_FORMAT = 1


def rank_fractions(frame, dates):
    """(rank - 1/2) / n of each value within its date; ties share their mean rank, NaN stays NaN."""
    groups = frame.groupby(dates)
    return ((groups.rank() - 0.5) / groups.transform("count")).astype(np.float32)


def gaussian_ranks(frame, dates):
    """Normal quantiles of the rank fractions; 0 where undefined."""
    fractions = rank_fractions(frame, dates).fillna(0.5).to_numpy()
    levels, place = np.unique(fractions, return_inverse=True)
    quantiles = np.array([NormalDist().inv_cdf(float(level)) for level in levels])
    return quantiles.astype(np.float32)[place].reshape(fractions.shape)


def zscores(values, dates):
    """Values less their date's mean, over its standard deviation; 0 where a date's values are all equal."""
    groups = pd.Series(values).groupby(dates)
    mean, deviation = groups.transform("mean"), groups.transform("std", ddof=0)
    differ = (groups.transform("max") > groups.transform("min")) & (deviation > 0)
    return np.where(differ, (values - mean) / deviation.where(differ, 1.0), 0.0)


class Ridge:
    """The `linear` layer."""

    def __init__(self, folder):
        stored = json.loads((folder / "linear.json").read_text(encoding="utf-8"))
        self.features = stored["features"]
        self.coef = np.array([stored["coef"][name] for name in self.features])

    def predict(self, frame, dates):
        """Scores of the rows."""
        return gaussian_ranks(frame[self.features], dates).astype(np.float64) @ self.coef


class Trees:
    """The `boosting` layer."""

    def __init__(self, folder):
        stored = json.loads((folder / "boosting.json").read_text(encoding="utf-8"))
        self.features, self.params = stored["features"], stored["params"]
        self.trees = lightgbm.Booster(model_str=(folder / "trees.txt").read_text(encoding="utf-8"))

    def predict(self, frame, dates):
        """Scores of the rows."""
        inputs = frame[self.features]
        if self.params["inputs"] == "ranks":
            inputs = rank_fractions(inputs, dates) * np.float32(2) - np.float32(1)
        return self.trees.predict(inputs.to_numpy(dtype=np.float32), num_threads=self.params["num_threads"])


LAYERS: dict[str, tuple[type, str | None]] = {"linear": (Ridge, None), "boosting": (Trees, "a")}


class ServedStack(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined]
    """Signals from features: whole sessions in, one row a symbol out."""

    def load_context(self, context):
        """Read the bundle that was packed with this file."""
        folder = Path(context.artifacts["bundle"])
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["format"] != KNOWN_FORMAT:
            raise ValueError(f"bundle format {manifest['format']} is not known here: register the version again")
        unknown = sorted(set(manifest["layers"]) - set(LAYERS))
        if unknown:
            raise ValueError(f"layer {unknown[0]!r} is not known to this model: register the version again")
        self.features = manifest["features"]
        self.layers = {name: LAYERS[name][0](folder / "layers" / name) for name in sorted(manifest["layers"])}
        self.stack = json.loads((folder / "stack.json").read_text(encoding="utf-8"))

    def predict(self, context, model_input, params=None):
        """Signals of the given rows.

        Parameters
        ----------
        model_input : DataFrame
            `date`, optionally `symbol` and `scale` (volatility of the outcome), and every feature. Rows
            are ranked among those of their date: give the whole universe of a date at once.

        Returns
        -------
        DataFrame
            `date, symbol, signal, signal_<x>, expected_return, interval_low, interval_high, p_wrong`.
        """
        missing = [name for name in ("date", *self.features) if name not in model_input]
        if missing:
            raise ValueError(f"column {missing[0]!r} is missing ({len(missing)} in all): give the bundle's features")
        rows = model_input.reset_index(drop=True)
        dates = rows["date"]
        features = rows[self.features].astype(np.float32)
        scores = {name: zscores(layer.predict(features, dates), dates) for name, layer in self.layers.items()}
        total = sum(self.stack["weights"][name] * score for name, score in scores.items())
        out = pd.DataFrame({"date": dates})
        out["symbol"] = rows["symbol"] if "symbol" in rows else rows.index.astype(str)
        out["signal"] = zscores(total, dates)
        for name, score in scores.items():
            out[f"signal_{LAYERS[name][1] or name}"] = score
        slope = np.nan if self.stack["slope"] is None else self.stack["slope"]
        out["expected_return"] = out["signal"] * slope
        return out.assign(**self._certainty(out["expected_return"].to_numpy(), self._scale(rows, dates)))

    def _scale(self, rows, dates):
        typical = np.nan if self.stack["scale"] is None else self.stack["scale"]
        if "scale" not in rows:
            return np.full(len(rows), typical)
        known = rows["scale"].astype(np.float64).where(rows["scale"] > 0)
        return known.fillna(known.groupby(dates).transform("median")).fillna(typical).to_numpy()

    def _certainty(self, expected, scale):
        """Conformal interval and probability that the outcome has not the sign of the expectation."""
        unknown = np.full(len(expected), np.nan)
        if self.stack["calibrator"] is None or np.isnan(expected).all():
            return {"interval_low": unknown, "interval_high": unknown, "p_wrong": unknown}
        alpha, group = self.stack["calibrator"]["alpha"], self.stack["calibrator"]["groups"]["0"]
        residuals, count = np.array(group["residuals"]), group["count"]
        size, share = len(residuals), len(residuals) / count
        scaled = expected / scale
        below = np.searchsorted(residuals, -scaled, side="right")
        above = size - np.searchsorted(residuals, -scaled, side="left")
        misses = np.where(scaled > 0, below, above) / share
        wrong = np.where(scaled == 0, 0.5, (misses + 1.0) / (count + 1.0))
        first = int(np.floor(alpha / 2 * (count + 1) * share + 1e-9))
        last = int(np.ceil((1 - alpha / 2) * (count + 1) * share - 1e-9))
        low, high = (np.nan, np.nan) if alpha >= 1 else (-np.inf, np.inf)
        if 0 < alpha < 1:
            low = residuals[first - 1] if first >= 1 else low
            high = residuals[last - 1] if last <= size else high
        return {
            "interval_low": expected + scale * low,
            "interval_high": expected + scale * high,
            "p_wrong": np.where(np.isnan(scaled), np.nan, wrong),
        }


mlflow.models.set_model(ServedStack())
