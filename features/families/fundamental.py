"""Value, quality, growth and surprise from filings and earnings announcements.

Sums over the trailing twelve months come from one source each (`features.trailing`). Market value is the close
times the shares outstanding on the price's own split basis, so that a later split changes neither. Per-share
earnings are on no such basis and are never compared with a price.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from pydantic import Field

from core.params import Params
from features import kernels as k
from features.asof import age, carry, fill_forward, ratio
from features.memo import remembered
from features.panel import Array, Panel
from features.registry import Family
from features.returns import returns_over
from features.surprise import NEWS_WINDOW, SURPRISE_WINDOW, new_reports, scaled_surprises, standardised_change
from features.trailing import Trailing, quarters, trailing
from features.windows import QUARTER, least

CLOSE_AGE = 5
"""Sessions for which a close stands in for a missing one."""
WINDOW = 630
"""Sessions in which the filings behind one figure became known: ten quarters, for a sum and the one a year before."""
MAX_AGE = 270
"""Sessions for which a figure stands: an annual report and some delay."""
STATEMENT = WINDOW + MAX_AGE

SUE_CHANGES = 8
SUE_WINDOW = 850
"""Sessions for thirteen quarters' filings, the last of them late."""
SUE_AGE = 63
"""Sessions for which an earnings surprise from filings stands: one quarter."""

MIN_SIGNALS = 6
"""Signals that a score needs: two thirds of the nine."""

REACTION = 2
"""Sessions in which a price takes in an announcement: the one in which it is known, and the one before."""

REPORT_AGE = 126
"""Sessions up to which the time since a report or an announcement is counted."""


class FundamentalParams(Params):
    """Parameters of the fundamental family."""

    surprise_days: list[int] = Field(default=[20, 60], min_length=1)
    """Sessions for which an announced earnings surprise, and what the price made of it, stand."""


fundamental = Family("fundamental", FundamentalParams)

statement = partial(fundamental.feature, lookback=STATEMENT, inputs=("filings",))
priced = partial(fundamental.feature, lookback=STATEMENT, inputs=("filings", "close"))
margin = partial(fundamental.feature, lookback=STATEMENT, inputs=("filings.gross_profit",))

PIOTROSKI = "Piotroski (2000), Journal of Accounting Research 38"
RELATIVE = "; relative to the sector as Asness, Porter and Stevens (2000)"


# --- what the features share ---------------------------------------------------------------------------------


def _figures(panel: Panel) -> Trailing:
    return trailing(panel.events["filings"], WINDOW)


def _dense(panel: Panel, values: Array) -> Array:
    """A figure of every moment spread over sessions and symbols."""
    return _figures(panel).timeline.spread(values, panel.shape, MAX_AGE)


@remembered
def _shares(panel: Panel) -> Array:
    """Shares outstanding, on the split basis of prices and volume."""
    return _dense(panel, _figures(panel).now["shares"])


@remembered
def market_value(panel: Panel) -> Array:
    """Currency value of all shares, `(T, N)`: close of at most five sessions ago times shares outstanding.

    Both are on one split basis, so that their product does not know of splits.
    """
    value = fill_forward(panel["close"], CLOSE_AGE) * _shares(panel)
    return np.where(value > 0, value, np.nan)


def _yield(panel: Panel, item: str) -> Array:
    return _dense(panel, _figures(panel).now[item]) / market_value(panel)


def _to_assets(panel: Panel, numerator: Array) -> Array:
    return _dense(panel, ratio(numerator, _figures(panel).now["assets"]))


def _change(panel: Panel, numerator: str, denominator: str) -> Array:
    """Change of a ratio of two items over a year."""
    figures = _figures(panel)
    now, year_ago = (ratio(of[numerator], of[denominator]) for of in (figures.now, figures.year_ago))
    return _dense(panel, now - year_ago)


def _relative(panel: Panel, values: Array) -> Array:
    return k.demean(values, panel.universe, panel.sector)


# --- value ---------------------------------------------------------------------------------------------------


@priced("earnings_yield", units="fraction a year", sign=+1, reference="Basu (1977), Journal of Finance 32")
def earnings_yield(panel: Panel) -> Array:
    """Net income of the trailing twelve months over market value."""
    return _yield(panel, "net_income")


@priced("book_to_market", units="fraction", sign=+1, reference="Fama and French (1992), Journal of Finance 47")
def book_to_market(panel: Panel) -> Array:
    """Book equity over market value."""
    return _yield(panel, "equity")


@priced("earnings_yield_relative", units="fraction a year", sign=+1, reference="Basu (1977)" + RELATIVE)
def earnings_yield_relative(panel: Panel) -> Array:
    """Earnings yield minus the mean of the sector."""
    return _relative(panel, earnings_yield(panel))


