"""Market features against closed forms on small paths."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from features.families.market import MarketParams, market
from features.panel import Events, Panel

FEATURES = {feature.name: feature for feature in market.build()}


def path(close, **fields) -> Panel:
    """A panel of three symbols with the same path (so that cross-sections exist)."""
    close = np.asarray(close, dtype=float)
    T = len(close)
    columns = dict.fromkeys(("open", "high", "low"), close) | {"close": close, "volume": np.ones(T)} | fields
    return Panel(
        dates=np.arange(T).astype("datetime64[D]"),
        symbols=np.array(["A", "B", "C"]),
        fields={name: np.repeat(np.asarray(v, float)[:, None], 3, axis=1) for name, v in columns.items()},
        universe=np.ones((T, 3), dtype=bool),
        sector=np.zeros(3, dtype=np.int64),
    )


def last(name: str, panel: Panel) -> float:
    return float(FEATURES[name](panel)[-1, 0])


GROWTH = 100 * 1.001 ** np.arange(300)
RNG = np.random.default_rng(3)
WALK = 50 * np.exp(np.cumsum(RNG.normal(0, 0.02, 300)))
VOLUME = np.exp(RNG.normal(12, 0.5, 300))


def test_every_feature_is_documented_and_bounded():
    for feature in FEATURES.values():
        assert feature.doc.endswith(".")
        assert feature.reference
        assert feature.sign in (-1, 0, 1)
        assert 1 <= feature.lookback <= 253


@pytest.mark.parametrize(("name", "sessions", "skip"), [
    ("reversal_1", 1, 0), ("reversal_5", 5, 0), ("reversal_21", 21, 0),
    ("momentum_126", 105, 21), ("momentum_252", 231, 21), ("momentum_sector", 126, 0), ("seasonality", 21, 231),
])  # fmt: skip
def test_returns(name, sessions, skip):
    expected = WALK[299 - skip] / WALK[299 - skip - sessions] - 1
    assert last(name, path(WALK)) == pytest.approx(expected, rel=1e-6)


def test_a_constant_growth_has_no_risk_and_tops_its_range():
    panel = path(GROWTH)
    assert last("high_52w", panel) == pytest.approx(1.0)
    assert last("high_age", panel) == 0.0
    assert last("position_21", panel) == pytest.approx(1.0)
    assert last("momentum_discreteness", panel) == pytest.approx(-1.0)
    assert last("volatility_63", panel) == pytest.approx(0.0, abs=1e-9)
    assert last("volatility_downside", panel) == 0.0
    assert last("max_return_5", panel) == pytest.approx(0.001, rel=1e-5)
    assert last("reversal_sector_5", panel) == pytest.approx(0.0, abs=1e-9)


def test_range_volatilities():
    factor = math.exp(0.02)
    panel = path(GROWTH, high=GROWTH * factor, low=GROWTH / factor, open=GROWTH * math.exp(-0.01))
    assert last("parkinson_21", panel) == pytest.approx(0.04 / math.sqrt(4 * math.log(2)), rel=1e-5)
    variance = 0.5 * 0.04**2 - (2 * math.log(2) - 1) * 0.01**2
    assert last("garman_klass_21", panel) == pytest.approx(math.sqrt(variance), rel=1e-5)


def test_yang_zhang_is_gap_body_and_range():
    start, close = WALK * np.exp(RNG.normal(0, 0.01, 300)), WALK
    high, low = np.maximum(start, close) * 1.01, np.minimum(start, close) / 1.02
    gap = np.log(start[-21:] / close[-22:-1])
    body, up, down = (np.log(part[-21:] / start[-21:]) for part in (close, high, low))
    share = 0.34 / (1.34 + 22 / 20)
    variance = gap.var(ddof=1) + share * body.var(ddof=1)
    variance += (1 - share) * (up * (up - body) + down * (down - body)).mean()
    assert last("yang_zhang_21", path(close, open=start, high=high, low=low)) == pytest.approx(
        math.sqrt(variance), rel=1e-5
    )


def test_yang_zhang_knows_no_drift():
    # Bars that rise from their low to their high and open at the close before: a trend without any noise.
    panel = path(GROWTH, open=GROWTH / 1.001, high=GROWTH, low=GROWTH / 1.001)
    assert last("yang_zhang_21", panel) == pytest.approx(0.0, abs=1e-7)
    assert last("parkinson_21", panel) > 5e-4
    # A gap that is the same every night is a drift as well.
    assert last("yang_zhang_21", path(GROWTH)) == pytest.approx(0.0, abs=1e-7)


def test_relative_to_the_sector():
    paths = np.column_stack([WALK, WALK**2, WALK**0.5, WALK[::-1]])
    panel = Panel(
        dates=np.arange(300).astype("datetime64[D]"),
        symbols=np.array(["A", "B", "C", "D"]),
        fields={"close": paths},
        universe=np.ones((300, 4), dtype=bool),
        sector=np.array([0, 0, 0, 1]),
    )
    for name, relative in (("momentum_252", "momentum_relative_252"), ("volatility_63", "volatility_relative_63")):
        plain = FEATURES[name](panel)[-1]
        expected = plain[:3] - plain[:3].mean()
        np.testing.assert_allclose(FEATURES[relative](panel)[-1, :3], expected, rtol=1e-4, atol=1e-7)
        # A sector of one symbol is too small: it is measured against the universe.
        assert FEATURES[relative](panel)[-1, 3] == pytest.approx(plain[3] - plain.mean(), rel=1e-4)


def test_moments_equal_pandas():
    r = pd.Series(WALK).pct_change()
    assert last("volatility_21", path(WALK)) == pytest.approx(r.iloc[-21:].std(), rel=1e-5)
    assert last("volatility_downside", path(WALK)) == pytest.approx(
        np.sqrt((r.iloc[-63:].clip(upper=0) ** 2).mean()), rel=1e-5
    )
    assert last("max_return_5", path(WALK)) == pytest.approx(r.iloc[-21:].nlargest(5).mean(), rel=1e-5)
    assert last("average_50", path(WALK)) == pytest.approx(WALK[-50:].mean() / WALK[-1] - 1, rel=1e-5)


def test_volume_features():
    panel = path(WALK, volume=VOLUME)
    r, v = pd.Series(WALK).pct_change(), pd.Series(VOLUME)
    impact = (r.abs() / (WALK * v)).iloc[-63:].mean()
    assert last("illiquidity", panel) == pytest.approx(np.log(impact), rel=1e-5)
    assert last("dollar_volume", panel) == pytest.approx(np.log((WALK * v).iloc[-63:].mean()), rel=1e-5)
    assert last("abnormal_volume_5", panel) == pytest.approx(
        np.log(VOLUME[-5:].mean() / VOLUME[-252:].mean()), rel=1e-4
    )
    assert last("volume_variability", panel) == pytest.approx(v.iloc[-63:].std() / v.iloc[-63:].mean(), rel=1e-5)
    assert last("volume_return_corr", panel) == pytest.approx(r.iloc[-63:].corr(v.iloc[-63:]), rel=1e-5)
    slope = np.polyfit(np.arange(63), VOLUME[-63:], 1)[0] / VOLUME[-63:].mean()
    assert last("volume_trend", panel) == pytest.approx(slope, rel=1e-4)
    expected = (WALK[-1] / WALK[-6] - 1) * VOLUME[-5:].mean() / VOLUME[-63:].mean()
    assert last("reversal_volume", panel) == pytest.approx(expected, rel=1e-5)


def test_unexplained_returns_fade_and_news_is_left_out():
    rng = np.random.default_rng(4)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (120, 3)), axis=0))
    volume = np.exp(rng.normal(12, 0.5, (120, 3)))
    known = Events(np.array([117]), np.array([0]), {"eps_actual": np.ones(1)})
    panel = replace(path(WALK[:120]), fields={"close": close, "volume": volume}, events={"earnings": known})
    moved, busy = close[1:] / close[:-1] - 1, volume / pd.DataFrame(volume).rolling(63).mean().to_numpy()
    beside = moved - moved.mean(axis=1, keepdims=True)
    parts = beside[114:] * np.log(np.maximum(busy[115:], 1.0))
    parts[2, 0] = 0.0
    expected = np.array([0.2, 0.4, 0.6, 0.8, 1.0]) @ parts
    np.testing.assert_allclose(FEATURES["reversal_unexplained"](panel)[-1], expected, rtol=1e-4, atol=1e-9)


def test_session_parts_add_up_to_the_return():
    start = WALK * np.exp(RNG.normal(0, 0.005, 300))
    panel = path(WALK, open=start)
    total = np.log(WALK[-1] / WALK[-22]) / 21
    assert last("overnight_21", panel) + last("intraday_21", panel) == pytest.approx(total, abs=1e-7)


def test_candle_parts():
    panel = path(np.full(3, 11.0), open=[10.0] * 3, high=[12.0] * 3, low=[9.0] * 3)
    values = {part: last(f"candle_{part}", panel) for part in ("body", "length", "upper", "lower")}
    assert values == pytest.approx({"body": 0.1, "length": 0.3, "upper": 0.1, "lower": 0.1})


def test_beta_and_idiosyncratic_volatility(panel):
    beta, idiosyncratic = FEATURES["beta"](panel), FEATURES["idiosyncratic_volatility"](panel)
    returns = pd.DataFrame(panel["close"]).pct_change(fill_method=None).mask(panel["level_break"] > 0).to_numpy()
    held = np.vstack([np.zeros((1, panel.shape[1]), bool), panel.universe[:-1]])
    m = np.nanmean(np.where(held, returns, np.nan)[600 - 251 : 601], axis=1)
    for j in (5, 9):
        r = returns[600 - 251 : 601, j]
        both = ~np.isnan(r) & ~np.isnan(m)
        slope, _ = np.polyfit(m[both], r[both], 1)
        assert beta[600, j] == pytest.approx(slope, rel=1e-4)
        near = both & (np.arange(252) >= 252 - 63)
        fit = np.polyfit(m[near], r[near], 1)
        rest = r[near] - np.polyval(fit, m[near])
        assert idiosyncratic[600, j] == pytest.approx(np.sqrt((rest**2).sum() / (near.sum() - 2)), rel=1e-4)


def test_a_level_break_blanks_what_crosses_it():
    jump = np.zeros(300)
    jump[280] = 1.0
    panel = path(WALK, level_break=jump)
    assert np.isnan(FEATURES["reversal_1"](panel)[280, 0])
    assert np.isnan(last("reversal_21", panel))
    assert np.isnan(last("high_52w", panel))
    assert not np.isnan(last("reversal_5", panel))
    assert not np.isnan(last("volatility_63", panel))


def test_too_little_history_is_nan(panel):
    gap = {name: values.copy() for name, values in panel.fields.items()}
    gap["close"][690:, 0] = np.nan
    broken = replace(panel, fields=gap)
    for name in ("reversal_1", "volatility_21", "max_return_1"):
        assert np.isnan(FEATURES[name](broken)[-1, 0])


def test_windows_are_parameters():
    names = {feature.name for feature in market.build({"reversal": [3], "candle": ["body"]})}
    assert {"reversal_3", "candle_body"} <= names
    assert not {"reversal_1", "candle_upper"} & names
    for bad in ({"momentum": [21]}, {"candle": ["head"]}, {"windows": [5]}):
        with pytest.raises(ValidationError):
            MarketParams.model_validate(bad)
