"""Small datasets with a known truth, for the tests of the models."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from models.dataset import Dataset, assemble_dataset


def make_dataset(
    sessions: int = 240,
    symbols: int = 60,
    features: int = 6,
    ic: float = 0.1,
    horizon: int = 2,
    seed: int = 0,
    missing: float = 0.05,
) -> Dataset:
    """Rows whose label follows the first feature with correlation `ic`; the last sessions have no outcome."""
    rng = np.random.default_rng(seed)
    session = np.repeat(np.arange(sessions), symbols)
    symbol = np.tile(np.arange(symbols), sessions)
    keep = rng.random(len(session)) > 0.1
    session, symbol = session[keep], symbol[keep]
    X = rng.standard_normal((len(session), features)).astype(np.float32)
    forward = 0.03 * (ic * X[:, 0] + np.sqrt(1 - ic**2) * rng.standard_normal(len(session)))
    X[rng.random(X.shape) < missing] = np.nan
    label = np.full(len(session), np.nan)
    for day in range(sessions - horizon - 1):
        rows = session == day
        order = forward[rows].argsort().argsort()
        label[rows] = ndtri((order + 0.5) / rows.sum())
    forward[np.isnan(label)] = np.nan
    return assemble_dataset(
        dates=np.datetime64("2010-01-04") + np.arange(sessions),
        symbols=np.array([f"S{i:03d}" for i in range(symbols)]),
        sector=np.arange(symbols) % 5,
        session=session,
        symbol=symbol,
        X=X,
        features=[f"x{i}" for i in range(features)],
        label=label,
        forward=forward,
        raw=forward,
        horizon=horizon,
        market=0.01 * np.random.default_rng(seed + 1).standard_normal(sessions),
    )
