"""Announcements, posts, series and securities: dated to the session that may use them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sources.calendar import session_of_date, session_of_time, sessions
from sources.cleaning.findings import Findings
from sources.columns import DATE
from sources.schemas import RETWEET
from sources.sentiment import sentiment

REPEAT_SESSIONS = 21
"""Sessions within which the same text about the same symbol is a repeat."""


def clean_earnings(frame: pd.DataFrame, first: np.datetime64, last: np.datetime64) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Announcements with an actual figure: `session, symbol, announce_date, eps_estimate, eps_actual, surprise`."""
    frame = frame.assign(session=session_of_date(frame["available_date"]).astype(DATE))
    frame = frame[frame["session"].between(first, last)].reset_index(drop=True)
    findings = Findings("earnings", frame["symbol"])

    def example(row: int) -> str:
        return f"announced {frame['announce_date'].iat[row]:%Y-%m-%d}"

    silent = frame["eps_actual"].isna().to_numpy()
    findings.add("no_actual_figure", "row dropped", silent, example)
    early = (frame["announce_date"] > frame["available_date"]).to_numpy() & ~silent
    findings.add("available_before_announced", "row dropped", early, example)
    columns = ["session", "symbol", "announce_date", "eps_estimate", "eps_actual", "surprise"]
    out = frame.loc[~silent & ~early, columns]
    return out.sort_values(["session", "symbol", "announce_date"], kind="stable", ignore_index=True), findings.frame()


def clean_posts(frame: pd.DataFrame, first: np.datetime64, last: np.datetime64) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Posts with their sentiment and whether they repeat a recent text of the same symbol.

    A post belongs to the first session that closes at or after its time. `is_repeat` looks only at
    the latest earlier post with the same text (a leading `RT @user:` does not count).

    Returns
    -------
    DataFrame
        `session, symbol, created_at, user_hash, followers, is_retweet, lang, sentiment, is_repeat`, and `novelty` where
        the source has it.
    DataFrame
        Findings of the wanted rows.
    """
    frame = frame.assign(session=session_of_time(frame["created_at"]).astype(DATE))
    frame = frame[frame["session"] <= last].reset_index(drop=True)
    wanted = (frame["session"] >= first).to_numpy()
    findings = Findings("posts", frame["symbol"])
    text = frame["text"].fillna("")

    def example(row: int) -> str:
        return f"{frame['created_at'].iat[row]:%Y-%m-%d %H:%M:%S} {str(text.iat[row])[:60]!r}"

    blank = (text.str.strip() == "").to_numpy()
    findings.add("no_text", "row dropped", blank & wanted, example)
    days = frame["session"].to_numpy().astype("datetime64[D]")
    number = np.searchsorted(sessions(days.min(), days.max()), days) if len(days) else np.empty(0, np.int64)
    body = text.str.replace(RETWEET, "", regex=True)
    earlier = pd.Series(number).groupby([frame["symbol"], body], sort=False).shift(1).to_numpy(np.float64)
    repeat = (number - earlier < REPEAT_SESSIONS) & ~blank
    findings.add("repeated_text", "row marked", repeat & wanted, example)

    keep = wanted & ~blank
    columns = ["session", "symbol", "created_at", "user_hash", "followers", "is_retweet", "lang"]
    extra = [name for name in ("novelty",) if name in frame]
    out = frame[[*columns, *extra]].assign(is_repeat=repeat)[keep].reset_index(drop=True)
    out.insert(len(columns), "sentiment", sentiment(text[keep], out["created_at"]))
    return out.sort_values(["session", "symbol", "created_at"], kind="stable", ignore_index=True), findings.frame()


def clean_macro(frame: pd.DataFrame, first: np.datetime64, last: np.datetime64) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Known values only: `session, series, value`, one row a session and series.

    Of several values that became known for one session the latest observation stays.
    """
    frame = frame.assign(session=session_of_date(frame["available_date"]).astype(DATE))
    frame = frame[frame["session"].between(first, last)].reset_index(drop=True)
    findings = Findings("macro", frame["series"])

    def example(row: int) -> str:
        return f"observed {frame['date'].iat[row]:%Y-%m-%d}"

    unknown = frame["value"].isna().to_numpy()
    findings.add("no_value", "row dropped", unknown, example)
    early = (frame["date"] > frame["available_date"]).to_numpy() & ~unknown
    findings.add("available_before_observed", "row dropped", early, example)
    same = (frame["date"] == frame["available_date"]).to_numpy() & ~unknown
    findings.add("known_on_the_day_observed", "row kept", same, example)
    out = frame[~unknown & ~early].sort_values(["session", "series", "date"], kind="stable")
    out = out.drop_duplicates(["session", "series"], keep="last", ignore_index=True)
    return out[["session", "series", "value"]], findings.frame()


def clean_alternative(
    frame: pd.DataFrame, first: np.datetime64, last: np.datetime64
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Known values of the user's own series: `session, symbol, series, date, value`.

    Every revision is a row of its own; of several that became known for one session the last one stays.
    """
    frame = frame.assign(session=session_of_date(frame["available_date"]).astype(DATE))
    frame = frame[frame["session"].between(first, last)].reset_index(drop=True)
    findings = Findings("alternative", frame["series"])

    def example(row: int) -> str:
        return f"{frame['symbol'].iat[row]} of {frame['date'].iat[row]:%Y-%m-%d}"

    unknown = frame["value"].isna().to_numpy()
    findings.add("no_value", "row dropped", unknown, example)
    early = (frame["date"] > frame["available_date"]).to_numpy() & ~unknown
    findings.add("available_before_observed", "row dropped", early, example)
    same = (frame["date"] == frame["available_date"]).to_numpy() & ~unknown
    findings.add("known_on_the_day_observed", "row kept", same, example)
    key = ["session", "symbol", "series", "date"]
    out = frame[~unknown & ~early].sort_values([*key, "available_date"], kind="stable")
    out = out.drop_duplicates(key, keep="last", ignore_index=True)
    return out[[*key, "value"]], findings.frame()


def clean_securities(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Descriptions; a sector or industry that is not given is absent, whether it was empty or missing."""
    findings = Findings("securities", frame["symbol"])
    out = frame.copy()
    for name in ("sector", "industry"):
        absent = (out[name].isna() | (out[name] == "")).to_numpy()
        findings.add(f"no_{name}", "left unknown", absent, lambda row: str(out["name"].iat[row]))
        out[name] = out[name].where(~absent)
    return out.sort_values("symbol", ignore_index=True), findings.frame()
