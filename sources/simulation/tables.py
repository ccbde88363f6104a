"""Long tables of the firms' reports, the market-wide series and the list of securities."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sources.schemas import FUNDAMENTAL_EXTRAS, FUNDAMENTAL_VALUES
from sources.simulation.accounts import Figures
from sources.simulation.firms import SECTORS, Array, Firms
from sources.simulation.reports import Dates, Reports
from sources.simulation.streams import stream

DAY = np.timedelta64(1, "D")

_USUAL_VIX = 19.0


def filing_table(
    firms: Firms, reports: Reports, figures: Figures, split: Array, final: Array, dates: Dates
) -> pd.DataFrame:
    """The `fundamentals` table: single quarters, full years with the fourth, and amended filings.

    Parameters
    ----------
    split
        `(M, N)` cumulative split factor at each month's end: shares are stated as they were then.
    final
        `(N,)` that of the session to which prices are adjusted: `shares_outstanding * split_factor_2017` is on
        their basis.
    """
    ended = np.isfinite(figures.net_income) & ~np.isnat(reports.filed)
    then = split[reports.month, reports.firm]
    quarters = _statement(firms, reports, figures, figures.net_income, then, months=3)
    years = _statement(firms, reports, figures, figures.net_income_year, then, months=12)
    for frame in (quarters, years):
        frame["split_factor_2017"] = final[reports.firm] / then
    quarters["fiscal_period"] = np.char.add("Q", reports.quarter.astype(str))
    years["fiscal_period"] = "FY"
    years = years[reports.quarter == 4]
    rows = pd.concat([quarters[ended], years[ended[reports.quarter == 4]]], ignore_index=True)
    rows = pd.concat([rows, _amended(rows)], ignore_index=True)
    wrong = rows["wrong_entity"].to_numpy() & ~rows["amended"].to_numpy()
    rows.loc[wrong, [*FUNDAMENTAL_VALUES, *FUNDAMENTAL_EXTRAS]] *= 0.03
    return _while_listed(firms, rows.drop(columns=["wrong_entity", "restated", "noise"]), "filing_date", dates)


def _statement(
    firms: Firms, reports: Reports, figures: Figures, income: Array, split: Array, months: int
) -> pd.DataFrame:
    """One statement per report; the items that nothing else depends on follow from the firm's usual ratios."""
    part, noise = months / 3.0, reports.noise
    margin, roe = firms.margin[reports.firm], firms.roe[reports.firm]
    revenue = figures.power * part / margin * np.exp(0.03 * noise[:, 1])
    assets = figures.equity * (1.0 + 0.25 / roe) * np.exp(0.02 * noise[:, 2])
    operating = income * 1.35 + 0.01 * revenue * noise[:, 2]
    cash_flow = income + revenue * (0.04 + 0.02 * noise[:, 0])
    capex = -revenue * 0.05
    gross_margin = np.clip(0.15 + 2.0 * margin + 0.02 * reports.gross_noise, 0.05, 0.95)
    dividends = figures.dividends * part
    shares = figures.shares * split
    return pd.DataFrame(
        {
            "symbol": firms.symbols[reports.firm], "period_end": reports.period_end, "filing_date": reports.filed,
            "available_date": reports.filed + DAY, "doc_type": np.where(reports.quarter == 4, "10-K", "10-Q"),
            "amended": False, "source": "simulated", "income_months": months, "cashflow_months": months,
            "wrong_entity": reports.wrong_entity, "restated": reports.restated, "noise": noise[:, 0],
            "revenue": revenue, "operating_income": operating, "net_income": income,
            "eps_basic": income / shares, "eps_diluted": income / shares * 0.985,
            "dividends_per_share": dividends / shares,
            "assets": assets, "current_assets": 0.35 * assets, "liabilities": assets - figures.equity,
            "current_liabilities": 0.2 * assets, "cash": 0.08 * assets, "equity": figures.equity,
            "long_term_debt": 0.4 * (assets - figures.equity), "goodwill_intangibles": 0.15 * assets,
            "preferred_equity": 0.0, "noncontrolling_interest": 0.0,
            "cash_flow_operating": cash_flow, "cash_flow_investing": capex * 1.2,
            "cash_flow_financing": -dividends - 0.2 * cash_flow, "capex": -capex, "shares_outstanding": shares,
            "gross_profit": revenue * gross_margin,
        }
    )  # fmt: skip


