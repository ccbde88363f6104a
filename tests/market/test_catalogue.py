import datetime
import fnmatch
import tomllib

import numpy as np
import pandas as pd
import pytest
import yaml

from core.errors import ConfigError
from market.catalogue import BUILT_IN, Proxy, Scenario, load_catalogue

GICS = {
    "Consumer Discretionary", "Consumer Staples", "Energy", "Financials", "Health Care", "Industrials",
    "Information Technology", "Materials", "Telecommunications Services", "Utilities",
}  # fmt: skip

# first, last, market, VIX from and to, long-short factors, proxies: percent
KNOWN = {
    "crash_1987": ("1987-10-01", "1987-10-30", -23.2, None, {"size": -8.4, "value": 4.2}, {}),
    "ltcm_1998": ("1998-07-17", "1998-08-31", -19.3, (16, 44), {}, {"JPM": -30, "BAC": -33, "XOM": -9}),
    "dotcom_2000": (
        "2000-03-24", "2002-10-09", -49.1, (23, 45), {"size": 13, "value": 90}, {"MSFT": -61, "JNJ": 61, "PG": 66},
    ),
    "quant_unwind_2007": ("2007-08-06", "2007-08-09", 1.4, None, {"reversal": -6.75}, {}),
    "lehman_2008": (
        "2008-09-12", "2008-11-20", -39.9, (26, 81), {}, {"BAC": -67, "JPM": -43, "XOM": -11, "WMT": -19},
    ),
    "bear_market_2007": ("2007-10-09", "2009-03-09", -56.8, (16, 81), {}, {}),
    "flash_crash_2010": ("2010-05-06", "2010-05-06", -3.2, (25, 33), {}, {}),
    "correction_2010": ("2010-04-23", "2010-07-02", -16.0, (17, 46), {}, {}),
    "downgrade_2011": ("2011-07-22", "2011-08-08", -16.8, (18, 48), {}, {"BAC": -36, "XOM": -18, "PG": -8}),
    "china_2015": ("2015-08-17", "2015-08-25", -11.2, (13, 41), {}, {"MTUM": -10.2, "USMV": -9.5, "VLUE": -8.9}),
    "volmageddon_2018": ("2018-01-26", "2018-02-08", -10.2, (11, 37), {}, {}),
    "covid_2020": (
        "2020-02-19", "2020-03-23", -33.9, (14, 83), {},
        {"SIZE": -39, "VLUE": -39, "MTUM": -34, "USMV": -33, "XOM": -48, "WMT": -2},
    ),
    "vaccine_2020": ("2020-11-09", "2020-11-09", 1.2, None, {}, {"VLUE": 3.6, "MTUM": -2.9}),
    "rates_2022": (
        "2022-01-03", "2022-10-12", -25.4, (17, 36), {}, {"XOM": 60, "MSFT": -32, "QUAL": -27, "USMV": -17},
    ),
}  # fmt: skip


def _percent(moves):
    return {key: round(100 * move, 6) for key, move in moves.items()}


def test_the_scenarios_are_what_happened():
    got = {}
    for name, s in load_catalogue().items():
        vix = None if s.vix_from is None else (s.vix_from, s.vix_to)
        proxies = {p.symbol: p.move for p in s.proxies}
        got[name] = (
            s.first.isoformat(), s.last.isoformat(), round(100 * s.market, 6), vix, _percent(s.factors),
            _percent(proxies),
        )  # fmt: skip
        assert s.name == name
        assert s.title
        assert s.source.startswith("computed from")
        assert s.sectors == {}
    assert got == KNOWN