@priced("book_to_market_relative", units="fraction", sign=+1, reference="Fama and French (1992)" + RELATIVE)
def book_to_market_relative(panel: Panel) -> Array:
    """Book equity over market value, minus the mean of the sector."""
    return _relative(panel, book_to_market(panel))


@priced(
    "sales_yield",
    units="fraction a year",
    sign=+1,
    reference="Barbee, Mukherji and Raines (1996), Financial Analysts Journal 52",
)
def sales_yield(panel: Panel) -> Array:
    """Revenue of the trailing twelve months over market value."""
    return _yield(panel, "revenue")


@priced(
    "cash_flow_yield",
    units="fraction a year",
    sign=+1,
    reference="Lakonishok, Shleifer and Vishny (1994), Journal of Finance 49",
)
def cash_flow_yield(panel: Panel) -> Array:
    """Operating cash flow of the trailing twelve months over market value."""
    return _yield(panel, "cash_flow_operating")


# --- quality -------------------------------------------------------------------------------------------------


@statement(
    "operating_profitability",
    units="fraction a year",
    sign=+1,
    reference="Ball, Gerakos, Linnainmaa and Nikolaev (2015), Journal of Financial Economics 117",
)
def operating_profitability(panel: Panel) -> Array:
    """Operating income of the trailing twelve months over assets."""
    return _to_assets(panel, _figures(panel).now["operating_income"])


@margin(
    "gross_profitability",
    units="fraction a year",
    sign=+1,
    reference="Novy-Marx (2013), Journal of Financial Economics 108",
)
def gross_profitability(panel: Panel) -> Array:
    """Gross profit of the trailing twelve months over assets."""
    return _to_assets(panel, _figures(panel).now["gross_profit"])


@statement(
    "return_on_assets",
    units="fraction a year",
    sign=+1,
    reference="Balakrishnan, Bartov and Faurel (2010), Journal of Accounting and Economics 50",
)
def return_on_assets(panel: Panel) -> Array:
    """Net income of the trailing twelve months over assets."""
    return _to_assets(panel, _figures(panel).now["net_income"])


@statement("cash_flow_to_assets", units="fraction a year", sign=+1, reference=PIOTROSKI)
def cash_flow_to_assets(panel: Panel) -> Array:
    """Operating cash flow of the trailing twelve months over assets."""
    return _to_assets(panel, _figures(panel).now["cash_flow_operating"])


@statement(
    "return_on_equity",
    units="fraction a year",
    sign=+1,
    reference="Hou, Xue and Zhang (2015), Review of Financial Studies 28",
)
def return_on_equity(panel: Panel) -> Array:
    """Net income of the trailing twelve months over book equity, where that is positive."""
    now = _figures(panel).now
    return _dense(panel, ratio(now["net_income"], now["equity"]))


@statement(
    "accruals",
    units="fraction a year",
    sign=-1,
    reference="Sloan (1996), The Accounting Review 71; from cash flows as Hribar and Collins (2002)",
)
def accruals(panel: Panel) -> Array:
    """Net income less operating cash flow over assets: the part of earnings that is not cash."""
    now = _figures(panel).now
    return _to_assets(panel, now["net_income"] - now["cash_flow_operating"])


@statement("leverage", units="fraction", reference="Bhandari (1988), Journal of Finance 43 (with book values)")
def leverage(panel: Panel) -> Array:
    """Assets that are not financed by equity, over assets."""
    now = _figures(panel).now
    return _to_assets(panel, now["assets"] - now["equity"])


@statement(
    "net_operating_assets",
    units="fraction",
    sign=-1,
    reference="Hirshleifer, Hou, Teoh and Zhang (2004), Journal of Accounting and Economics 38 (long-term debt only)",
)
def net_operating_assets(panel: Panel) -> Array:
    """Equity and long-term debt less cash, over the assets of a year ago: profit booked and not yet collected."""
    now, year_ago = _figures(panel).now, _figures(panel).year_ago
    return _dense(panel, ratio(now["equity"] + now["long_term_debt"] - now["cash"], year_ago["assets"]))


@statement("asset_turnover", units="1 / year", sign=+1, reference="Soliman (2008), The Accounting Review 83")
def asset_turnover(panel: Panel) -> Array:
    """Revenue of the trailing twelve months over assets."""
    return _to_assets(panel, _figures(panel).now["revenue"])


# --- growth --------------------------------------------------------------------------------------------------


@statement(
    "revenue_growth", units="fraction a year", reference="Lakonishok, Shleifer and Vishny (1994), Journal of Finance 49"
)
def revenue_growth(panel: Panel) -> Array:
    """Change of the trailing twelve months' revenue over a year."""
    figures = _figures(panel)
    return _dense(panel, ratio(figures.now["revenue"], figures.year_ago["revenue"]) - 1.0)