def _amended(rows: pd.DataFrame) -> pd.DataFrame:
    """The same periods as filed again weeks later, with other earnings and equity."""
    again = rows[rows["restated"] > 0].copy()
    change = 1.0 - 0.08 * np.abs(again["noise"]) - 0.02
    for name in ("net_income", "operating_income", "eps_basic", "eps_diluted"):
        again[name] *= change
    again["equity"] *= 0.5 + 0.5 * change
    later = pd.to_timedelta(again["restated"], unit="D")
    again["filing_date"] += later
    again["available_date"] += later
    again["amended"] = True
    return again


def earnings_table(firms: Firms, reports: Reports, figures: Figures, split: Array, dates: Dates) -> pd.DataFrame:
    """The `earnings` table: actual and estimated earnings per share as stated on the day, in cents."""
    shares = figures.shares * split[reports.month, reports.firm]
    actual = figures.net_income / shares
    estimate = actual - 0.08 * reports.surprise * figures.power / shares
    frame = pd.DataFrame(
        {
            "symbol": firms.symbols[reports.firm], "announce_date": reports.announced,
            "release_time": np.where(reports.post, "post", "pre"),
            "available_date": reports.announced + reports.post * DAY,
            "quarter_label": pd.DatetimeIndex(reports.period_end).strftime("%y-%b"),
            "eps_estimate": np.round(estimate, 2), "eps_actual": np.round(actual, 2),
        }
    )  # fmt: skip
    frame["surprise"] = np.round(frame["eps_actual"] - frame["eps_estimate"], 2)
    frame = frame[np.isfinite(actual) & ~np.isnat(reports.announced)]
    return _while_listed(firms, frame, "announce_date", dates)


def _while_listed(firms: Firms, frame: pd.DataFrame, day: str, dates: Dates) -> pd.DataFrame:
    """Rows of firms that are still listed on the day of the row."""
    last = pd.Series(
        np.append(dates, np.datetime64("9999-12-31"))[np.minimum(firms.delisted, len(dates))], firms.symbols
    )
    return frame[frame[day].to_numpy("datetime64[D]") <= frame["symbol"].map(last).to_numpy("datetime64[D]")]


def macro_table(market_vol: Array, dates: Dates, seed: int) -> pd.DataFrame:
    """The `macro` table: implied volatility (from the market's own), rates and spreads, oil and the dollar."""
    draws = stream(seed, "macro").standard_normal((len(dates), 4))
    others = stream(seed, "macro prices").standard_normal((len(dates), 3))
    implied = 100.0 * np.sqrt(252.0) * market_vol * 1.15 * np.exp(0.03 * draws[:, 0]) + 2.0
    series = {
        "VIX_CLOSE": (implied, 1),
        "DGS10": (_reverting(2.6, 0.05, draws[:, 1]), 2),
        "T10Y2Y": (_reverting(1.5, 0.035, draws[:, 2]), 2),
        "BAA10Y": (1.6 + 0.05 * implied + 0.03 * draws[:, 3], 2),
        # Over three months volatility is expected to be halfway back to its usual level.
        "VXVCLS": ((0.5 * implied + 0.5 * _USUAL_VIX) * np.exp(0.01 * others[:, 0]), 1),
        "DCOILWTICO": (np.exp(_reverting(np.log(65.0), 0.02, others[:, 1])), 6),
        "DTWEXB": (np.exp(_reverting(np.log(105.0), 0.003, others[:, 2])), 8),
    }
    frames = []
    for name, (values, lag) in series.items():
        available = np.busday_offset(dates, lag, roll="forward")
        frames.append(
            pd.DataFrame(
                {"series": name, "date": dates, "available_date": available, "value": np.round(values, 2),
                 "frequency": "D", "source": "simulated"}
            )
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def _reverting(mean: float, step: float, draws: NDArray) -> Array:
    out, level = np.empty(len(draws)), mean
    for t, draw in enumerate(draws):
        level += 0.003 * (mean - level) + step * draw
        out[t] = level
    return out


def securities_table(firms: Firms) -> pd.DataFrame:
    """The `securities` table."""
    sector = np.array(SECTORS)[firms.sector]
    return pd.DataFrame(
        {"symbol": firms.symbols, "name": firms.names, "exchange": firms.exchange, "sector": sector,
         "industry": firms.industry}
    )  # fmt: skip