def test_single_days_and_what_is_recalled():
    catalogue = load_catalogue()
    days = {name: {str(d): round(100 * m, 6) for d, m in s.days.items()} for name, s in catalogue.items() if s.days}
    assert days == {
        "crash_1987": {"1987-10-19": -20.5},
        "quant_unwind_2007": {"2007-08-06": 2.4, "2007-08-07": 0.6, "2007-08-08": 1.4, "2007-08-09": -3.0},
        "volmageddon_2018": {"2018-02-05": -4.1},
        "covid_2020": {"2020-03-16": -12.0},
    }
    quants = catalogue["quant_unwind_2007"]
    # Days are rounded to a tenth of a percent.
    assert np.prod([1 + m for m in quants.days.values()]) - 1 == pytest.approx(quants.market, abs=0.001)
    assert quants.factors["reversal"] == pytest.approx(0.988 * 0.972 * 0.971 - 1, abs=1e-4)
    assert {name: s.recalled for name, s in catalogue.items() if s.recalled} == {
        "crash_1987": ("days.1987-10-19",),
        "quant_unwind_2007": ("factors.reversal",),
    }
    assert {name: s.crowd for name, s in catalogue.items() if s.crowd != 1} == {"quant_unwind_2007": 2.0}


def test_what_proxies_stand_for():
    stands = {p.symbol: p.sector or p.factor for s in load_catalogue().values() for p in s.proxies}
    assert stands == {
        "JPM": "Financials", "BAC": "Financials", "XOM": "Energy", "WMT": "Consumer Staples",
        "PG": "Consumer Staples", "JNJ": "Health Care", "MSFT": "Information Technology", "MTUM": "momentum",
        "USMV": "low_volatility", "VLUE": "value", "SIZE": "size", "QUAL": "quality",
    }  # fmt: skip
    assert {p.sector for s in load_catalogue().values() for p in s.proxies if p.sector} <= GICS


def test_shocks_are_over_the_market():
    lehman = load_catalogue()["lehman_2008"]
    # Financials: the mean of -67 and -43, over -39.9.
    assert lehman.sector_shocks() == pytest.approx({"Financials": -0.151, "Energy": 0.289, "Consumer Staples": 0.209})
    assert lehman.factor_shocks() == {}
    assert lehman.volatility_ratio() == 81 / 26
    vaccine = load_catalogue()["vaccine_2020"]
    assert vaccine.factor_shocks() == pytest.approx({"value": 0.024, "momentum": -0.041})
    assert vaccine.volatility_ratio() is None
    # A long-short portfolio has no market in it, and neither has a sector's return over the market.
    supposed = Scenario("x", "X", -0.3, factors={"size": -0.1}, sectors={"Energy": -0.2})
    assert (supposed.factor_shocks(), supposed.sector_shocks()) == ({"size": -0.1}, {"Energy": -0.2})


@pytest.mark.real_data
def test_real_closes_give_the_same_moves(real_data):
    index = pd.read_parquet(real_data / "index.parquet", columns=["symbol", "date", "close"])
    prices = pd.read_parquet(real_data / "prices.parquet", columns=["symbol", "date", "close"])
    prices = prices[prices["symbol"].isin(["BAC", "JPM", "XOM", "WMT", "PG"])]
    closes = pd.concat([index[index["symbol"] == "^GSPC"], prices]).pivot(index="date", columns="symbol")["close"]
    closes.index = pd.to_datetime(closes.index)
    macro = pd.read_parquet(real_data / "macro.parquet", columns=["series", "date", "value"])
    vix = macro[macro["series"] == "VIX_CLOSE"].set_index("date")["value"].dropna().sort_index()
    vix.index = pd.to_datetime(vix.index)
    seen = 0
    for s in load_catalogue().values():
        first, last = pd.Timestamp(s.first), pd.Timestamp(s.last)
        if not (pd.Timestamp("2004-06-01") < first and last < pd.Timestamp("2017-01-01")):
            continue
        begin = closes.index.searchsorted(first) - (s.counted_from == "previous close")
        moves = closes.loc[last] / closes.iloc[begin] - 1
        assert moves["^GSPC"] == pytest.approx(s.market, abs=0.0006), s.name
        for day, move in s.days.items():
            assert closes["^GSPC"].pct_change()[pd.Timestamp(day)] == pytest.approx(move, abs=0.0006)
        for proxy in s.proxies:
            if proxy.symbol in moves:
                # XOM of 2008 is published with its dividend.
                assert moves[proxy.symbol] == pytest.approx(proxy.move, abs=0.007), (s.name, proxy)
        if s.vix_from:
            levels = vix[closes.index[begin] : last]
            assert (levels.iloc[0], levels.max()) == pytest.approx((s.vix_from, s.vix_to), abs=0.5), s.name
        seen += 1
    assert seen == 7