@statement(
    "income_growth",
    units="fraction of assets",
    sign=+1,
    reference="Balakrishnan, Bartov and Faurel (2010), Journal of Accounting and Economics 50",
)
def income_growth(panel: Panel) -> Array:
    """Change of the trailing twelve months' net income over a year, over the assets of a year ago."""
    now, year_ago = _figures(panel).now, _figures(panel).year_ago
    return _dense(panel, ratio(now["net_income"] - year_ago["net_income"], year_ago["assets"]))


@statement(
    "asset_growth", units="fraction a year", sign=-1, reference="Cooper, Gulen and Schill (2008), Journal of Finance 63"
)
def asset_growth(panel: Panel) -> Array:
    """Change of assets over a year."""
    figures = _figures(panel)
    return _dense(panel, ratio(figures.now["assets"], figures.year_ago["assets"]) - 1.0)


@statement(
    "share_issuance", units="log a year", sign=-1, reference="Pontiff and Woodgate (2008), Journal of Finance 63"
)
def share_issuance(panel: Panel) -> Array:
    """Log change of the split-adjusted shares outstanding over a year."""
    figures = _figures(panel)
    grown = ratio(figures.now["shares"], figures.year_ago["shares"])
    return _dense(panel, np.log(np.where(grown > 0, grown, np.nan)))


# --- financial strength --------------------------------------------------------------------------------------


@statement("return_on_assets_change", units="fraction a year", sign=+1, reference=PIOTROSKI)
def return_on_assets_change(panel: Panel) -> Array:
    """Change of net income over assets in a year."""
    return _change(panel, "net_income", "assets")


@statement("debt_change", units="fraction of assets", sign=-1, reference=PIOTROSKI)
def debt_change(panel: Panel) -> Array:
    """Change of long-term debt over assets in a year."""
    return _change(panel, "long_term_debt", "assets")


@statement("current_ratio_change", units="1", sign=+1, reference=PIOTROSKI)
def current_ratio_change(panel: Panel) -> Array:
    """Change of current assets over current liabilities in a year."""
    return _change(panel, "current_assets", "current_liabilities")


@margin("gross_margin_change", units="fraction", sign=+1, reference=PIOTROSKI)
def gross_margin_change(panel: Panel) -> Array:
    """Change of gross profit over revenue in a year."""
    return _change(panel, "gross_profit", "revenue")


@statement("asset_turnover_change", units="1 / year", sign=+1, reference=PIOTROSKI)
def asset_turnover_change(panel: Panel) -> Array:
    """Change of revenue over assets in a year."""
    return _change(panel, "revenue", "assets")


@statement("f_score", units="0..9", sign=+1, reference=PIOTROSKI + " (ratios to the assets of the same date)")
def f_score(panel: Panel) -> Array:
    """Number of nine signs of financial strength; of those known, scaled to nine, where at least six are known.

    Net income and operating cash flow are positive, and the second the larger; net income over assets, the current
    ratio, the gross margin and the turnover of assets have risen in a year, long-term debt over assets has fallen,
    and no shares were issued. Without gross profit eight signs are left.
    """
    figures = _figures(panel)
    signs = _signs_of_strength(figures.now, figures.year_ago)
    known = np.isfinite(signs).sum(axis=0)
    score = np.nansum(signs, axis=0) * 9.0 / np.maximum(known, 1)
    return _dense(panel, np.where(known >= MIN_SIGNALS, score, np.nan))


def _signs_of_strength(now: Mapping[str, Array], year_ago: Mapping[str, Array]) -> Array:
    """`(9, C)`: 1.0 where a sign is there, 0.0 where it is not, NaN where it is unknown."""

    def above(first: Array, second: Array) -> Array:
        return np.where(np.isfinite(first) & np.isfinite(second), first > second, np.nan)

    def change(numerator: str, denominator: str) -> tuple[Array, Array]:
        return ratio(now[numerator], now[denominator]), ratio(year_ago[numerator], year_ago[denominator])

    income, cash_flow = now["net_income"], now["cash_flow_operating"]
    nothing = np.zeros(len(income))
    return np.stack(
        [
            above(income, nothing),
            above(cash_flow, nothing),
            above(cash_flow, income),
            above(*change("net_income", "assets")),
            above(*change("long_term_debt", "assets")[::-1]),
            above(*change("current_assets", "current_liabilities")),
            above(*change("gross_profit", "revenue")),
            above(*change("revenue", "assets")),
            1.0 - above(now["shares"], year_ago["shares"]),
        ]
    )


# --- trading -------------------------------------------------------------------------------------------------


