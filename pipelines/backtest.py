"""Stage `backtest`: walk the book over the out-of-fold signals, and hold it against others -> artifacts/backtest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import ConfigError
from core.files import atomic_directory, read_json, read_parquet, write_json, write_parquet
from features.panel import Panel, pivot
from features.returns import market_return
from models.overfitting import moments, psr
from models.regimes import RegimeRule
from models.stress import walk_forward_stress
from pipelines.books import book_inputs, read_features, wanted_features
from pipelines.layout import BACKTEST, CLEAN, FEATURES, STACK
from pipelines.own_signals import read_own
from pipelines.panels import load_panel
from pipelines.stage import Settings, run_stage
from pipelines.tables import read_securities
from portfolio.backtest import backtest
from portfolio.book_figures import book_figures, positions
from portfolio.book_rule import BookRule
from portfolio.capacity import capacity_curve, compare, ways
from portfolio.performance import summarise
from portfolio.pod_walk import PodWalk, walk_pods
from portfolio.portfolio_rule import BOOK, PODS, RANK, CompareRule
from portfolio.sessions import Market, Signals
from portfolio.targets import check_targets
from portfolio.walk import Walk, walk

Array = NDArray[np.float64]

STACK_POD = "stack"
_FOLD_COLUMNS = ["date", "symbol", "fold", "signal", "expected_return", "p_wrong"]


def main(settings: Settings) -> None:
    """Walk the book over every session that was predicted out of fold, and what it is held against."""
    rule = settings.portfolio
    panel = load_panel(CLEAN, settings.universe)
    columns = read_json(STACK / "meta.json")["columns"]
    rows = read_parquet(STACK / "oof.parquet", columns=[*_FOLD_COLUMNS, *columns.values()])
    starts = fold_starts(rows, panel)
    book = rule.book_for(settings.target.horizon)
    market, signals = _inputs(settings, panel, rows, starts, book)
    found = walk(market, signals, book, start=starts[0])
    if (unknown := int(np.isnan(signals.p_stress[starts[0] :]).sum())) > 0:
        print(f"backtest: the probability of stress is not known on {unknown} session(s): the book is defensive there")
    pods = None if rule.pods is None else _pods(settings, panel, rows, columns, market, book)
    # The stack's pod by itself is the rank portfolio.
    score = pivot(rows, "signal", panel.dates, panel.symbols)
    rank = backtest(score, market, rule.rank, book).daily if pods is None else pods.alone[STACK_POD]
    books = {BOOK: found.daily, RANK: rank}
    tables = {
        "daily": found.daily,
        "limits": found.limits,
        "positions": positions(found),
        "rank": rank,
        "capacity": capacity_curve(found, book, rule.compare.capitals or [book.construction.capital]),
        "compared": _compared(market, signals, book, rule.compare, starts[0]),
    }
    summary = book_figures(found) | {"rank": summarise(rank)}
    if pods is not None:
        books |= {PODS: pods.daily, **pods.alone}
        tables |= {"pods": pods.daily, "pod_reviews": pods.reviews}
        summary["pods"] = pods.figures
    tables["targets"] = check_targets(books, rule.targets.strategies)
    if pods is not None:
        alike = check_targets(pods.alone, {}, rule.targets.correlation)
        tables["targets"] = pd.concat([tables["targets"], alike], ignore_index=True)
    with atomic_directory(BACKTEST) as folder:
        for name, table in tables.items():
            write_parquet(folder / f"{name}.parquet", table)
        write_json(folder / "summary.json", summary)
    _say(found, rank, tables["targets"])


def fold_starts(rows: pd.DataFrame, panel: Panel) -> list[int]:
    """First session of each fold's predictions, by its place in the panel."""
    first = np.sort(rows.groupby("fold")["date"].min().to_numpy("datetime64[D]"))
    return [int(place) for place in panel.dates.searchsorted(first)]


def _inputs(
    settings: Settings, panel: Panel, rows: pd.DataFrame, starts: list[int], book: BookRule
) -> tuple[Market, Signals]:
    p_stress = walk_forward_stress(market_return(panel), starts, settings.stack.regimes or RegimeRule())
    features = read_features(FEATURES, panel, settings.features, wanted_features(book))
    securities, horizon = read_securities(CLEAN), settings.target.horizon
    return book_inputs(panel, rows, p_stress, features, securities, rule=settings.portfolio, horizon=horizon)


def _compared(market: Market, signals: Signals, book: BookRule, rule: CompareRule, start: int) -> pd.DataFrame:
    """Other frequencies and schemes over the last sessions; no row where nothing is compared."""
    begin = max(start, len(market.dates) - rule.sessions)
    rules = ways(book, rule.rebalance_sessions, rule.schemes) if rule.sessions else {}
    return compare(market, signals, rules, start=begin)


def _pods(
    settings: Settings, panel: Panel, rows: pd.DataFrame, columns: Mapping[str, str], market: Market, book: BookRule
) -> PodWalk:
    rule = settings.portfolio.pods
    assert rule is not None
    columns = dict(sorted(columns.items())) | {STACK_POD: "signal"}
    if taken := sorted(columns.keys() & rule.own.keys()):
        raise ConfigError(f"portfolio.pods.own: {taken[0]} is the name of a layer or the stack: choose another one")
    told = {name: pivot(rows, column, panel.dates, panel.symbols) for name, column in columns.items()}
    told |= {name: read_own(settings.root, name, own, panel) for name, own in sorted(rule.own.items())}
    return walk_pods(told, market, settings.portfolio.rank, book, rule, _probabilistic_sharpe)


def _probabilistic_sharpe(net: Array) -> float:
    ratio, skewness, kurtosis, periods = moments(net)
    return psr(ratio, periods, skewness, kurtosis)


def _say(found: Walk, rank: pd.DataFrame, targets: pd.DataFrame) -> None:
    summary = found.summary
    print(
        f"backtest: net Sharpe {summary['net_sharpe']:.2f} (rank portfolio {summarise(rank)['net_sharpe']:.2f}), "
        f"worst drawdown {summary['max_drawdown']:.1%}, costs {summary['cost_annual']:.2%} a year"
    )
    for line in targets[~targets["met"]].to_dict("records"):
        print(f"target not met: {line['strategy']} {line['target']} {line['value']:.3g}, asked {line['bound']:.3g}")


if __name__ == "__main__":
    run_stage(main)
