"""Alpha158 against its definition, written out in pandas one symbol at a time, and its invariances."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.kernels.alpha158 import CANDLE, ROLLING, alpha158, names

WINDOWS = (5, 10, 20, 30, 60)
VOLUME_OFFSET = 1.0


def market(sessions: int = 400, symbols: int = 19, seed: int = 0) -> dict[str, np.ndarray]:
    """Prices and volumes, `(T, N)`: the symbols list one after another, some rows are missing, some values repeat."""
    rng = np.random.default_rng(seed)
    shape = (sessions, symbols)
    close = np.round(50 * np.exp(np.cumsum(0.02 * rng.normal(size=shape), axis=0)), 2)
    start = np.round(close * np.exp(0.01 * rng.normal(size=shape)), 2)
    high = np.round(np.maximum(start, close) * np.exp(np.abs(0.005 * rng.normal(size=shape))), 2)
    low = np.round(np.minimum(start, close) * np.exp(-np.abs(0.005 * rng.normal(size=shape))), 2)
    volume = np.round(np.exp(rng.normal(13, 0.6, shape)))
    fields = {"open": start, "high": high, "low": low, "close": close, "volume": volume, "vwap": (high + low) / 2}
    for symbol in range(0, symbols, 3):
        for values in fields.values():
            values[: 7 * symbol, symbol] = np.nan
    for missing in rng.integers(0.2 * sessions, sessions, 6):
        for values in fields.values():
            values[missing, 1] = np.nan
    close[100:170, 2] = start[100:170, 2] = high[100:170, 2] = low[100:170, 2] = 20.0
    return fields


def oracle(fields: dict[str, np.ndarray], symbol: int, windows=WINDOWS) -> pd.DataFrame:
    """The definitions of Qlib's Alpha158, one rolling window after another, for the rows of one symbol."""
    table = pd.DataFrame({name: values[:, symbol] for name, values in fields.items()})
    present = table["close"].notna()
    table = table[present.idxmax() : present[::-1].idxmax()]
    o, h, l, c, v, w = (table[name] for name in ("open", "high", "low", "close", "volume", "vwap"))  # noqa: E741
    tiny = 1e-12
    out = {
        "KMID": (c - o) / o, "KLEN": (h - l) / o, "KMID2": (c - o) / (h - l + tiny),
        "KUP": (h - np.maximum(o, c)) / o, "KUP2": (h - np.maximum(o, c)) / (h - l + tiny),
        "KLOW": (np.minimum(o, c) - l) / o, "KLOW2": (np.minimum(o, c) - l) / (h - l + tiny),
        "KSFT": (2 * c - h - l) / o, "KSFT2": (2 * c - h - l) / (h - l + tiny),
        "OPEN0": o / c, "HIGH0": h / c, "LOW0": l / c, "VWAP0": w / c,
    }  # fmt: skip
    before, volume_before = c.shift(1), v.shift(1)
    move, flow, volume_move = c - before, (c / before - 1).abs() * v, v - volume_before
    for d in windows:

        def roll(x, d=d):
            return x.rolling(d, min_periods=1)

        def line(x, part, d=d):
            def fit(y):
                t, there = np.arange(len(y)), ~np.isnan(y)
                if there.sum() < 2:
                    return np.nan
                slope, level = np.polyfit(t[there], y[there], 1)
                if part == "slope":
                    return slope
                if part == "residual":
                    return y[-1] - (slope * t[-1] + level)
                spread = ((y[there] - y[there].mean()) ** 2).sum()
                return 1 - ((y[there] - slope * t[there] - level) ** 2).sum() / spread if spread > 1e-12 else np.nan

            return x.rolling(d, min_periods=1).apply(fit, raw=True)

        down = roll((before - c).clip(lower=0)).sum()
        up, total = roll(move.clip(lower=0)).sum(), roll(move.abs()).sum() + tiny
        volume_down, volume_up = roll((-volume_move).clip(lower=0)).sum(), roll(volume_move.clip(lower=0)).sum()
        volume_total = roll(volume_move.abs()).sum() + tiny
        high, low = roll(h).max(), roll(l).min()
        # Sessions from the window's oldest close on: Qlib's from its oldest row, which differs beside a gap only.
        span = roll(c).apply(lambda x: len(x) - np.argmin(np.isnan(x)), raw=True)
        top = roll(h).apply(lambda x: np.nanargmax(x) + 1 - np.argmin(np.isnan(x)), raw=True)
        bottom = roll(l).apply(lambda x: np.nanargmin(x) + 1 - np.argmin(np.isnan(x)), raw=True)
        rises, falls = (roll((move * side > 0).astype(float)).sum() / span for side in (1, -1))
        out |= {
            f"ROC{d}": c.shift(d) / c, f"MA{d}": roll(c).mean() / c, f"STD{d}": roll(c).std() / c,
            f"BETA{d}": line(c, "slope") / c, f"RSQR{d}": line(c, "r2"), f"RESI{d}": line(c, "residual") / c,
            f"MAX{d}": high / c, f"MIN{d}": low / c,
            f"QTLU{d}": roll(c).quantile(0.8) / c, f"QTLD{d}": roll(c).quantile(0.2) / c,
            f"RANK{d}": roll(c).rank(pct=True), f"RSV{d}": (c - low) / (high - low + tiny),
            f"IMAX{d}": top / d, f"IMIN{d}": bottom / d, f"IMXD{d}": (top - bottom) / d,
            f"CORR{d}": roll(c).corr(np.log(v + VOLUME_OFFSET)),
            f"CORD{d}": roll(c / before).corr(np.log(v / volume_before + 1)),
            f"CNTP{d}": rises, f"CNTN{d}": falls, f"CNTD{d}": rises - falls,
            f"SUMP{d}": up / total, f"SUMN{d}": down / total, f"SUMD{d}": (up - down) / total,
            f"VMA{d}": roll(v).mean() / (v + tiny), f"VSTD{d}": roll(v).std() / (v + tiny),
            f"WVMA{d}": roll(flow).std() / (roll(flow).mean() + tiny),
            f"VSUMP{d}": volume_up / volume_total, f"VSUMN{d}": volume_down / volume_total,
            f"VSUMD{d}": (volume_up - volume_down) / volume_total,
        }  # fmt: skip
    return pd.DataFrame(out)


