"""The simulated market: the same for the same seed, blind to its own end, and as predictable as it says."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from core.errors import ConfigError
from core.params import parse
from sources.base import open_source
from sources.calendar import session_of_date, session_of_time
from sources.providers.simulated import Simulated, _normalised
from sources.schemas import TABLES, normalise
from sources.simulation.params import SimulationParams
from sources.simulation.plant import DELAY, HORIZON, NAMES, REACH, SOURCES, TEMPLATE, foreseen, realised
from sources.simulation.reports import month_ends
from sources.simulation.world import make_world

CLEAN = dict.fromkeys(
    (
        "missing_rate",
        "gap_rate",
        "halt_rate",
        "spike_rate",
        "zero_open_rate",
        "crossed_rate",
        "zero_volume_rate",
        "delisting_rate",
    ),
    0.0,
)


START = datetime.date(2010, 1, 4)


def small(**changes) -> SimulationParams:
    base = {
        "planted_ic": None,
        "symbols": 30,
        "start": datetime.date(2010, 1, 4),
        "end": datetime.date(2013, 6, 28),
        "seed": 3,
    }
    return SimulationParams(**{**base, **changes})


def simulated(**changes) -> Simulated:
    return Simulated(None, small(**changes))


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson correlation of each row, over what both know."""
    known = np.isfinite(first) & np.isfinite(second)
    first, second = np.where(known, first, np.nan), np.where(known, second, np.nan)
    first = first - np.nanmean(first, axis=1, keepdims=True)
    second = second - np.nanmean(second, axis=1, keepdims=True)
    scale = np.sqrt(np.nansum(first**2, axis=1) * np.nansum(second**2, axis=1))
    return np.divide(np.nansum(first * second, axis=1), scale, out=np.full(len(scale), np.nan), where=scale > 0)


def standard_error(series: np.ndarray, blocks: int = 40) -> float:
    """Standard error of the mean of a dependent series, from the means of its blocks."""
    means = [block.mean() for block in np.array_split(series, blocks)]
    return float(np.std(means, ddof=1) / np.sqrt(blocks))


# --- one world, always the same ------------------------------------------------------------------------------


def test_every_table_fits_its_schema():
    source = simulated()
    assert set(source.tables()) == set(TABLES) - {"alternative"}
    for name in source.tables():
        frame = source.read(name)
        assert len(frame) > 0
        required = [column for column, spec in TABLES[name].columns.items() if spec.required]
        assert set(required) <= set(frame.columns)
        pd.testing.assert_frame_equal(frame, normalise(name, frame, name))


def test_opens_by_name_and_refuses_what_it_does_not_know():
    source = open_source(
        "simulated", None, {"symbols": 5, "planted_ic": None, "start": START, "end": datetime.date(2010, 6, 30)}
    )
    assert source.read("prices")["symbol"].nunique() <= 5
    with pytest.raises(ConfigError, match="unknown table 'options'"):
        source.read("options")
    with pytest.raises(ConfigError, match=r"data\.simulated\.sybols: unknown parameter"):
        open_source("simulated", None, {"sybols": 5})
    with pytest.raises(ConfigError, match="must be after start"):
        parse(SimulationParams, {"planted_ic": None, "end": datetime.date(2007, 1, 1)}, "data.simulated")
    with pytest.raises(ConfigError, match="planted_ic"):
        parse(SimulationParams, {"planted_ic": 0.9}, "data.simulated")


def test_same_seed_same_bits_other_seed_other_market():
    first = {name: simulated().read(name) for name in simulated().tables()}
    make_world.cache_clear()
    _normalised.cache_clear()
    for name, frame in first.items():
        pd.testing.assert_frame_equal(frame, simulated().read(name), check_exact=True)
    other = simulated(seed=4).read("prices")
    assert not np.array_equal(first["prices"]["close"].to_numpy()[:500], other["close"].to_numpy()[:500])


def test_what_is_read_cannot_be_spoilt_for_the_next_reader():
    source = simulated()
    for name in source.tables():
        frame = source.read(name)
        frame.iloc[:, 0] = frame.iloc[0, 0]
    assert source.read("prices")["symbol"].nunique() > 5
    assert source.read("securities")["symbol"].is_unique


