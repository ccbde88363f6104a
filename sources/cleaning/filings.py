"""Financial statements: zeros that mean nothing, other companies' figures, typing errors.

A filing is judged against the same symbol's filings of the same source that were already known,
as they stood then. What was wrong is dropped or made unknown; nothing is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import DataError
from sources.calendar import session_of_date
from sources.cleaning.findings import Findings
from sources.cleaning.past import Mask, Past, Values, median_of_known
from sources.columns import DATE
from sources.schemas import FUNDAMENTAL_EXTRAS, FUNDAMENTAL_VALUES

PREVIOUS = 4
"""Earlier filings that a filing is compared with: a year of quarters."""
HISTORY_DAYS = 1100
"""Calendar days within which an earlier filing counts: three annual ones and a late fourth."""
LOOKBACK = 770
"""Sessions that cover `HISTORY_DAYS`."""

LEAST_DELAY_DAYS = 7
"""Days after the end of its period before which no filing is known: the fastest companies take two to three weeks."""
MIN_DATED = 20
"""Rows of a source from which on most of them being too early is no accident."""

MIN_PREVIOUS = 2
# A subsidiary or a namesake is another size altogether; mergers within a quarter stay below this.
ENTITY_RATIO = 8.0
# Seasonal and cyclical swings of quarterly revenue stay below; digits lost or added do not.
REVENUE_RATIO = 5.0
# Split-adjusted share counts move by issues and buybacks; more in one quarter is an error or a merger.
SHARES_RATIO = 1.5

ZERO_MEANS_MISSING: Mapping[str, tuple[str, ...]] = {
    "stockpup": ("goodwill_intangibles", "long_term_debt", "preferred_equity", "noncontrolling_interest"),
    # Banks report neither; no company's operating income is nothing to the dollar.
    "kaggle_nyse": ("operating_income", "current_assets", "current_liabilities"),
    "pystock": ("operating_income",),
}
"""Columns in which a source writes 0 for what the company did not report."""

KEY = ["symbol", "source", "period_end", "fiscal_period", "amended"]
COLUMNS = ("session", *KEY, "income_months", "cashflow_months", *FUNDAMENTAL_VALUES, "shares")


def clean_filings(frame: pd.DataFrame, first: np.datetime64, last: np.datetime64) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Clean normalised fundamentals.

    Parameters
    ----------
    frame
        Normalised fundamentals.
    first, last
        Sessions whose filings are wanted; what became known before only serves as the past.

    Returns
    -------
    DataFrame
        The columns `COLUMNS` and the `FUNDAMENTAL_EXTRAS` that the source has, by session and key. `shares` are
        outstanding shares on the split basis of the prices, NaN where unknown; per-share items stay as reported.
    DataFrame
        Findings of the wanted rows.

    Raises
    ------
    DataError
        Most filings of a source are known before any company has filed.
    """
    frame = frame.assign(
        session=session_of_date(frame["available_date"]).astype(DATE),
        shares=(frame["shares_outstanding"] * frame["split_factor_2017"]).where(lambda shares: shares > 0),
    )
    # Known order: by availability within a symbol and source; ties in the order of the table.
    frame = frame[frame["session"] <= last].sort_values(
        ["symbol", "source", "available_date"], kind="stable", ignore_index=True
    )
    wanted = (frame["session"] >= first).to_numpy()
    findings = Findings("fundamentals", frame["symbol"])

    source, period = frame["source"].to_numpy(), frame["fiscal_period"].to_numpy()
    end = frame["period_end"].to_numpy().astype("datetime64[D]")

    def words(row: int, column: str | None = None) -> str:
        at = f"{source[row]} {period[row]} {end[row]}"
        return at if column is None else f"{at} {column} {values[column][row]:.6g}"

    def file(rule: str, action: str, hit: Mask, column: str | None = None) -> None:
        findings.add(rule, action, hit & wanted, lambda row: words(row, column))

    extras = [name for name in FUNDAMENTAL_EXTRAS if name in frame]
    values = {name: frame[name].to_numpy(np.float64).copy() for name in (*FUNDAMENTAL_VALUES, "shares", *extras)}
    delay = (frame["available_date"] - frame["period_end"]).dt.days.to_numpy()
    _refuse_early(source, delay, words)
    file("period_after_available", "row dropped", delay <= 0)
    file("known_too_early", "row dropped", (delay > 0) & (delay < LEAST_DELAY_DAYS))
    impossible = delay < LEAST_DELAY_DAYS
    repeated = (frame.duplicated([*KEY, "session"], keep="last")).to_numpy() & ~impossible
    file("repeated_in_one_session", "last row kept", repeated)
    for writer, columns in ZERO_MEANS_MISSING.items():
        for name in columns:
            zero = (source == writer) & (values[name] == 0)
            file(f"{name}_zero", "field unknown", zero, name)
            values[name][zero] = np.nan

    history = _History(frame)
    months = frame["income_months"].to_numpy(np.float64)
    monthly = values["revenue"] / np.where(months > 0, months, np.nan)
    foreign = _foreign(values["assets"], monthly, history) & ~impossible & ~repeated
    file("other_entity", "row dropped", foreign, "assets")
    jumps = {
        "revenue": history.new_level(monthly, REVENUE_RATIO),
        "shares": history.new_level(values["shares"], SHARES_RATIO),
    }
    keep = ~impossible & ~repeated & ~foreign
    for name, hit in jumps.items():
        file(f"{name}_jump", "field unknown", hit & keep, name)
        values[name][hit] = np.nan

    out = frame[["session", *KEY, "income_months", "cashflow_months"]].assign(**values)[[*COLUMNS, *extras]]
    return out[keep & wanted].sort_values(["session", *KEY], kind="stable", ignore_index=True), findings.frame()


