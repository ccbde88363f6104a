"""Two versions on the same days: is one better, or can they not be told apart?

What counts is the daily difference of two series on the days that both have: most of the noise of a
day is common to both and drops out. Days are told apart as the versions' own records do: `test` and
`holdout` hold the days that lie in that part for both.

References
----------
Diebold, F. X. and Mariano, R. S. (1995). Comparing predictive accuracy. Journal of Business and Economic
Statistics 13(3).
Newey, W. K. and West, K. D. (1987). A simple, positive semi-definite, heteroskedasticity and
autocorrelation consistent covariance matrix. Econometrica 55(3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from core.errors import DataError
from models.overfitting import sharpe
from models.scoring import SESSIONS_PER_YEAR, default_lags, newey_west_t
from models.stability import UNKNOWN_REGIME

Word = Literal["better", "worse", "cannot be told apart"]

LEAST_DAYS = 60
# Two sides, five percent: the bar for one planned comparison of two series.
TOLD_APART = 2.0

STACK = "stack"
_NOT_LAYERS = ("date", "holdout", "part", "regime", "net", "cost", "turnover", STACK)
_NEEDED = ("date", "part", "regime", "net", STACK)
_SUFFIXES = ("_challenger", "_champion")


@dataclass(frozen=True)
class Comparison:
    """A challenger against a champion.

    Attributes
    ----------
    word
        `better` or `worse` on all common days together, or `cannot be told apart`.
    sentence
        The verdict in plain words.
    figures
        Nested: `days`, `first`, `last`, `horizon`, `rank_ic` and `net` by part, `correlation`.
    tables
        `rank_ic`, `net` by part; `by_regime`, `by_year`; `layers`; `daily` (date, part, both rank ICs,
        both net returns).
    """

    word: Word
    sentence: str
    figures: dict[str, Any]
    tables: dict[str, pd.DataFrame]


def paired(first: ArrayLike, second: ArrayLike, horizon: int) -> tuple[float, float, int]:
    """Mean daily difference of two series of the same days, its Newey-West t, and the days behind it.

    Days on which either is NaN are left out. Series that are the same give t = 0; a difference that
    never moves has no noise to measure it by and gives an infinite t.

    Parameters
    ----------
    horizon
        Sessions that an outcome spans, for the lags.
    """
    gap = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    gap = gap[np.isfinite(gap)]
    if not len(gap):
        return float("nan"), float("nan"), 0
    mean = float(gap.mean())
    if not gap.any():
        return 0.0, 0.0, len(gap)
    if len(gap) > 1 and gap.std() < 1e-9 * abs(mean):
        return mean, float(np.copysign(np.inf, mean)), len(gap)
    return mean, newey_west_t(gap, default_lags(len(gap), horizon)), len(gap)


def stack_minus_layers(record: pd.DataFrame, layers: Sequence[str], horizon: int) -> pd.DataFrame:
    """Daily rank IC of the stack minus that of each layer: `layer, part, difference, difference_t, days`."""
    lines = []
    for name in layers:
        for part in ("test", "holdout"):
            rows = record[record["part"] == part]
            lines.append((name, part, *paired(rows[STACK], rows[name], horizon)))
    return pd.DataFrame(lines, columns=["layer", "part", "difference", "difference_t", "days"])


def daily_record(
    ranks: pd.DataFrame,
    equity: pd.DataFrame,
    dates: NDArray[np.datetime64],
    first_holdout: int,
    horizon: int,
    regimes: pd.Series,
) -> pd.DataFrame:
    """What a later version is compared with: a day's rank ICs, its book, its regime and its part.

    Parameters
    ----------
    ranks
        `date` and the rank IC of the stack and of each layer.
    equity
        `date`, `net`, and `cost` and `turnover` where they are known; its days may differ.
    dates
        `(D,)` sessions with signals, ascending.
    first_holdout
        Index into `dates` of the holdout's first session; D where there is none.
    horizon
        Sessions that an outcome spans: the test days end before their outcomes reach the holdout.
    regimes
        Regime by date.

    Returns
    -------
    DataFrame
        `date, holdout, part` (test, between, holdout), `regime`, the rank ICs, the money; NaN where a
        day has none.
    """
    money = equity[["date", *(name for name in ("net", "cost", "turnover") if name in equity)]]
    record = ranks.drop(columns="holdout", errors="ignore").merge(money, on="date", how="outer")
    record = record.sort_values("date", ignore_index=True)
    at = np.searchsorted(dates, record["date"].to_numpy("datetime64[D]"))
    held = at >= first_holdout if first_holdout < len(dates) else np.zeros(len(record), dtype=bool)
    part = np.select([held, at + horizon + 1 <= first_holdout], ["holdout", "test"], "between")
    record.insert(1, "holdout", held)
    record.insert(2, "part", part)
    record.insert(3, "regime", regimes.reindex(record["date"]).fillna(UNKNOWN_REGIME).to_numpy())
    return record


def compare(challenger: pd.DataFrame, champion: pd.DataFrame, horizon: int) -> Comparison:
    """Set two versions' daily records against each other on the days that both have.

    Parameters
    ----------
    challenger, champion
        One row a day: `date`, `part` (test, holdout, or another word for the days between), `regime`,
        `stack` (daily rank IC, NaN where there is none), `net` (return of the book after costs, a
        fraction of the capital); a rank IC a layer, `turnover` and `cost` where they are known.
    horizon
        Sessions that an outcome of either version spans.

    Raises
    ------
    DataError
        A column is missing, a day repeats, or fewer than 60 days with a rank IC are common to both.
    """
    for name, frame in (("challenger", challenger), ("champion", champion)):
        _check(name, frame)
    both = challenger.merge(champion, on="date", suffixes=_SUFFIXES).sort_values("date", ignore_index=True)
    told = both[[f"{STACK}{suffix}" for suffix in _SUFFIXES]].notna().all(axis=1)
    if told.sum() < LEAST_DAYS:
        raise DataError(
            f"compare: {told.sum()} days with a rank IC in common ({_span(challenger)} against {_span(champion)}), "
            f"{LEAST_DAYS} are needed: train one of them on data that reach over the other's days"
        )
    parts = _parts(both)
    ranks = pd.DataFrame([_rank_line("part", name, both[mask], horizon) for name, mask in parts.items()])
    money = pd.DataFrame([_money_line(name, both[mask]) for name, mask in parts.items()])
    regime, year = both["regime_champion"], both["date"].dt.year
    tables = {
        "rank_ic": ranks,
        "net": money,
        "by_regime": _by("regime", both, regime, horizon),
        "by_year": _by("year", both, year, horizon),
        "layers": _layers(challenger, champion, both.loc[told, "date"]),
        "daily": _daily(both, parts),
    }
    figures = {
        "days": int(told.sum()),
        "first": both.loc[told, "date"].min(),
        "last": both.loc[told, "date"].max(),
        "horizon": horizon,
        "rank_ic": _by_part(ranks),
        "net": _by_part(money),
        "correlation": ranks.set_index("part").loc["all", "correlation"],
    }
    word, sentence = _verdict(figures)
    return Comparison(word, sentence, figures, tables)


def _check(name: str, frame: pd.DataFrame) -> None:
    missing = [column for column in _NEEDED if column not in frame.columns]
    if missing:
        raise DataError(
            f"compare: the daily record of the {name} lacks the column {missing[0]!r}: run the stage evaluate and "
            "`signals register` again"
        )
    if frame["date"].duplicated().any():
        day = frame.loc[frame["date"].duplicated(), "date"].iloc[0]
        raise DataError(f"compare: the daily record of the {name} holds {day:%Y-%m-%d} twice: register it again")


def _span(frame: pd.DataFrame) -> str:
    days = frame.loc[frame[STACK].notna(), "date"]
    return f"{days.min():%Y-%m-%d} to {days.max():%Y-%m-%d}" if len(days) else "no day"


def _parts(both: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Rows of each part; a day that is test for one and holdout for the other counts in `all` alone."""
    parts = {
        name: ((both["part_challenger"] == name) & (both["part_champion"] == name)).to_numpy()
        for name in ("test", "holdout")
    }
    return {**parts, "all": np.ones(len(both), dtype=bool)}


