"""Limits in plain words, to hold the optimiser's books against, and small markets for the book."""

import numpy as np
import pytest

from features.panel import Panel
from features.returns import market_return, returns_over
from portfolio.book_rule import BookRule
from portfolio.construction import TOLERANCE, ConstructionRule
from portfolio.costs import CostRule
from portfolio.limits import LimitRule
from portfolio.policy import StancePolicy
from portfolio.sessions import Market, Signals


@pytest.fixture(scope="session")
def excesses():
    """`excesses(weights, prospects, rule)`: rows of limits that weights pass."""
    return _excesses


def _excesses(w, book, rule, tolerance=TOLERANCE):
    """Limits that weights pass, row by row in plain words: (kind, member) -> (value, bound)."""
    limits, out = rule.limits, {}

    def at_most(kind, member, value, bound, scale=1.0):
        if bound is not None and value > bound + tolerance * max(scale, 1.0):
            out[kind, member] = (value, bound)

    at_most("gross", "gross", np.abs(w).sum(), limits.gross)
    at_most("net", "net", w.sum(), limits.net_high)
    if limits.net_low is not None:
        at_most("net", "low", -w.sum(), -limits.net_low)
    at_most("turnover", "turnover", np.abs(w - book.held).sum(), limits.turnover)
    if limits.effective_names is not None:
        at_most("concentration", "concentration", np.sqrt((w**2).sum()), limits.effective_names**-0.5)
    for kind, codes in (("sector", book.sector), ("industry", book.industry)):
        for code in set(codes) - {-1} if codes is not None else ():
            at_most(kind, str(code), abs(sum(w[i] for i in range(len(w)) if codes[i] == code)), getattr(limits, kind))
    for name, bound in limits.factors.items():
        at_most("factor", name, abs(book.factors[name] @ w), bound, np.abs(book.factors[name]).max())
    correlation = book.covariance.correlation()
    for i, name in enumerate(book.symbols):
        at_most("position", name, abs(w[i]), limits.position)
        traded = abs(w[i] - book.held[i]) * rule.capital
        at_most("participation", name, traded / book.adv[i] if traded else 0.0, limits.participation)
        if limits.correlation is not None:
            alike = [j for j in range(len(w)) if abs(correlation[i, j]) >= limits.correlation - 1e-12]
            if len(alike) > 1:
                together = abs(sum(np.sign(correlation[i, j]) * w[j] for j in alike))
                at_most("correlation", name, together, limits.correlated_weight)
    return out


@pytest.fixture(scope="session")
def check_limits():
    """`check_limits(construction, prospects, rule)`: no limit is passed that is not said to have given way."""
    return _check_limits


def _check_limits(found, book, rule):
    """The most by which a limit in force is passed, in units of weight."""
    w, held = found.weights, book.held
    assert np.isfinite(w).all()
    # Beyond the hard limits: not a trade, whatever else would need it.
    still = ~(book.tradable & (book.adv > 0) & np.isfinite(book.volatility))
    assert (w[still] == held[still]).all()
    blind = np.isnan(book.alpha)
    assert (np.minimum(held, 0) <= w)[blind].all()
    assert (w <= np.maximum(held, 0))[blind | book.no_new_longs].all()
    moves = ~still
    most = rule.limits.participation * book.adv[moves] / rule.capital
    assert (np.abs(w - held)[moves] <= most * (1 + 1e-9) + 1e-12).all()
    # The others: every row that is passed was declared relaxed, and is within what it was relaxed to.
    above = {(row.kind, row.member): row.given for row in found.relaxed if row.given > row.asked}
    below = {(row.kind, row.member): -row.given for row in found.relaxed if row.given < row.asked}
    worst = 0.0
    for (kind, member), (value, bound) in _excesses(w, book, rule, tolerance=0.0).items():
        if kind == "participation":
            continue
        if kind == "net":
            widened = [(below if member == "low" else above).get(("net", "net"))]
        elif kind == "correlation":
            # Symbols with the same row share one name.
            widened = [given for side in (above, below) for (k, _), given in side.items() if k == kind]
        else:
            widened = [side.get((kind, member)) for side in (above, below)]
        widened = [given for given in widened if given is not None]
        assert not widened or kind in rule.limits.relax
        scale = max(1.0, np.abs(book.factors.get(member, 1.0)).max())
        excess = (value - max(widened, default=bound)) / scale
        assert excess <= TOLERANCE, f"{kind} {member}: {value} passes {bound}, relaxed to {widened or 'nothing'}"
        worst = max(worst, excess)
    return worst