def _refuse_early(source: NDArray[np.object_], delay: NDArray[np.integer], words: Callable[[int], str]) -> None:
    """Refuse a source most of whose filings are known before any company has filed: its dates mean something else."""
    for name, rows in pd.Series(delay < LEAST_DELAY_DAYS).groupby(source):
        if len(rows) >= MIN_DATED and rows.mean() > 0.5:
            first = int(rows.index[rows.to_numpy()][0])
            raise DataError(
                f"fundamentals: {int(rows.sum()):,} of {len(rows):,} rows of source {name!r} have an available_date "
                f"fewer than {LEAST_DELAY_DAYS} days after their period_end (first {words(first)}, "
                f"{delay[first]} days), before any company has filed: give the day on which each filing became known, "
                "or the period's end plus a safe delay (45 days for quarters, 90 for years)"
            )


class _History:
    """The earlier filings of each filing's symbol and source, rows in known order."""

    def __init__(self, frame: pd.DataFrame) -> None:
        group = np.asarray(frame.groupby(["symbol", "source"], sort=False).ngroup(), dtype=np.int64)
        day = frame["available_date"].to_numpy().astype("datetime64[D]").astype(np.int64)
        self._rows = np.arange(len(frame))
        self._past = Past(group, day, HISTORY_DAYS)

    def usual(self, values: Values) -> Values:
        """Median of the last earlier filings; NaN with fewer than `MIN_PREVIOUS`."""
        return median_of_known(self._past.window(self._rows, values, PREVIOUS, HISTORY_DAYS), MIN_PREVIOUS)

    def new_level(self, values: Values, ratio: float) -> Mask:
        """First filing at another level: off the usual one, and off the one just before.

        A typing error is caught and the return from it is not; a lasting change loses one filing.
        """
        return _apart(values, self.usual(values), ratio) & _apart(values, self._past.shifted(values, 1), ratio)


def _foreign(assets: Values, revenue: Values, history: _History) -> Mask:
    """Filings whose assets (revenue where those are unknown) are of another size than the usual."""
    usual = history.usual(assets)
    by_revenue = _apart(revenue, history.usual(revenue), ENTITY_RATIO)
    return np.where(np.isfinite(assets) & np.isfinite(usual), _apart(assets, usual, ENTITY_RATIO), by_revenue)


def _apart(values: Values, other: Values, ratio: float) -> Mask:
    """Whether two known values differ by more than a factor; only a positive level can be judged against."""
    with np.errstate(invalid="ignore"):
        return (other > 0) & ((values > other * ratio) | (values < other / ratio))