@pytest.mark.parametrize("table", sorted(set(TABLES) - {"securities", "alternative"}))
def test_a_window_is_the_whole_filtered(table):
    source = simulated()
    first, last = datetime.date(2011, 3, 1), datetime.date(2011, 9, 30)
    whole, known = source.read(table), TABLES[table].known
    days = (whole[known].dt.tz_convert(None) if table == "posts" else whole[known]).dt.date
    expected = whole[(days >= first) & (days <= last)].reset_index(drop=True)
    pd.testing.assert_frame_equal(source.read(table, first, last), expected)
    assert len(expected) > 0


# --- prefix: the past does not know how long the sample is ----------------------------------------------------


@pytest.mark.parametrize("end", [datetime.date(2010, 9, 15), datetime.date(2011, 12, 30), datetime.date(2012, 2, 29)])
def test_extending_the_end_changes_nothing_before_it(end):
    short, long = simulated(end=end), simulated(end=datetime.date(2014, 12, 31))
    for table in ("earnings", "posts", "macro"):
        pd.testing.assert_frame_equal(short.read(table), long.read(table, end=end), check_exact=True)

    split_basis = ["shares_outstanding", "split_factor_2017"]
    few, many = short.read("fundamentals"), long.read("fundamentals", end=end)
    pd.testing.assert_frame_equal(few.drop(columns=split_basis[1]), many.drop(columns=split_basis[1]), check_exact=True)

    few, many = short.read("prices"), long.read("prices", end=end)
    as_traded = ["date", "symbol", "close_unadjusted"]
    pd.testing.assert_frame_equal(few[as_traded], many[as_traded], check_exact=True)
    ratio = many["close"] / few["close"]
    # A later split rescales a symbol's whole history by one number, and its volume by the inverse.
    assert ratio.groupby(many["symbol"]).agg(lambda r: r.max() / r.min() - 1).abs().max() < 1e-12
    np.testing.assert_allclose(many["volume"], few["volume"] / ratio, rtol=0, atol=1.0 / ratio.min())
    ok = few["open"] > 0
    np.testing.assert_allclose((many["open"] / few["open"])[ok], ratio[ok])

    few, many = short.truth(), long.truth()
    pd.testing.assert_frame_equal(few, many[many["date"] <= pd.Timestamp(end)].reset_index(drop=True), check_exact=True)


def test_the_whole_world_before_the_end_is_the_same_with_and_without_more_symbols_seen_later():
    securities = simulated(late_share=1.0, end=datetime.date(2010, 12, 31))
    listed = securities.read("securities")["symbol"]
    assert 0 < len(listed) < 30
    assert set(securities.read("prices")["symbol"]) <= set(listed)


# --- the plant ------------------------------------------------------------------------------------------------


def paid(impulse: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """What impulses earn, session by session: the slow way."""
    out = np.zeros_like(impulse)
    for day in range(len(impulse)):
        for lag, weight in enumerate(kernel, start=DELAY):
            if day >= lag:
                out[day] += weight * impulse[day - lag]
    return out


@pytest.mark.parametrize("name", NAMES)
def test_kernels_pay_what_the_impulse_promises_and_not_before_the_second_session(name):
    source = SOURCES[name]
    impulse = np.zeros((60, 2))
    impulse[10] = np.random.default_rng(0).normal(size=2)
    earned = paid(impulse, source.kernel)
    assert not earned[: 10 + DELAY].any()
    if name != "pattern":
        assert source.kernel.sum() == pytest.approx(1.0)
    # What is expected at D is what the impulses up to D pay on D+2 to D+6, and what their memory makes likely.
    told = foreseen(np.concatenate([np.zeros((REACH - 1, 2)), impulse]), source)
    for day in range(40):
        known = np.where(np.arange(60)[:, None] <= day, impulse, 0.0)
        for ahead in range(1, HORIZON):
            known[day + ahead] = source.memory**ahead * known[day]
        np.testing.assert_allclose(told[day], paid(known, source.kernel)[day + 2 : day + 7].sum(axis=0), atol=1e-12)


def test_the_pattern_is_hidden_from_sums_over_the_windows_of_features():
    weights = np.append(SOURCES["pattern"].weights, np.zeros(10))
    np.testing.assert_allclose(weights[: len(TEMPLATE)], TEMPLATE, atol=1e-12)
    for window in (1, 5, 21):
        assert weights[:window].sum() == pytest.approx(0.0, abs=1e-12)


def test_realised_is_the_sum_of_the_five_sessions_after_the_trade():
    returns = np.random.default_rng(1).normal(size=(30, 3))
    out = realised(returns)
    for day in range(30):
        if day + 6 < 30:
            np.testing.assert_allclose(out[day], returns[day + 2 : day + 7].sum(axis=0))
        else:
            assert np.isnan(out[day]).all()


@pytest.mark.slow
@pytest.mark.parametrize("planted", [0.03, 0.06, 0.15])
def test_the_oracle_reaches_the_planted_correlation(planted):
    daily = []
    for seed in (1, 2, 3):
        params = SimulationParams(
            symbols=120, start=START, end=datetime.date(2015, 12, 31), seed=seed, planted_ic=planted
        )
        world = make_world(params)
        rows = slice(70, world.last - HORIZON - 1)
        daily.append(correlation((world.expected * world.listed)[rows], world.outcome[rows]))
    error = np.mean([standard_error(series) for series in daily]) / np.sqrt(3)
    assert np.mean([series.mean() for series in daily]) == pytest.approx(planted, abs=3.0 * error + 0.05 * planted)
    make_world.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["default", "planted"])
