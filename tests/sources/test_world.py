"""The market of trader populations: its crises, its lists, its streamed form, and its truth."""

from __future__ import annotations

import datetime
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import yaml

from core.errors import ConfigError, StorageError
from core.params import parse
from market.stylised import RANGES, stylised_facts
from sources.base import open_source
from sources.providers.simulated import Simulated
from sources.simulation import archive
from sources.simulation.archive import MARKET_TRUTH, TRUTH, write_world
from sources.simulation.params import PRESETS, SimulationParams
from sources.simulation.plant import NAMES
from sources.simulation.story import CRISIS, PANICKED, Story
from sources.simulation.streams import Streams, stream
from sources.simulation.traders import BASE, POPULATIONS, Traders
from sources.simulation.world import make_world


def small(**changes) -> SimulationParams:
    base = {
        "planted_ic": None,
        "symbols": 30,
        "start": datetime.date(2010, 1, 4),
        "end": datetime.date(2012, 12, 14),
        "seed": 3,
    }
    return SimulationParams(**{**base, **changes})


# --- what may be asked for ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "boom"}, "preset"),
        ({"planted": {"luck": 0.1}}, "unknown source 'luck': choose from drift"),
        ({"preset": "null", "planted_ic": 0.1}, "nothing is planted"),
        ({"planted": {"drift": 0.4, "mood": 0.4}}, "below an oracle IC of 0.5"),
        ({"planted_ic": 0.7}, "planted_ic"),
        ({"herding": -1.0}, "herding"),
    ],
)
def test_an_impossible_market_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        parse(SimulationParams, {"planted_ic": None, **changes}, "data.simulated")


def test_an_unquoted_null_in_yaml_is_the_null_market():
    values = yaml.safe_load("{preset: null, symbols: 12, planted_ic: null}")
    assert parse(SimulationParams, values, "data.simulated") == SimulationParams(
        preset="null", symbols=12, planted_ic=None
    )


def test_the_presets_strengths_are_kept_or_set_together():
    for name, preset in PRESETS.items():
        own = SimulationParams(preset=name, planted_ic=None).oracle_ic()
        assert {source: ic for source, ic in own.items() if ic} == dict(preset.planted)
    both = SimulationParams(planted_ic=0.2).oracle_ic()
    assert sum(ic**2 for ic in both.values()) ** 0.5 == pytest.approx(0.2)
    assert both["drift"] / both["mood"] == pytest.approx(0.055 / 0.045)
    only = SimulationParams(planted_ic=None, planted={"crowd": 0.03})
    assert only.oracle_ic() == {**dict.fromkeys(NAMES, 0.0), "crowd": 0.03}
    assert only != SimulationParams(planted_ic=None)
    assert len({only, SimulationParams(planted_ic=None, planted={"crowd": 0.03})}) == 1


# --- streams --------------------------------------------------------------------------------------------------


