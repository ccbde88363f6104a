"""Models side by side: the numbers of each alone, refusals in words, and verdicts that a wrong model cannot pass."""

import numpy as np
import pytest

from portfolio.exceedances import kupiec
from portfolio.forecasts import DEFAULT, judge, tails_by_model
from portfolio.value_at_risk.base import MODELS, value_at_risk

RETURNS = np.random.default_rng(3).normal(0, 0.01, 900)


def test_every_model_is_asked_the_default_first():
    table = tails_by_model(RETURNS[:500], [0.95, 0.99])
    assert table["model"].drop_duplicates().tolist() == [DEFAULT, *(m for m in MODELS.names() if m != DEFAULT)]
    assert (table["why"] == "").all()
    for line in table[table["model"] != "filtered_garch"].itertuples():
        assert (line.var, line.es) == value_at_risk(RETURNS[:500], line.level, line.model)
    assert table.loc[table["level"] == 0.99, "var"].between(0.02, 0.03).all()


def test_a_model_that_refuses_says_why():
    table = tails_by_model(RETURNS[:30], [0.95], ["historical", "student_t"]).set_index("model")
    assert table.loc["historical", "var"] > 0
    assert np.isnan(table.loc["student_t", "var"])
    assert "student_t needs 60" in table.loc["student_t", "why"]


def test_a_right_model_passes():
    found = judge(RETURNS, 0.95, "historical", 500)
    assert found.coverage.sessions == 400
    assert np.isnan(found.var[:500]).all()
    assert found.failures == ()
    hits = int((-RETURNS[500:] > found.var[500:]).sum())
    assert found.coverage.hits == hits
    assert found.coverage.unconditional == kupiec(hits, 400, 1 - 0.95)


def test_a_wrong_model_fails_by_name():
    """Losses three times as wide as the years before them."""
    found = judge(np.append(RETURNS[:500], 3 * RETURNS[500:]), 0.99, "normal", 500)
    assert any(text.startswith("Kupiec") for text in found.failures)
    assert "Basel zone red" in found.failures


@pytest.mark.parametrize(
    ("returns", "why"),
    [(RETURNS[:3], "3 sessions: 750 are needed"), (np.zeros(900), "never vary")],
)
def test_what_cannot_be_judged_is_told(returns, why):
    found = judge(returns, 0.95, DEFAULT, 500)
    assert found.coverage is None
    assert why in found.why
    assert found.failures == ()
    assert np.isnan(found.var).all()