def test_each_source_earns_its_own_and_nothing_is_earned_without_a_plant(preset):
    params = SimulationParams(
        preset=preset, planted_ic=None, symbols=120, start=START, end=datetime.date(2017, 12, 29), seed=11
    )
    world = make_world(params)
    none = make_world(params.model_copy(update={"planted": {}}))
    rows = slice(70, world.last - HORIZON - 1)
    wanted = {name: strength for name, strength in params.oracle_ic().items() if strength}
    assert set(world.parts) == set(wanted)
    assert not none.parts
    for name, part in world.parts.items():
        daily = correlation((part * world.listed)[rows], world.outcome[rows])
        assert daily.mean() / standard_error(daily) > 3.0, name
        assert daily.mean() == pytest.approx(wanted[name], abs=0.025), name
        without = correlation((part * world.listed)[rows], none.outcome[rows])
        assert abs(without.mean() / standard_error(without)) < 3.0, name
    make_world.cache_clear()


def test_null_truth_is_zero():
    assert (simulated(planted_ic=0.0).truth()["expected"] == 0.0).all()
    truth = simulated().truth()
    assert truth["expected"].std() > 0
    assert not truth.duplicated(["date", "symbol"]).any()


@pytest.mark.slow
def test_the_plant_shows_in_the_emitted_tables():
    """Plain features of the tables, no part of the simulation, must correlate with the residual return."""
    params = SimulationParams(
        symbols=120, start=START, end=datetime.date(2017, 12, 29), seed=5, planted_ic=0.12, **CLEAN
    )
    source = Simulated(None, params)
    world = source.world
    prices = source.read("prices")
    wide = {name: prices.pivot(index="date", columns="symbol", values=name) for name in ("close", "volume")}
    dates, symbols = wide["close"].index, wide["close"].columns
    returns = wide["close"].pct_change()
    sector = source.read("securities").set_index("symbol").loc[symbols, "sector"].to_numpy()
    residual = returns.copy()
    for name in np.unique(sector):
        peers = returns.loc[:, sector == name]
        residual.loc[:, sector == name] = peers.sub(peers.mean(axis=1), axis=0)
    outcome = residual.rolling(HORIZON).sum().shift(-HORIZON - 1).to_numpy()

    def t_value(feature: pd.DataFrame) -> float:
        rows = slice(300, -10)
        daily = correlation(feature.to_numpy()[rows], outcome[rows])
        daily = daily[np.isfinite(daily)]
        return daily.mean() / standard_error(daily)

    busy = wide["volume"] / wide["volume"].rolling(60).median() > 1.5
    assert t_value(-residual.where(busy, 0.0).rolling(HORIZON).sum()) > 3
    assert abs(t_value(-residual.where(~busy, 0.0).rolling(HORIZON).sum())) < 3

    def spread(frame: pd.DataFrame, session: np.ndarray, value: str, how: str, limit: int) -> pd.DataFrame:
        frame = frame.assign(date=pd.DatetimeIndex(session))
        wide = frame.pivot_table(index="date", columns="symbol", values=value, aggfunc=how)
        wide = wide.reindex(index=dates, columns=symbols)
        return wide.ffill(limit=limit) if limit else wide

    earnings = source.read("earnings").assign(sue=lambda e: e["surprise"] / e["eps_estimate"].abs().clip(lower=0.05))
    sue = spread(earnings, session_of_date(earnings["available_date"]), "sue", "last", 10)
    assert t_value(sue.clip(-1, 1).fillna(0.0)) > 3

    posts = source.read("posts")
    glad = "great|love|beautiful|excellent|winning|solid|nice|best|amazing|upgrade|profit|wonderful"
    glum = "terrible|weak|ugly|awful|losing|bad|no support|worst|disaster|downgrade|losses|horrible"
    tone = posts["text"].str.contains(glad).astype(float) - posts["text"].str.contains(glum).astype(float)
    posts = posts.assign(tone=tone)
    tone = spread(posts, session_of_time(posts["created_at"]), "tone", "sum", 0).fillna(0.0)
    assert t_value(tone.rolling(3).sum()) > 3

    filings = source.read("fundamentals")
    years = filings[(filings["income_months"] == 12) & ~filings["amended"]]
    years = years.assign(income=years["net_income"], shares=years["shares_outstanding"] * years["split_factor_2017"])
    session = session_of_date(years["available_date"])
    income, equity, shares = (spread(years, session, name, "last", 300) for name in ("income", "equity", "shares"))
    score = (income / shares / wide["close"]).rank(axis=1) + (income / equity).rank(axis=1)
    assert t_value(score) > 3
    assert len(world.dates) > len(dates)