def test_the_set_is_whole():
    assert len(names(WINDOWS)) == 158
    assert len(set(names(WINDOWS))) == 158
    assert names((5,))[: len(CANDLE)] == CANDLE
    assert names((5,), single=False) == tuple(f"{name}5" for name in ROLLING)


@pytest.mark.parametrize("symbol", [0, 1, 2, 6, 18])
def test_values_are_those_of_the_definition(symbol):
    fields = market()
    values = alpha158(fields, WINDOWS, one_share=VOLUME_OFFSET)
    expected = oracle(fields, symbol)
    shown = values[:, expected.index, symbol].T
    closed = ~np.isnan(fields["close"][expected.index, symbol])
    flat = {"RSQR": 1e-6, "CORR": 1e-6, "CORD": 1e-6}
    for at, name in enumerate(names(WINDOWS)):
        old, new = expected[name].to_numpy()[closed], shown[closed, at]
        both = ~np.isnan(old) & ~np.isnan(new)
        kind = name.rstrip("0123456789")
        if kind not in flat and not (symbol == 2 and kind in ("KMID2", "KUP2")):
            np.testing.assert_array_equal(np.isnan(old), np.isnan(new), err_msg=name)
        assert both.mean() > 0.75, name
        np.testing.assert_allclose(new[both], old[both], rtol=2e-6, atol=flat.get(kind, 1e-7), err_msg=name)


@pytest.mark.parametrize("window", [2, 7, 60, 100])
def test_bits_depend_on_the_window_alone(window):
    fields = market(sessions=300)
    whole = alpha158(fields, (window,), single=False)
    for last in (window, 150, 299):
        alone = {name: values[max(0, last - window) : last + 1] for name, values in fields.items()}
        near = alpha158(alone, (window,), single=False)[:, -1]
        assert near.tobytes() == whole[:, last].tobytes()


def test_bits_do_not_depend_on_neighbours_missing_rows_or_other_windows():
    fields = market(symbols=40)
    whole = alpha158(fields, WINDOWS)
    order = np.random.default_rng(0).permutation(40)
    mixed = alpha158({name: np.ascontiguousarray(values[:, order]) for name, values in fields.items()}, WINDOWS)
    assert mixed.tobytes() == np.ascontiguousarray(whole[:, :, order]).tobytes()
    alone = alpha158(fields, (20,), single=False)
    at = names(WINDOWS).index("ROC20")
    assert alone.tobytes() == np.ascontiguousarray(whole[at : at + len(ROLLING)]).tobytes()


def test_a_split_cancels_exactly():
    fields = market()
    split = {name: values / 4 if name != "volume" else values * 4 for name, values in fields.items()}
    assert alpha158(split, WINDOWS).tobytes() == alpha158(fields, WINDOWS).tobytes()


def test_float32_in_float64_sums():
    fields = market()
    small = {name: values.astype(np.float32) for name, values in fields.items()}
    wide = {name: values.astype(np.float64) for name, values in small.items()}
    assert alpha158(small, WINDOWS).tobytes() == alpha158(wide, WINDOWS).tobytes()


def test_thirty_years_do_not_drift():
    fields = market(sessions=7600, symbols=3, seed=3)
    late = {name: np.ascontiguousarray(values[-100:]) for name, values in fields.items()}
    assert alpha158(fields, WINDOWS)[:, -30:].tobytes() == alpha158(late, WINDOWS)[:, -30:].tobytes()


def test_bad_arguments():
    fields = market(sessions=20, symbols=3)
    with pytest.raises(ValueError, match="windows must be of 2 sessions or more, got 1"):
        alpha158(fields, (1,))
    with pytest.raises(ValueError, match="expected"):
        alpha158(fields, (5,), out=np.empty((3, 20, 3), np.float32))
    with pytest.raises(ValueError, match="different shapes"):
        alpha158(fields | {"open": fields["open"][1:]}, (5,))
