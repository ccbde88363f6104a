"""Posts about firms: when, by whom, in what mood, and in what words."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sources.simulation.firms import Array, Firms
from sources.simulation.reports import Dates
from sources.simulation.streams import Streams

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
_WORDS = ("head", "phrase", "tail", "hour", "minute", "user")
_DRAWS = ("tone", "language", "kind", *_WORDS)


class Chatter:
    """Posts of one session after another.

    Parameters
    ----------
    repeat_rate
        Share of posts that repeat a text: retweets, and half as many advertisements.
    """

    def __init__(self, firms: Firms, streams: Streams, repeat_rate: float) -> None:
        self._firms, self._streams, self._repeat_rate = firms, streams, repeat_rate
        self._followers = np.exp(streams["followers"].normal(5.5, 1.6, USERS)).astype(np.int32)
        self._said: list[dict[str, NDArray]] = []

    def session(self, at: int, size: Array, leaning: Array, alive: NDArray[np.bool_]) -> Array:
        """Post about one session.

        Parameters
        ----------
        at
            Index of the session.
        size
            `(N,)` size of the day's move in its usual volatility: moves draw comment.
        leaning
            `(N,)` which way those who trade lean, and their fear: the mood of what they write goes with it.
        alive
            `(N,)` whether the firm is listed.

        Returns
        -------
        `(N,)` shrunken mean tone of the original, genuine posts, about unit variance where people write.
        """
        count = len(size)
        mood = np.sqrt(0.75) * self._streams["mood"].standard_normal(count) + leaning
        intensity = self._firms.attention * (0.6 + 0.5 * np.minimum(np.abs(size), 6.0)) * alive
        firm = np.repeat(np.arange(count), self._streams["post count"].poisson(intensity))
        total = len(firm)
        draw = {name: self._streams[f"post {name}"].random(total) for name in _DRAWS}
        glad = 0.7 / (1.0 + np.exp(-1.3 * mood[firm]))
        tone = np.where(draw["tone"] < glad, 1, np.where(draw["tone"] < 0.7, -1, 0))
        foreign, spam = draw["language"] < 0.06, draw["kind"] > 1.0 - self._repeat_rate / 2
        retweet = draw["kind"] < self._repeat_rate
        if total:
            retweet[0] = False
        retweet[1:] &= (firm[1:] == firm[:-1]) & ~(spam | retweet)[:-1] & ~foreign[:-1]
        tone[foreign | spam] = 0
        kept = {name: draw[name] for name in _WORDS}
        said = {"firm": firm, "tone": tone, "foreign": foreign, "spam": spam, "retweet": retweet, **kept}
        self._said.append({"session": np.full(total, at), **said})
        genuine = ~(retweet | spam | foreign)
        number = np.bincount(firm[genuine], minlength=count)
        summed = np.bincount(firm[genuine], weights=tone[genuine], minlength=count)
        return 2.0 * summed / (number + 1.5)

    def collect(self, dates: Dates) -> pd.DataFrame:
        """The `posts` table of what was said since it was last collected, by session, then firm, then time."""
        said = {name: np.concatenate([part[name] for part in self._said]) for name in self._said[0]}
        self._said = []
        session, firm, foreign, retweet = (said[name] for name in ("session", "firm", "foreign", "retweet"))
        symbol = self._firms.symbols[firm]
        text = _texts(said["tone"], foreign, said["spam"], said["head"], said["phrase"], said["tail"], symbol)
        text[1:] = np.where(retweet[1:], "RT @user: " + text[:-1], text[1:])
        created = _times(dates, session, said["hour"], said["minute"])
        # Within a session and firm the rows are in the order of time: a retweet follows what it repeats.
        created = created[np.lexsort((created, firm, session))]
        user = (said["user"] ** 2 * USERS).astype(np.uint64)
        return pd.DataFrame(
            {
                "symbol": symbol,
                "created_at": pd.DatetimeIndex(created).tz_localize("UTC"),
                "user_hash": ((user + np.uint64(1)) * _MIX).astype(np.int64),
                "followers": self._followers[user.astype(int)],
                "is_retweet": retweet,
                "lang": np.where(foreign & ~retweet, "es", "en"),
                "text": text,
            }
        )


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