def test_draws_in_blocks_are_the_draws_of_one_go():
    whole = stream(5, "size").standard_t(5, (30, 7))
    streams = Streams(5)
    parts = [streams["size"].standard_t(5, (rows, 7)) for rows in (1, 4, 25)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(stream(5, "volume").standard_t(5, (30, 7)), whole)
    assert Streams(5).fat("x", (20_000,), 5).std() == pytest.approx(1.0, abs=0.05)


# --- panic and populations ------------------------------------------------------------------------------------


def crises(pull: float, seeds=range(4), sessions: int = 2500) -> list[int]:
    """Sessions in crisis, by seed, where nobody leaves the market."""
    found = []
    for seed in seeds:
        story = Story(Streams(seed), pull)
        found.append(sum(story.session(0.0).regime == CRISIS for _ in range(sessions)))
    return found


def test_panic_feeds_itself_only_where_traders_copy_each_other():
    assert max(crises(0.0)) < 5
    assert np.mean(crises(10.0)) > 100


def test_a_panic_dies_down_once_enough_have_left():
    story = Story(Streams(1), 12.0)
    story.panic = 0.98
    stays = [story.session(0.0).panic for _ in range(60)][-1]
    story = Story(Streams(1), 12.0)
    story.panic = 0.98
    leaves = [story.session(0.35).panic for _ in range(60)][-1]
    assert stays > PANICKED > 0.4 > leaves


def test_traders_go_to_what_pays_and_leave_in_panic():
    up = np.linspace(0.5, 1.5, 20) * np.where(np.arange(20) % 2, 1.0, -1.0)
    calm, panicked = Traders(20), Traders(20)
    for _ in range(120):
        calm.session(up, np.zeros(20), 0.0, 0.0, np.ones(20))
        panicked.session(np.zeros(20), np.zeros(20), 0.0, 0.9, np.ones(20))
    shares = dict(zip(POPULATIONS, calm.shares, strict=True))
    assert shares["momentum"] > 2 * BASE["momentum"]
    assert shares["contrarian"] < BASE["contrarian"] / 2
    assert calm.shares.sum() == pytest.approx(1.0)
    assert np.sign(calm.demands[1]).tolist() == np.sign(up).tolist()
    assert panicked.gone() > 0.15
    assert (np.abs(calm.lean()) <= 1).all()


@pytest.mark.slow
def test_a_crisis_is_a_panic_with_wild_falls_and_correlated_firms():
    span = {"symbols": 40, "end": datetime.date(2019, 12, 31), "seed": 22}
    world = make_world(small(preset="crisis", **span))
    there = world.regime == CRISIS
    assert 0.005 < there.mean() < 0.25
    np.testing.assert_array_equal(there, world.panic > PANICKED)
    assert world.market[there].std() > 2.0 * world.market[~there].std()
    assert world.market[there].mean() < world.market[~there].mean()
    returns = np.diff(np.log(world.close), axis=0)
    alike = [np.corrcoef(returns[rows].T).mean() for rows in (there[1:], ~there[1:])]
    assert alike[0] > alike[1] + 0.1
    out = world.populations[:, POPULATIONS.index("out")]
    assert out[there].mean() > out[~there].mean() + 0.02
    quiet = make_world(small(**span))
    assert (quiet.regime == CRISIS).mean() < there.mean()


# --- lists ----------------------------------------------------------------------------------------------------


def test_a_delisted_firm_falls_silent_everywhere():
    source = Simulated(None, small(symbols=60, delisting_rate=0.5, missing_rate=0.0, gap_rate=0.0))
    world = source.world
    gone = {
        str(world.firms.symbols[k]): world.dates[world.firms.delisted[k]]
        for k in range(60)
        if world.firms.delisted[k] <= world.last
    }
    assert 5 < len(gone) < 50
    last = source.read("prices").groupby("symbol")["date"].max()
    for table, known in (("posts", "created_at"), ("fundamentals", "available_date"), ("earnings", "available_date")):
        frame = source.read(table)
        days = frame[known].dt.tz_localize(None) if table == "posts" else frame[known]
        for symbol, end in gone.items():
            assert last[symbol] == pd.Timestamp(end)
            assert (days[frame["symbol"] == symbol] <= pd.Timestamp(end) + pd.Timedelta(days=4)).all()
    assert (
        source.truth().groupby("symbol")["date"].max()[list(gone)] == pd.Series(gone).astype("datetime64[ms]")
    ).all()
    fails = [k for k in range(60) if world.firms.fails[k] and world.firms.delisted[k] <= world.last]
    assert len(fails) > 3
    assert (world.residual[world.firms.delisted[fails], fails] < -0.4).all()


def test_a_halted_firm_prints_its_last_close_again_without_volume():
    params = small(halt_rate=0.05, spike_rate=0.0, missing_rate=0.0, gap_rate=0.0, zero_volume_rate=0.0,
                   zero_open_rate=0.0, crossed_rate=0.0)  # fmt: skip
    prices = Simulated(None, params).read("prices").sort_values(["symbol", "date"])
    halted = prices["volume"] == 0
    assert halted.mean() == pytest.approx(0.05, abs=0.01)
    bars = prices.loc[halted, ["open", "high", "low", "close"]]
    assert (bars.max(axis=1) == bars.min(axis=1)).all()
    before = prices.groupby("symbol")["close"].shift()
    after_trading = halted & ~halted.groupby(prices["symbol"]).shift(fill_value=True)
    np.testing.assert_allclose(prices["close"][after_trading], before[after_trading], atol=0.006)


# --- the stylised facts ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_kind_of_market_shows_the_stylised_facts_of_real_ones(preset):
    found: dict[str, list[float]] = {}
    for seed in (1, 2, 3):
        world = make_world(small(preset=preset, symbols=50, end=datetime.date(2018, 12, 31), seed=seed))
        returns = np.diff(np.log(world.close), axis=0) * world.listed[1:]
        report = stylised_facts(returns, world.volume[1:], world.market[1:])
        for name, value in asdict(report.stocks).items():
            found.setdefault(name, []).append(value)
        assert report.market is not None
        found.setdefault("market leverage", []).append(report.market.leverage)
    median = {name: float(np.median(values)) for name, values in found.items()}
    wrong = {name: median[name] for name, (low, high) in RANGES.items() if not low <= median[name] <= high}
    assert not wrong
    assert median["leverage"] < 0 > median["market leverage"]
    assert median["skewness"] < 0
    make_world.cache_clear()


# --- streamed to a folder -------------------------------------------------------------------------------------


def test_the_folder_holds_the_tables_and_the_truth_of_the_market_in_memory(tmp_path):
    params = small(preset="planted", delisting_rate=0.3)
    seen = []
    write_world(params, tmp_path / "market", lambda done, total: seen.append((done, total)))
    source, files = Simulated(None, params), open_source("files", tmp_path / "market", {})
    assert set(files.tables()) == set(source.tables())
    for name in source.tables():
        pd.testing.assert_frame_equal(files.read(name), source.read(name), check_exact=True)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "market" / TRUTH), source.truth(), check_exact=True)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "market" / MARKET_TRUTH), source.market_truth())
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] == source.world.last + 1