# --- a believable market --------------------------------------------------------------------------------------


def test_returns_have_fat_tails_clustered_volatility_and_common_factors():
    world = make_world(small(symbols=60, end=datetime.date(2016, 12, 30)))
    returns = np.diff(np.log(world.close), axis=0)
    assert np.median(pd.DataFrame(returns).kurt()) > 1.0
    size = pd.DataFrame(np.abs(returns - returns.mean(axis=1, keepdims=True)))
    assert np.median([size[k].autocorr(1) for k in size]) > 0.05
    market = pd.Series(np.abs(returns.mean(axis=1)))
    assert market.autocorr(1) > 0.1
    assert 0.10 < np.sqrt(252) * returns.mean(axis=1).std() < 0.30
    correlations = np.corrcoef(returns.T)
    same = world.firms.sector[:, None] == world.firms.sector[None, :]
    off = ~np.eye(len(same), dtype=bool)
    assert correlations[same & off].mean() > correlations[~same].mean() + 0.03 > 0.1


def test_bars_hold_their_open_and_close_in_whole_cents_and_splits_leave_no_jump():
    source = simulated(end=datetime.date(2016, 12, 30), late_share=0.0, **CLEAN)
    prices = source.read("prices")
    slack = 1e-9 * prices["close"]
    assert (prices["high"] + slack >= prices[["open", "close"]].max(axis=1)).all()
    assert (prices["low"] - slack <= prices[["open", "close"]].min(axis=1)).all()
    assert (prices["low"] > 0).all()
    assert (prices["volume"] >= 0).all()
    cents = prices["close_unadjusted"] * 100
    np.testing.assert_allclose(cents, cents.round(), atol=1e-6)
    assert len(prices) == prices["date"].nunique() * 30
    raw = prices.pivot(index="date", columns="symbol", values="close_unadjusted").pct_change()
    adjusted = prices.pivot(index="date", columns="symbol", values="close").pct_change()
    splits = (raw - adjusted).abs() > 0.2
    assert splits.to_numpy().any()
    assert adjusted.where(splits).abs().max().max() < 0.3
    factors = (1 + adjusted).div(1 + raw).where(splits).stack().dropna().round(6).unique()
    assert set(factors) <= {2.0, 3.0}


