import numpy as np
import pandas as pd
import pytest

from models.comparison import compare
from reporting.compare import comparison_page


def _record(lead, seed, layer="linear"):
    rng = np.random.default_rng(seed)
    held = np.arange(200) >= 140
    return pd.DataFrame(
        {
            "date": pd.bdate_range("2015-06-01", periods=200),
            "part": np.where(held, "holdout", "test"),
            "regime": "calm",
            "stack": lead + rng.normal(0.0, 0.02, 200),
            layer: 0.01,
            "net": rng.normal(0.0, 0.01, 200),
            "turnover": 0.1,
            "cost": 0.0001,
        }
    )


def _page(lead=0.03, notes=(), **columns):
    compared = compare(_record(lead, 1, "trees & <leaves>").assign(**columns), _record(0.0, 2), 5)
    return compared, comparison_page(compared, "version 2", "version 1", notes)


def test_page_is_whole_escaped_and_deterministic():
    compared, page = _page(notes=["judged on <other> rows"])
    assert page == _page(notes=["judged on <other> rows"])[1]
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert "trees &amp; &lt;leaves&gt;" in page
    assert "Judged on &lt;other&gt; rows." in page
    assert "Version 2 against version 1" in page
    assert "200 common days, 2015-06-01 to 2016-03-04" in page
    for heading in (
        "Which ranks stocks better?",
        "Which earns more after costs?",
        "version 2 sharpe",
        "version 1 cost",
    ):
        assert heading in page
    assert f"{compared.figures['rank_ic']['holdout']['difference']:+.4f}" in page


@pytest.mark.parametrize(
    ("lead", "colour"), [(0.03, "good"), (0.0, "warn"), (-0.03, "bad")], ids=["better", "noise", "worse"]
)
def test_the_banner_is_the_verdict(lead, colour):
    compared, page = _page(lead)
    banner = page[page.index(compared.sentence) - 60 : page.index(compared.sentence)]
    assert colour in banner


def test_a_version_without_money_is_shown_without():
    _, page = _page(net=np.nan)
    assert "not known on common days" in page
    assert page.count("<svg") == 2