def _rank_line(key: str, label: Any, rows: pd.DataFrame, horizon: int) -> dict[str, Any]:
    pair = rows[[f"{STACK}{suffix}" for suffix in _SUFFIXES]].dropna()
    first, second = (pair[column] for column in pair.columns)
    difference, t, days = paired(first, second, horizon)
    means = [float(column.mean()) if days else float("nan") for column in (first, second)]
    return {
        key: label,
        "days": days,
        "challenger": means[0],
        "champion": means[1],
        "difference": difference,
        "t": t,
        "correlation": _correlation(first, second),
    }


def _money_line(part: str, rows: pd.DataFrame) -> dict[str, Any]:
    pair = rows[["net_challenger", "net_champion"]].dropna()
    first, second = pair["net_challenger"], pair["net_champion"]
    # Daily returns of a book do not overlap, so the lags are those of a plain daily series.
    difference, t, days = paired(first, second, 1)
    line = {
        "part": part,
        "days": days,
        "challenger_sharpe": sharpe(first) * np.sqrt(SESSIONS_PER_YEAR),
        "champion_sharpe": sharpe(second) * np.sqrt(SESSIONS_PER_YEAR),
        "difference_a_year": difference * SESSIONS_PER_YEAR,
        "t": t,
        "correlation": _correlation(first, second),
    }
    for name in ("turnover", "cost"):
        for who, suffix in zip(("challenger", "champion"), _SUFFIXES, strict=True):
            if f"{name}{suffix}" in rows:
                line[f"{who}_{name}"] = float(rows[f"{name}{suffix}"].mean())
    return line