def test_faults_come_at_their_rates_and_spikes_revert():
    rates = {**CLEAN, "zero_open_rate": 0.01, "zero_volume_rate": 0.005, "crossed_rate": 0.004, "spike_rate": 0.002}
    spoilt = simulated(late_share=0.0, **rates).read("prices")
    clean = simulated(late_share=0.0, **CLEAN).read("prices")
    total = len(clean)
    assert (spoilt["open"] == 0).mean() == pytest.approx(0.01, rel=0.3)
    assert (spoilt["volume"] == 0).mean() == pytest.approx(0.005, rel=0.3)
    assert (spoilt["high"] < spoilt["low"]).mean() == pytest.approx(0.004, rel=0.3)
    spikes = spoilt["close"].to_numpy() != clean["close"].to_numpy()
    assert spikes.mean() == pytest.approx(0.002, rel=0.4)
    factor = (spoilt["close"] / clean["close"])[spikes]
    assert ((factor < 0.5) | (factor > 1.8)).all()
    fewer = simulated(late_share=0.0, **{**CLEAN, "missing_rate": 0.01}).read("prices")
    assert 1 - len(fewer) / total == pytest.approx(0.01, rel=0.3)
    gappy = simulated(late_share=0.0, **{**CLEAN, "gap_rate": 0.0005}).read("prices")
    assert 0.003 < 1 - len(gappy) / total < 0.03


def test_a_symbol_listed_later_has_no_past():
    source = simulated(late_share=0.5, end=datetime.date(2016, 12, 30))
    first = source.read("prices").groupby("symbol")["date"].min()
    assert 5 < (first > pd.Timestamp("2010-03-01")).sum() < 25
    for table, known in (("fundamentals", "available_date"), ("earnings", "available_date")):
        frame = source.read(table)
        assert (frame[known] >= frame["symbol"].map(first) - pd.Timedelta(days=7)).all()
    truth = source.truth()
    assert (truth["date"] >= truth["symbol"].map(first) - pd.Timedelta(days=7)).all()


def test_filings_follow_their_period_and_the_years_sum_their_quarters():
    filings = simulated(restated_rate=0.0, wrong_entity_rate=0.0).read("fundamentals")
    lag = (filings["available_date"] - filings["period_end"]).dt.days - 1
    assert lag.min() >= 25
    assert lag.max() <= 60
    assert set(filings["fiscal_period"]) == {"Q1", "Q2", "Q3", "Q4", "FY"}
    checked = 0
    for _, firm in filings.groupby("symbol"):
        quarters = firm[firm["income_months"] == 3].sort_values("period_end")
        for _, year in firm[firm["income_months"] == 12].iterrows():
            inside = quarters[quarters["period_end"] <= year["period_end"]].tail(4)
            if len(inside) == 4:
                assert inside["net_income"].sum() == pytest.approx(year["net_income"])
                checked += 1
    assert checked > 30
    per_share = filings["net_income"] / filings["shares_outstanding"]
    np.testing.assert_allclose(filings["eps_basic"], per_share)


def test_gross_profit_lies_between_operating_income_and_revenue():
    filings = simulated(restated_rate=0.0, wrong_entity_rate=0.0).read("fundamentals")
    margin = filings["gross_profit"] / filings["revenue"]
    assert margin.between(0.05, 0.95).all()
    assert (filings["gross_profit"] > filings["operating_income"]).mean() > 0.95
    own = margin.groupby(filings["symbol"])
    assert own.std().mean() < 0.03 < own.mean().std()


def test_market_wide_series_are_believable_and_known_after_their_day():
    macro = simulated(end=datetime.date(2016, 12, 30)).read("macro")
    wide = macro.pivot(index="date", columns="series", values="value").dropna()
    between = {"VIX_CLOSE": (7, 110), "VXVCLS": (12, 65), "DGS10": (0, 7), "T10Y2Y": (-2, 5), "BAA10Y": (1, 8)}
    for name, (low, high) in {**between, "DCOILWTICO": (20, 200), "DTWEXB": (70, 150)}.items():
        assert wide[name].between(low, high).all(), name
        assert wide[name].std() > 0, name
    assert set(wide) == {*between, "DCOILWTICO", "DTWEXB"}
    # The longer maturity moves less: below the short one in a panic, above it in a calm.
    assert 0.2 < (wide["VIX_CLOSE"] > wide["VXVCLS"]).mean() < 0.8
    assert wide["VXVCLS"].std() < wide["VIX_CLOSE"].std()
    lag = (macro["available_date"] - macro["date"]).dt.days.groupby(macro["series"]).min()
    assert lag.to_dict() == {
        "VIX_CLOSE": 1, "VXVCLS": 1, "DGS10": 2, "T10Y2Y": 2, "BAA10Y": 2, "DCOILWTICO": 8, "DTWEXB": 10
    }  # fmt: skip


