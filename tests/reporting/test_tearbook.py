"""The parts of a tear sheet that a walked book has, also where the book never left cash."""

import numpy as np
import pandas as pd
import pytest

from portfolio.forecasts import DEFAULT, Judged
from reporting.tearbook import BookRun
from reporting.tearsheet import Record, tear_sheet

LIMITS = ["date", "kind", "member", "bound", "price", "asked", "relaxed", "forced"]
CAPITALS = [1e6, 1e7]


def run(net, net_sharpe):
    sessions = len(net)
    dates = pd.bdate_range("2014-01-02", periods=sessions)
    traded = net != 0
    daily = pd.DataFrame(
        {
            "date": dates,
            "gross": net,
            "cost": 0.0,
            "net": net,
            "turnover": 0.1 * traded,
            "long": 0.5 * traded,
            "short": -0.5 * traded,
            "names": 40 * traded,
            "market": np.random.default_rng(1).normal(0, 0.01, sessions),
            "mode": "active",
            "mode_reason": "calm",
            "because": "",
        }
    )
    figures = {"net_return": 0.0, "cost_annual": 0.0, "impact_annual": 0.0, "largest_share": 0.0, "tradable": True}
    capacity = pd.DataFrame({"capital": CAPITALS, "net_sharpe": net_sharpe, **figures})
    said = BookRun(
        limits=pd.DataFrame(columns=LIMITS).astype({"relaxed": bool, "forced": bool}),
        capacity=capacity,
        compared=pd.DataFrame({"name": ["optimised, every 5"], "net_sharpe": net_sharpe[:1]}),
        targets=pd.DataFrame(columns=["strategy", "target", "value", "bound", "met"]),
        rank={"net_sharpe": 0.2, "days": sessions},
    )
    unknown = np.full(sessions, np.nan)
    judged = [Judged(DEFAULT, 0.95, unknown, unknown, None, why="returns never vary")]
    return tear_sheet(Record(daily=daily, judged=judged, run=said))


def test_what_a_book_that_trades_bears_is_drawn():
    page, _ = run(np.random.default_rng(0).normal(5e-4, 0.005, 400), [0.5, 0.4])
    assert "Net Sharpe ratio by capital." in page
    assert "No strategy has a target." in page


@pytest.mark.filterwarnings("error")
def test_a_book_in_cash_has_a_tear_sheet_without_what_it_cannot_have():
    page, figures = run(np.zeros(400), [np.nan, np.nan])
    assert "How much capital does it bear?" in page
    assert "Net Sharpe ratio by capital." not in page
    assert "No limit bound." in page
    assert np.isnan(figures["summary"]["net_sharpe"])