def _correlation(first: pd.Series, second: pd.Series) -> float:
    if len(first) < 3 or not (first.std() > 0 and second.std() > 0):
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def _by(key: str, both: pd.DataFrame, labels: pd.Series, horizon: int) -> pd.DataFrame:
    lines = [_rank_line(key, label, rows, horizon) for label, rows in both.groupby(labels)]
    columns = [key, "days", "challenger", "champion", "difference", "t", "correlation"]
    return pd.DataFrame([line for line in lines if line["days"]], columns=columns)


def _layers(challenger: pd.DataFrame, champion: pd.DataFrame, days: pd.Series) -> pd.DataFrame:
    """Mean rank IC of the stack and of each layer of either version, on the common days."""
    found = {}
    for who, frame in (("challenger", challenger), ("champion", champion)):
        rows = frame[frame["date"].isin(days)]
        names = [STACK, *sorted(str(name) for name in frame.columns if name not in _NOT_LAYERS)]
        found[who] = {name: float(rows[name].mean()) for name in names}
    order = [STACK, *sorted((set(found["challenger"]) | set(found["champion"])) - {STACK})]
    nothing = float("nan")
    return pd.DataFrame(
        [{"layer": name, **{who: means.get(name, nothing) for who, means in found.items()}} for name in order]
    )


def _daily(both: pd.DataFrame, parts: Mapping[str, NDArray[np.bool_]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "date": both["date"],
            "part": np.select([parts["test"], parts["holdout"]], ["test", "holdout"], "between"),
            "challenger": both["stack_challenger"],
            "champion": both["stack_champion"],
            "net_challenger": both["net_challenger"],
            "net_champion": both["net_champion"],
        }
    )


def _by_part(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    rows = table.to_dict("records")
    return {str(row["part"]): {str(name): value for name, value in row.items() if name != "part"} for row in rows}


def _verdict(figures: Mapping[str, Any]) -> tuple[Word, str]:
    """Better only where all common days say so and the holdout does not say the opposite; worse where they say so."""
    whole, held, net = figures["rank_ic"]["all"], figures["rank_ic"]["holdout"], figures["net"]["all"]
    gap, t, days = whole["difference"], whole["t"], whole["days"]
    told = f"daily rank IC {gap:+.4f} (t = {t:.1f}) on {days:,} common days"
    if gap == 0.0 and t == 0.0:
        return "cannot be told apart", f"The two cannot be told apart: the rank IC is the same on all {days:,} days."
    if not abs(t) >= TOLD_APART:
        return "cannot be told apart", f"The two cannot be told apart: {told}, and |t| = {TOLD_APART:.0f} is the bar."
    sign = np.sign(gap)
    word: Word = "better" if sign > 0 else "worse"
    # The other way round it stays worse: a doubt must never make a challenger look better.
    if word == "better" and held["days"] and held["difference"] < 0:
        text = f"in the holdout the difference is {held['difference']:+.4f} (t = {held['t']:.1f})"
        return "cannot be told apart", f"The two cannot be told apart: {told}, but {text}, of the opposite sign."
    paid = f"net of costs {net['difference_a_year']:+.1%} a year (t = {net['t']:.1f})"
    if not net["days"] or not np.isfinite(net["difference_a_year"]):
        tail = " What either earns after costs is not known on common days."
    elif net["difference_a_year"] * sign < 0:
        tail = f" It does not show in money: {paid}."
    elif not abs(net["t"]) >= TOLD_APART:
        tail = f" In money it is not proven: {paid}."
    else:
        tail = f" In money too: {paid}."
    if not held["days"]:
        tail += " They have no holdout day in common."
    elif held["difference"] * sign < 0:
        tail += f" In the holdout alone it is the other way round: {held['difference']:+.4f} (t = {held['t']:.1f})."
    elif not abs(held["t"]) >= TOLD_APART:
        tail += f" The holdout alone is too short to tell: {held['difference']:+.4f} (t = {held['t']:.1f})."
    return word, f"The challenger is {word} at ranking stocks: {told}.{tail}"