def test_restated_filings_come_later_and_wrong_entities_are_small():
    source = simulated(restated_rate=0.5, wrong_entity_rate=0.0)
    filings = source.read("fundamentals")
    key = ["symbol", "period_end", "fiscal_period"]
    again = filings[filings["amended"]].merge(filings[~filings["amended"]], on=key, suffixes=("", "_first"))
    assert len(again) > 30
    assert ((again["available_date"] - again["available_date_first"]).dt.days.between(60, 120)).all()
    assert (again["net_income"] != again["net_income_first"]).all()
    wrong = simulated(restated_rate=0.0, wrong_entity_rate=0.2).read("fundamentals")
    right = simulated(restated_rate=0.0, wrong_entity_rate=0.0).read("fundamentals")
    share = (wrong["assets"] / right["assets"] < 0.5).mean()
    assert 0.1 < share < 0.3


def test_announcements_are_known_on_the_day_or_the_next_and_before_the_filing():
    source = simulated()
    earnings = source.read("earnings")
    delay = (earnings["available_date"] - earnings["announce_date"]).dt.days
    assert set(delay) == {0, 1}
    np.testing.assert_allclose(earnings["surprise"], earnings["eps_actual"] - earnings["eps_estimate"], atol=1e-9)
    announced = earnings["announce_date"].to_numpy().astype("datetime64[D]")
    assert (session_of_date(announced) == announced).all()
    world = source.world
    assert (month_ends(world.dates) <= world.dates[-1]).all()


def test_market_value_is_on_one_split_basis_throughout():
    source = simulated(end=datetime.date(2016, 12, 30), late_share=0.0, wrong_entity_rate=0.0, **CLEAN)
    filings = source.read("fundamentals")
    assert filings["split_factor_2017"].max() >= 2.0
    shares = (filings["shares_outstanding"] * filings["split_factor_2017"]).groupby(filings["symbol"])
    change = shares.pct_change().abs()
    assert change.max() < 0.05


def test_posts_carry_a_readable_mood_and_repeats():
    pytest.importorskip("vaderSentiment")
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    from sources.simulation import posts as words

    reader = SentimentIntensityAnalyzer()

    def tones(texts):
        return [reader.polarity_scores(f"$BKRT {text}")["compound"] for text in texts]

    assert min(tones(words._GLAD)) > 0.2
    assert max(tones(words._GLUM)) < -0.2
    assert max(map(abs, tones([*words._FLAT, *words._TAILS, *words._HEADS]))) < 0.05

    source = simulated(symbols=60)
    posts = source.read("posts")
    symbols = source.read("securities")["symbol"]
    assert max(map(abs, (reader.polarity_scores(f"${symbol} on my screen")["compound"] for symbol in symbols))) < 0.05
    retweets = posts[posts["is_retweet"]]
    assert 0.02 < len(retweets) / len(posts) < 0.15
    originals = posts[~posts["is_retweet"]].set_index(["symbol", "text"])["created_at"]
    for _, post in retweets.head(50).iterrows():
        earlier = originals.loc[[(post["symbol"], post["text"].removeprefix("RT @user: "))]]
        assert (earlier <= post["created_at"]).any()
    assert posts["symbol"].nunique() < 0.7 * len(symbols)


@pytest.mark.slow
def test_the_default_world_is_made_once_a_process():
    make_world.cache_clear()
    _normalised.cache_clear()
    source = Simulated(None, SimulationParams(seed=99, planted_ic=None, start=START))
    for _ in range(2):
        for name in source.tables():
            assert len(source.read(name))
    assert make_world.cache_info().misses == 1
    count = len(source.tables())
    assert (_normalised.cache_info().misses, _normalised.cache_info().hits) == (count, count)
    make_world.cache_clear()
    _normalised.cache_clear()
