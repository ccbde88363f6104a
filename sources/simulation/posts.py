"""Posts about firms: when, by whom, in what mood, and in what words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sources.calendar import session_of_time
from sources.simulation.firms import Array, Firms
from sources.simulation.reports import Dates
from sources.simulation.streams import stream

_GLAD = (
    "great quarter, very happy with this one", "strong demand, love the outlook", "beautiful breakout, bullish here",
    "excellent guidance, confident holder", "winning product, impressive growth", "solid beat, good momentum",
    "nice support, feeling optimistic", "best in class, a clear winner", "amazing margins, well done",
    "upgrade coming, looks attractive", "profit keeps improving, glad I hold", "wonderful chart, strong buyers",
)  # fmt: skip
_GLUM = (
    "terrible quarter, very disappointed", "weak demand, I hate this outlook", "ugly breakdown, bearish here",
    "awful guidance, worried holder", "losing share, poor growth", "bad miss, horrible momentum",
    "no support, feeling afraid", "worst in class, a clear loser", "margins are a disaster, sad",
    "downgrade coming, looks dangerous", "losses keep growing, I regret this", "horrible chart, panic sellers",
)  # fmt: skip
_FLAT = (
    "reports next week", "volume is about average today", "watching the open", "10-Q is on the site",
    "moving with the sector", "conference call at noon", "options expire on Friday", "chart of the day",
    "near the 50 day average", "new sizes in the fund filing", "update on the daily list", "on my screen again",
)  # fmt: skip
_OTHER = ("informe trimestral la semana que viene", "rapport du jour", "Quartalszahlen am Dienstag", "見通しについて")
_SPAM = (
    "Join our FREE alerts room, huge winners every day, best profit guaranteed",
    "Amazing gains with our trading bot, win like the best, link in bio",
    "Top picks inside, great returns, love it or your money back",
)
_TAILS = ("", "", "", " today", " again", ", my view", " into the close", " this week", ", long term", " imo")
_HEADS = (
    "", "", "Morning note:", "My read:", "Desk talk:", "After the call:", "Quick take:", "Week ahead:", "The floor:",
    "Sector watch:", "Notebook:", "For the record:", "Midday look:", "One line:", "Weekend reading:", "To my list:",
)  # fmt: skip

USERS = 6000
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Posts:
    """All posts, in the order in which they were drawn: by session, then firm.

    Attributes
    ----------
    table
        Columns of the `posts` table.
    tone
        `(T, N)` shrunken mean tone of the original, genuine posts known at each session's close, about unit variance
        where people write.
    """

    table: pd.DataFrame
    tone: Array


def draw_posts(firms: Firms, dates: Dates, size: Array, seed: int, repeat_rate: float) -> Posts:
    """Draw the posts of all sessions.

    Parameters
    ----------
    size
        `(T, N)` size of the day's move in its usual volatility: moves draw comment.
    repeat_rate
        Share of posts that repeat a text: retweets, and half as many advertisements.
    """
    shape = size.shape
    listed = np.arange(shape[0])[:, None] >= firms.listed[None, :]
    intensity = firms.attention * (0.6 + 0.5 * np.minimum(np.abs(size), 6.0)) * listed
    mood = stream(seed, "mood").standard_normal(shape)
    number = stream(seed, "post count").poisson(intensity)
    session, firm = (np.repeat(index.ravel(), number.ravel()) for index in np.indices(shape))
    total = len(session)

    def uniform(name: str) -> Array:
        return stream(seed, f"post {name}").random(total)

    glad = 0.7 / (1.0 + np.exp(-1.3 * mood[session, firm]))
    draw = uniform("tone")
    tone = np.where(draw < glad, 1, np.where(draw < 0.7, -1, 0))
    foreign = uniform("language") < 0.06
    kind = uniform("kind")
    same = np.zeros(total, dtype=bool)
    same[1:] = (session[1:] == session[:-1]) & (firm[1:] == firm[:-1])
    spam = kind > 1.0 - repeat_rate / 2
    retweet = (kind < repeat_rate) & same
    retweet[1:] &= ~(spam | retweet)[:-1] & ~foreign[:-1]
    tone[foreign | spam] = 0

    words = (uniform("head"), uniform("phrase"), uniform("tail"))
    text = _texts(tone, foreign, spam, *words, firms.symbols[firm])
    text[1:] = np.where(retweet[1:], "RT @user: " + text[:-1], text[1:])
    foreign &= ~retweet
    created = _times(dates, session, uniform("hour"), uniform("minute"))
    # Within a session and firm the rows are in the order of time: a retweet follows what it repeats.
    created = created[np.lexsort((created, firm, session))]
    user = (uniform("user") ** 2 * USERS).astype(np.uint64)
    table = pd.DataFrame(
        {
            "symbol": firms.symbols[firm],
            "created_at": pd.DatetimeIndex(created).tz_localize("UTC"),
            "user_hash": ((user + np.uint64(1)) * _MIX).astype(np.int64),
            "followers": np.exp(stream(seed, "followers").normal(5.5, 1.6, USERS))[user.astype(int)].astype(np.int32),
            "is_retweet": retweet,
            "lang": np.where(foreign, "es", "en"),
            "text": text,
        }
    )
    genuine = ~(retweet | spam | foreign)
    return Posts(table, _tone(tone[genuine], created[genuine], firm[genuine], dates, shape[1]))


def _texts(
    tone: NDArray, foreign: NDArray, spam: NDArray, head: Array, phrase: Array, tail: Array, symbol: NDArray
) -> NDArray[np.object_]:
    """Words of the wanted tone; the heads and tails carry no mood, they keep genuine texts apart."""
    out = np.empty(len(tone), dtype=object)
    for value, phrases in ((1, _GLAD), (-1, _GLUM), (0, _FLAT)):
        rows = tone == value
        out[rows] = np.array(phrases, dtype=object)[(phrase[rows] * len(phrases)).astype(int)]
    heads = np.array([f"{words} " if words else "" for words in _HEADS], dtype=object)
    tails = np.array(_TAILS, dtype=object)
    out = heads[(head * len(heads)).astype(int)] + out + tails[(tail * len(tails)).astype(int)]
    out[foreign] = np.array(_OTHER, dtype=object)[(phrase[foreign] * len(_OTHER)).astype(int)]
    out[spam] = np.array(_SPAM, dtype=object)[(phrase[spam] * len(_SPAM)).astype(int)]
    return "$" + symbol.astype(object) + " " + out


def _times(dates: Dates, session: NDArray, hour: Array, minute: Array) -> NDArray[np.datetime64]:
    """Two in three between 06:00 and 15:55 of the session's day in New York, the rest on the evening before."""
    close = pd.DatetimeIndex(dates.astype("datetime64[us]") + np.timedelta64(16, "h"))
    close_utc = close.tz_localize("America/New_York").tz_convert("UTC").tz_localize(None).to_numpy("datetime64[s]")
    by_day = hour < 2 / 3
    base = np.where(by_day, close_utc[session], close_utc[np.maximum(session - 1, 0)])
    shift = np.where(by_day, -300 - minute * 35_700, 1800 + minute * 18_000)
    return (base + shift.astype(np.int64).astype("timedelta64[s]")).astype("datetime64[us]")


def _tone(tone: NDArray, created: NDArray, firm: NDArray, dates: Dates, count: int) -> Array:
    known = np.searchsorted(dates, session_of_time(created))
    inside = known < len(dates)
    flat = known[inside] * count + firm[inside]
    size = len(dates) * count
    number = np.bincount(flat, minlength=size)
    total = np.bincount(flat, weights=tone[inside], minlength=size)
    return (2.0 * total / (number + 1.5)).reshape(len(dates), count)