def test_an_installed_package_has_the_file(repository):
    built = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["market"]
    assert any(fnmatch.fnmatch(BUILT_IN.name, pattern) for pattern in built)


# --- a user's own file ---------------------------------------------------------------------------------------

ENTRY = {"title": "Oil at 20", "market": -0.1, "source": "supposed"}


def _file(tmp_path, entry=None, **sections):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"scenarios": {"oil": {**ENTRY, **(entry or {})}}, **sections}, sort_keys=False))
    return path


def test_a_scenario_is_one_more_entry(tmp_path):
    path = _file(tmp_path, {"proxies": {"XOM": -0.4, "GLD": 0.1}, "crowd": 0}, factor_proxies={"GLD": "gold"})
    catalogue = load_catalogue(path)
    assert list(catalogue)[:-1] == list(KNOWN)
    oil = catalogue["oil"]
    assert oil == Scenario(
        "oil", "Oil at 20", -0.1, crowd=0, source="supposed",
        proxies=(Proxy("XOM", -0.4, sector="Energy"), Proxy("GLD", 0.1, factor="gold")),
    )  # fmt: skip
    assert oil.sector_shocks() == pytest.approx({"Energy": -0.3})
    assert oil.factor_shocks() == pytest.approx({"gold": 0.2})
    with pytest.raises(AttributeError):
        oil.market = 0.0