@pytest.fixture(scope="session")
def market_of():
    """`market_of(close, volume, **given)`: a market whose returns and index are those of `features.returns`."""
    return _market_of


def _market_of(close, volume, **given):
    """Who has a close is in the universe; keywords of `Market`, the `level_break` and `sector` among them."""
    days, names = close.shape
    fields = {name: given[name] for name in ("level_break",) if name in given}
    dates = given.pop("dates", np.datetime64("2020-01-01") + np.arange(days))
    symbols = [f"S{i}" for i in range(names)]
    panel = Panel(dates, np.array(symbols), {"close": close} | fields, np.isfinite(close), np.zeros(names, np.int64))
    given = {"returns": returns_over(panel, 1), "index_return": np.nan_to_num(market_return(panel))} | given
    return Market(dates, symbols, close, volume, **given)


@pytest.fixture(scope="session")
def world():
    """`world(days, names)`: a market and signals."""
    return _world


@pytest.fixture(scope="session")
def rule():
    """`rule(**given)`: a rule of a book."""
    return _rule


def _world(days=100, names=20, seed=0):
    """Prices with halts, a delisting and a level break, and signals that see a little of what comes."""
    rng = np.random.default_rng(seed)
    beta = rng.uniform(0.5, 1.5, names)
    moves = rng.normal(0, 0.01, (days, 1)) * beta + rng.normal(0, 0.02, (days, names))
    close = 50 * np.exp(np.cumsum(moves, axis=0))
    opens = close * np.exp(rng.normal(0, 0.005, close.shape))
    high, low = np.maximum(opens, close) * 1.004, np.minimum(opens, close) * 0.996
    volume = rng.lognormal(13, 0.5, names) * rng.uniform(0.5, 1.5, close.shape)
    breaks, delisted = np.zeros(close.shape), np.zeros(close.shape, dtype=bool)
    if days > 75:
        for panel in (close, opens, high, low):
            panel[70:, 1] /= 4
            panel[66:70, 2] = np.nan
            panel[82:, 3] = np.nan
        breaks[70, 1] = 1
        delisted[82:, 3] = True
        volume[74:76, 4] = 0
        opens[77, 5] = np.nan
    forecast = 0.02 * rng.normal(size=close.shape)
    forecast[rng.random(close.shape) < 0.05] = np.nan
    crowd = rng.random(close.shape)
    p_wrong = rng.uniform(0.05, 0.48, close.shape)
    if names > 8:
        # Held through what happens to them.
        forecast[:, 1:4], p_wrong[:, 1:4], crowd[:, 1:4] = [0.03, -0.03, 0.03], 0.05, 0.0
    forecast[82:, 3] = np.nan
    stress = np.clip(0.25 + np.cumsum(rng.normal(0, 0.04, days)), 0, 0.55)
    market = _market_of(
        close,
        volume,
        open=opens,
        high=high,
        low=low,
        level_break=breaks,
        delisted=delisted,
        sector=np.arange(names) % 3,
        industry=np.arange(names) % 5,
        factors={"market": np.tile(beta, (days, 1))},
        index_return=rng.normal(0, 0.01, days),
        index_volatility=np.full(days, 0.2),
    )
    return market, Signals(forecast, np.where(np.isfinite(forecast), p_wrong, np.nan), stress, crowd_cost=crowd)


def _rule(**given):
    """A rule with costs and limits that bind; keywords of `BookRule`, limits, costs and thresholds of the stance among
    them."""
    limits = {"position": 0.1, "net_low": -0.2, "net_high": 0.2, "sector": 0.15, "participation": 0.1}
    limits |= {"factors": {}, "effective_names": None, **given.pop("limits", {})}
    construction = ConstructionRule(
        risk_aversion=10.0,
        capital=given.pop("capital", 1e7),
        limits=LimitRule(**limits),
        costs=given.pop("costs", CostRule()),
    )
    stance = {"enter": 0.6, "leave": 0.4, "full": 1.0, "defence": "passive"} | given.pop("stance", {})
    return BookRule(construction=construction, stance=StancePolicy(**stance), **({"drawdown": None} | given))