def test_a_table_without_rows_has_no_file_and_a_span_without_sessions_is_refused(tmp_path):
    write_world(small(symbols=4, end=datetime.date(2010, 1, 8), posts_per_day=0.0), tmp_path / "market")
    assert set(open_source("files", tmp_path / "market", {}).tables()) == {"prices", "securities", "macro"}
    weekend = SimulationParams(planted_ic=None, start=datetime.date(2010, 1, 2), end=datetime.date(2010, 1, 3))
    with pytest.raises(ConfigError, match="no session of the exchange lies between 2010-01-02 and 2010-01-03"):
        write_world(weekend, tmp_path / "weekend")
    assert not (tmp_path / "weekend").exists()


def test_a_market_cut_short_leaves_what_was_there(tmp_path, monkeypatch):
    write_world(small(symbols=5), tmp_path / "market")
    before = {file.name: file.read_bytes() for file in (tmp_path / "market").iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "price_table", full)
    with pytest.raises(StorageError, match="the disk is full"):
        write_world(small(symbols=6), tmp_path / "market")
    assert {file.name: file.read_bytes() for file in (tmp_path / "market").iterdir()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["market"]


def test_the_truth_is_the_sum_of_its_parts_and_names_the_regime():
    source = Simulated(None, small(preset="planted"))
    truth = source.truth()
    parts = [f"part_{name}" for name in ("bargain", "pattern", "trend", "crowd")]
    assert list(truth.columns) == ["date", "symbol", "regime", "expected", *parts, "crowd"]
    np.testing.assert_allclose(truth["expected"], truth[parts].sum(axis=1), atol=1e-15)
    market = source.market_truth().set_index("date")
    assert (truth["date"].map(market["regime"]) == truth["regime"]).all()
    assert set(market["regime"]) <= {"calm", "stress", "crisis"}
    shares = market[[f"share_{name}" for name in POPULATIONS]]
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    nothing = Simulated(None, small(preset="null")).truth()
    assert (nothing["expected"] == 0.0).all()
    assert not [name for name in nothing if name.startswith("part_")]
