"""When firms report: the dates of every announcement and filing, and the surprise in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sources.simulation.firms import Array, Firms
from sources.simulation.streams import stream

Dates = NDArray[np.datetime64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Reports:
    """One row per firm and fiscal quarter, ordered by period, then firm.

    Attributes
    ----------
    month, firm
        Index into `month_ends` of the world, and into the firms.
    quarter
        Fiscal quarter, 1 to 4.
    announced, post
        Day of the announcement (a session), and whether it came after the close.
    announced_at
        Index of the session at whose close the announcement may be used.
    filed
        Day of the filing (a session); the row is available from the next calendar day.
    filed_at
        Index of the session at whose close the filing may be used.
    surprise
        Standardised surprise of the announced earnings.
    noise
        `(R, 3)` standard normal draws behind the figures.
    gross_noise
        Standard normal draw behind the gross margin.
    restated
        Days after the filing at which an amended one follows; 0 for none.
    wrong_entity
        Whether the filing holds the figures of a subsidiary.
    """

    month: Index
    firm: Index
    quarter: Index
    period_end: Dates
    announced: Dates
    post: NDArray[np.bool_]
    announced_at: Index
    filed: Dates
    filed_at: Index
    surprise: Array
    noise: Array
    gross_noise: Array
    restated: Index
    wrong_entity: NDArray[np.bool_]


def month_ends(dates: Dates) -> Dates:
    """Last calendar days of the months that end within the sessions."""
    months = np.arange(dates[0].astype("datetime64[M]"), dates[-1].astype("datetime64[M]") + 1)
    ends = (months + 1).astype("datetime64[D]") - 1
    return ends[ends <= dates[-1]]


def draw_reports(firms: Firms, dates: Dates, seed: int, restated_rate: float, wrong_entity_rate: float) -> Reports:
    """Draw the reporting calendar of all firms over the sessions `dates`.

    A filing comes 25 to 60 days after its period, after the announcement. Sessions beyond the last date are
    indexed `len(dates)`.
    """
    ends = month_ends(dates)
    shape = (len(ends), len(firms.symbols))
    names = ("announce lag", "filing lag", "release", "surprise", "restated", "restated lag", "wrong entity")
    draws = {name: stream(seed, name).random(shape) for name in names if name != "surprise"}
    surprise = np.clip(stream(seed, "surprise").standard_t(5, shape) / np.sqrt(5 / 3), -3.5, 3.5)
    noise = stream(seed, "figures").standard_normal((*shape, 3))
    gross_noise = stream(seed, "gross margin").standard_normal(shape)

    calendar_month = ends.astype("datetime64[M]").astype(int) % 12 + 1
    since_year_end = (calendar_month[:, None] - firms.year_end[None, :]) % 12
    month, firm = np.nonzero(since_year_end % 3 == 0)
    at = (month, firm)
    quarter = np.where(since_year_end[at] == 0, 4, since_year_end[at] // 3)
    annual = np.where(quarter == 4, 6, 0)

    announce_lag = 18 + (draws["announce lag"][at] * 14).astype(int) + annual
    filing_lag = np.clip(announce_lag + 3 + (draws["filing lag"][at] * 14).astype(int), 26, 55)
    announced_on = np.searchsorted(dates, ends[month] + announce_lag)
    filed_on = np.searchsorted(dates, ends[month] + filing_lag)
    post = draws["release"][at] < 0.5
    restated_lag = 60 + (draws["restated lag"][at] * 60).astype(int)
    padded = np.append(dates, np.datetime64("NaT"))
    return Reports(
        month=month,
        firm=firm,
        quarter=quarter,
        period_end=ends[month],
        announced=padded[announced_on],
        post=post,
        announced_at=np.minimum(announced_on + post, len(dates)),
        filed=padded[filed_on],
        filed_at=np.minimum(filed_on + 1, len(dates)),
        surprise=surprise[at],
        noise=noise[at],
        gross_noise=gross_noise[at],
        restated=np.where(draws["restated"][at] < restated_rate, restated_lag, 0),
        wrong_entity=draws["wrong entity"][at] < wrong_entity_rate,
    )