@fundamental.feature(
    "share_turnover",
    lookback=STATEMENT,
    inputs=("filings", "volume"),
    units="fraction a session",
    sign=-1,
    reference="Datar, Naik and Radcliffe (1998), Journal of Financial Markets 1",
)
def share_turnover(panel: Panel) -> Array:
    """Mean volume of the quarter over the shares outstanding."""
    return ratio(k.rolling_mean(panel["volume"], QUARTER, least(QUARTER)), _shares(panel))


# --- surprise ------------------------------------------------------------------------------------------------


@fundamental.feature(
    "sue",
    lookback=SUE_WINDOW + SUE_AGE,
    inputs=("filings",),
    units="standard deviations",
    sign=+1,
    reference="Bernard and Thomas (1989), Journal of Accounting Research 27; Foster, Olsen and Shevlin (1984)",
)
def sue(panel: Panel) -> Array:
    """Quarterly net income less that of a year ago, over the deviation of eight earlier such changes."""
    timeline, income = quarters(panel.events["filings"], "net_income", 5 + SUE_CHANGES, SUE_WINDOW)
    return timeline.spread(standardised_change(income), panel.shape, SUE_AGE)


@fundamental.feature(
    "earnings_surprise_{days}",
    over="surprise_days",
    lookback=lambda days: SURPRISE_WINDOW + days,
    inputs=("earnings",),
    units="fraction",
    sign=+1,
    reference="Livnat and Mendenhall (2006), Journal of Accounting Research 44",
)
def earnings_surprise(panel: Panel, days: int) -> Array:
    """Announced earnings per share less the estimate, over the estimate's size plus its usual miss."""
    announced, scaled = scaled_surprises(panel.events["earnings"])
    return carry(announced, scaled, panel.shape, days)


@fundamental.feature(
    "earnings_surprise_fading_{days}",
    over="surprise_days",
    lookback=lambda days: SURPRISE_WINDOW + days,
    inputs=("earnings",),
    units="fraction",
    sign=+1,
    reference="Bernard and Thomas (1989), Journal of Accounting Research 27 (drift ends after some 60 days)",
)
def earnings_surprise_fading(panel: Panel, days: int) -> Array:
    """The earnings surprise, fading to nothing in a straight line."""
    announced, scaled = scaled_surprises(panel.events["earnings"])
    fresh = 1.0 - age(announced, panel.shape, days) / days
    return carry(announced, scaled, panel.shape, days) * fresh


@fundamental.feature(
    "announcement_return_fading_{days}",
    over="surprise_days",
    lookback=lambda days: REACTION + days,
    inputs=("earnings", "close"),
    units="fraction",
    sign=+1,
    reference="Brandt, Kishore, Santa-Clara and Venkatachalam (2008), Earnings announcements are full of surprises",
)
def announcement_return_fading(panel: Panel, days: int) -> Array:
    """Return beside the sector's up to the session in which earnings became known, fading in a straight line."""
    announced = panel.events["earnings"]
    beside = k.demean(returns_over(panel, REACTION), panel.universe, panel.sector)
    moved = beside[announced.session, announced.symbol]
    announced, moved = announced.take(np.isfinite(moved)), moved[np.isfinite(moved)]
    fresh = 1.0 - age(announced, panel.shape, days) / days
    return carry(announced, moved, panel.shape, days) * fresh


# --- time and restatement ------------------------------------------------------------------------------------


@fundamental.feature(
    "days_since_report",
    lookback=NEWS_WINDOW + REPORT_AGE,
    inputs=("filings",),
    units="sessions",
    reference="Bernard and Thomas (1989), Journal of Accounting Research 27",
)
def days_since_report(panel: Panel) -> Array:
    """Sessions since a filing brought a new quarter; a second source's copy and an amendment are no news."""
    return age(new_reports(panel.events["filings"]), panel.shape, REPORT_AGE)


@fundamental.feature(
    "days_since_announcement",
    lookback=REPORT_AGE,
    inputs=("earnings",),
    units="sessions",
    reference="Frazzini and Lamont (2007), NBER working paper 13090",
)
def days_since_announcement(panel: Panel) -> Array:
    """Sessions since earnings were announced."""
    return age(panel.events["earnings"], panel.shape, REPORT_AGE)


@fundamental.feature(
    "restated",
    lookback=MAX_AGE,
    inputs=("filings",),
    units="0 or 1",
    sign=-1,
    reference="Palmrose, Richardson and Scholz (2004), Journal of Accounting and Economics 37",
)
def restated(panel: Panel) -> Array:
    """Whether an amended filing became known of late, among symbols that filed at all."""
    filings = panel.events["filings"]
    amended = filings.take(np.asarray(filings.values["amended"], dtype=bool))
    any_filing = age(filings, panel.shape, MAX_AGE)
    return np.where(np.isnan(any_filing), np.nan, np.isfinite(age(amended, panel.shape, MAX_AGE)).astype(np.float64))
