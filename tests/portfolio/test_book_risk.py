"""The risk of a book: parts that add up, figures known by hand, notes that say what is assumed."""

import dataclasses

import numpy as np
import pytest

from core.errors import DataError
from market.catalogue import Scenario, load_catalogue
from portfolio.book_risk import Holdings, book_risk
from portfolio.styles import Loadings
from portfolio.value_at_risk.base import value_at_risk

RNG = np.random.default_rng(4)
T, N = 520, 6
RETURNS = RNG.normal(0, 0.01, (T, N)) * np.arange(1, N + 1)
WEIGHTS = np.array([0.3, 0.2, 0.0, -0.1, -0.1, -0.3])


def holdings(**changes):
    told = Loadings(
        market=np.ones(N),
        styles=np.arange(N)[:, None] * 0.1,
        names=("size",),
        tilt=np.array([0.0]),
        assumed=np.zeros(N, dtype=bool),
    )
    values = {
        "date": "2016-12-30",
        "symbols": [f"S{k}" for k in range(N)],
        "sectors": ["Energy", "Energy", "Energy", "Financials", "", "Financials"],
        "weights": WEIGHTS,
        "returns": RETURNS,
        "loadings": told,
    }
    return Holdings(**{**values, **changes})


CRASH = Scenario(
    "crash", "Crash", -0.3, factors={"size": -0.1, "value": 0.2}, sectors={"Energy": 0.05, "Health Care": 1}
)
RISK = book_risk(holdings(), {"crash": CRASH, **load_catalogue()})


def test_figures_by_hand():
    figures = RISK.figures
    assert figures["gross"] == pytest.approx(1.0)
    assert figures["net"] == figures["beta"] == pytest.approx(0.0)
    assert (figures["long"], figures["short"]) == pytest.approx((0.5, -0.5))
    assert figures["names"] == 5
    assert figures["effective_names"] == pytest.approx(1 / 0.24)
    exposure = 0.1 * (WEIGHTS @ np.arange(N))
    assert RISK.exposures.set_index("factor")["exposure"].to_dict() == pytest.approx({"market": 0, "size": exposure})
    sectors = RISK.sectors.set_index("sector")
    assert sectors["net"].to_dict() == pytest.approx({"Energy": 0.5, "Financials": -0.4, "unknown": -0.1})
    assert sectors["gross"].sum() == pytest.approx(1.0)


def test_the_history_is_that_of_the_present_weights():
    assert RISK.history == pytest.approx(RETURNS[-500:] @ WEIGHTS)
    line = RISK.tails[(RISK.tails["model"] == "historical") & (RISK.tails["level"] == 0.99)].iloc[0]
    assert (line["var"], line["es"]) == value_at_risk(RISK.history, 0.99, "historical")


def test_shares_add_up_and_are_sorted():
    table = RISK.contributions
    assert len(table) == 5
    for name in ("volatility_share", "shortfall_share"):
        assert table[name].sum() == pytest.approx(1.0)
    assert table["volatility_share"].is_monotonic_decreasing
    assert table["symbol"][0] == "S5"
    assert table["weight"] @ table["marginal_volatility"] * np.sqrt(252) == pytest.approx(RISK.figures["volatility"])


def test_stress_by_hand():
    line = RISK.stress.set_index("scenario").loc["crash"]
    assert line["market"] == pytest.approx(0.0)
    assert line["factors"] == pytest.approx(-0.1 * 0.1 * (WEIGHTS @ np.arange(N)))
    assert line["sector"] == pytest.approx(0.5 * 0.05)
    assert line["total"] == pytest.approx(line[["market", "factors", "sector", "crowd", "floor"]].sum())
    assert line["unmet"] == "value, Health Care"
    assert RISK.stress["total"].is_monotonic_increasing
    assert len(RISK.stress) == 15


def test_what_is_assumed_is_told():
    young = RETURNS.copy()
    young[:-250, 0] = np.nan
    told = holdings().loadings
    assumed = dataclasses.replace(told, assumed=np.arange(N) == 0)
    notes = " ".join(book_risk(holdings(returns=young, loadings=assumed), {}).notes)
    assert "15.0% of the book's past has no return" in notes
    assert "S0: too few returns for loadings" in notes
    assert len(RISK.notes) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.zeros(N)}, "it holds nothing"),
        ({"weights": WEIGHTS * np.nan}, "not finite"),
        ({"weights": WEIGHTS[:-1]}, "give one of each a symbol"),
    ],
)
def test_no_book_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        holdings(**changes)