def test_files_follow_each_other(tmp_path):
    first = _file(tmp_path, {"proxies": {"GLD": 0.1}}, sector_proxies={"GLD": "Materials"})
    second = tmp_path / "second.yaml"
    second.write_text(yaml.safe_dump({"scenarios": {"gold": {**ENTRY, "proxies": {"GLD": 0.2}}}}))
    assert load_catalogue(first, second)["gold"].sector_shocks() == pytest.approx({"Materials": 0.3})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"market": -10.0}, r"scenarios\.oil\.market = -10\.0: .*write returns as fractions"),
        ({"market": float("nan")}, r"scenarios\.oil\.market = nan: .*write returns as fractions"),
        ({"market": "low"}, r"scenarios\.oil\.market = 'low': Input should be a valid number"),
        ({"title": ""}, r"scenarios\.oil\.title = '': String should have at least 1 character"),
        ({"marked": 1.0}, r"scenarios\.oil\.marked: unknown parameter; known here: title, market, first"),
        ({"proxies": {"XOM": -40.0}}, r"scenarios\.oil\.proxies\.XOM = -40\.0: .*fractions"),
        ({"proxies": {"GME": -0.4}}, r"scenarios\.oil\.proxies\.GME: stands for nothing: add it to sector_proxies"),
        ({"crowd": -1.0}, r"scenarios\.oil\.crowd = -1\.0: .*greater than or equal to 0"),
        ({"first": "2020-02-30"}, r"scenarios\.oil\.first = '2020-02-30': .*YYYY-MM-DD"),
        ({"first": "2020-02-03"}, r"scenarios\.oil: first 2020-02-03, last None: give both days or neither"),
        ({"first": "2020-02-03", "last": "2020-02-02"}, r"scenarios\.oil: .* give a later last day"),
        ({"first": "2020-02-03", "last": "2020-02-03"}, r"scenarios\.oil: .* `counted_from: previous close`"),
        ({"counted_from": "open"}, r"scenarios\.oil\.counted_from = 'open': .*'close' or 'previous close'"),
        (
            {"first": "2020-02-03", "last": "2020-02-05", "days": {"2020-02-06": 0.1}},
            r"scenarios\.oil\.days\.2020-02-06: outside of 2020-02-03 to 2020-02-05: widen the window",
        ),
        ({"days": {"2020-02-06": 0.1}}, r"scenarios\.oil\.days: there is no window: give first and last too"),
        ({"vix_from": 10.0}, r"scenarios\.oil: vix_from 10\.0, vix_to None: give two positive levels or neither"),
        (
            {"factors": {"value": 0.1}, "proxies": {"VLUE": 0.1}},
            r"scenarios\.oil\.factors\.value: proxy VLUE stands for it too: keep one of them",
        ),
        (
            {"sectors": {"Energy": 0.1}, "proxies": {"XOM": 0.1}},
            r"scenarios\.oil\.sectors\.Energy: proxy XOM stands for it too: keep one of them",
        ),
        ({"recalled": ["factors.size"]}, r"scenarios\.oil\.recalled: factors\.size is no number of .* are market"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, entry, message):
    path = _file(tmp_path, entry)
    with pytest.raises(ConfigError, match=rf"own\.yaml: {message}"):
        load_catalogue(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scenarios: {}", "scenarios: need a mapping of at least one name"),
        ("sector_proxies: {A: Energy}", "scenarios: need a mapping of at least one name"),
        (
            "scenarios: {a: {title: A, market: 0.1, source: s}}\nproxies: {}",
            "proxies: unknown section; known here: sce",
        ),
        ("scenarios: {1987: {title: A, market: 0.1, source: s}}", r"scenarios\.1987: name it in lower case"),
        ("scenarios: {covid_2020: {}}", r"scenarios\.covid_2020: there is a scenario of that name already"),
        ("scenarios: {a: -0.1}", r"scenarios\.a: need a mapping with at least title, market and source"),
        ("scenarios: {a: {title: A, market: 0.1, source: s, 2: 3}}", r"scenarios\.a\.2 = "),
        (
            "scenarios: {a: {title: A, market: 0.1, source: s, proxies: {ON: 0.1}}}",
            r"scenarios\.a\.proxies.* = True: .*valid string",
        ),
        ("scenarios: {a: {title: A, source: s}}", r"scenarios\.a\.market"),
        (
            "scenarios: {a: {title: A, market: 0.1, source: s}}\nfactor_proxies: {XOM: oil}",
            r"factor_proxies\.XOM: stands for sector Energy already: leave it out",
        ),
        ("scenarios: {a: {title: A, title: B, market: 0.1, source: s}}", "'title' is written twice"),
        ("scenarios: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("- a", "must hold a mapping"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, message):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"own\.yaml.*{message}"):
        load_catalogue(path)


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml is no file: give a YAML file in the form of .*stress\.yaml"):
        load_catalogue(tmp_path / "nowhere.yaml")
    other = tmp_path / "latin.yaml"
    other.write_bytes("title: Börse".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml is no UTF-8 text: save it as UTF-8"):
        load_catalogue(other)


def test_a_scenario_made_in_code_is_checked_too():
    with pytest.raises(ConfigError, match="x: a move is not a finite number"):
        Scenario("x", "X", -0.1, sectors={"Energy": np.inf})
    with pytest.raises(ConfigError, match=r"x\.proxies\.A: let it stand for one sector or for one factor"):
        Scenario("x", "X", -0.1, proxies=(Proxy("A", 0.1),))
    with pytest.raises(ConfigError, match="give two positive levels"):
        Scenario("x", "X", -0.1, vix_from=0.0, vix_to=20.0)
    before, first, last = (datetime.date(2020, 1, day) for day in (1, 2, 5))
    with pytest.raises(ConfigError, match="outside of"):
        Scenario("x", "X", -0.1, first=first, last=last, days={before: 0.1})
