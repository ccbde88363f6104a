"""Sentiment of short texts: VADER with the words of markets added, each from its date.

Reference: Hutto & Gilbert (2014), "VADER: A parsimonious rule-based model for sentiment analysis of
social media text", ICWSM. Its lexicon was rated on general social media and knows few words of
finance: "Earnings beat estimates" scores exactly 0. The addition below is small, hand-rated on
VADER's scale (-4 .. 4), and dated: a word counts only in texts written on or after its `since`, the
day from which its market meaning was in common use, so that slang coined later cannot look back.
"""

from __future__ import annotations

import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray


class Word(NamedTuple):
    """One addition to the lexicon: VADER score, and the first day on which it counts."""

    score: float
    since: datetime.date


_ALWAYS = datetime.date(1990, 1, 1)

FINANCE: dict[str, Word] = {
    word: Word(score, since)
    for score, since, words in (
        (2.4, _ALWAYS, "beat beats outperform outperforms outperformed outperforming upgrade upgrades upgraded"),
        (2.4, _ALWAYS, "bullish rally rallies rallied soar soars soared surge surges surged skyrocket breakout"),
        (1.6, _ALWAYS, "bull bulls buy buying buys bought longs upside undervalued oversold accumulate rebound"),
        (1.6, _ALWAYS, "rebounds rebounded uptrend buyback buybacks squeeze squeezing"),
        (1.2, _ALWAYS, "calls green higher highs raise raises raised exceed exceeds exceeded topped tops"),
        (-2.4, _ALWAYS, "miss misses missed downgrade downgrades downgraded underperform underperforms bearish"),
        (-2.4, _ALWAYS, "plunge plunges plunged plummet plummets plummeted tumble tumbles tumbled selloff crash"),
        (-2.4, _ALWAYS, "crashed crashes bankruptcy default defaults delisted restatement restated halted"),
        (-1.6, _ALWAYS, "bear bears sell selling sells sold overvalued overbought downside downtrend lawsuit probe"),
        (-1.6, _ALWAYS, "recall recalls slump slumps slumped drop drops dropped decline declines declined layoffs"),
        (-1.2, _ALWAYS, "short shorts shorting puts lower lows red dilution diluted writedown impairment"),
        (2.4, datetime.date(2012, 1, 1), "btfd"),
        (1.6, datetime.date(2013, 4, 1), "moon mooning"),
        (-1.6, datetime.date(2013, 4, 1), "bagholder bagholders rekt"),
        (1.6, datetime.date(2017, 6, 1), "hodl"),
        (2.0, datetime.date(2019, 6, 1), "stonks tendies"),
        (1.6, datetime.date(2020, 6, 1), "rocket diamondhands"),
    )
    for word in words.split()
}
"""Words of markets by spelling in lower case."""


_ERAS = np.array(sorted({word.since for word in FINANCE.values()}), dtype="datetime64[D]")


_NO_WORDS = r"https?://\S+|\$[A-Za-z]{1,6}(?:\.[A-Za-z])?\b"


@lru_cache(maxsize=len(_ERAS) + 1)
def _analyzer(era: int) -> Any:
    """VADER with the words of the first `era` dates."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyzer = SentimentIntensityAnalyzer()
    known = {text: word.score for text, word in FINANCE.items() if np.datetime64(word.since, "D") in _ERAS[:era]}
    analyzer.lexicon.update(known)
    return analyzer


def sentiment(texts: pd.Series, written: pd.Series) -> NDArray[np.float64]:
    """VADER compound of each text, with the words of markets that were in use when it was written.

    Parameters
    ----------
    texts
        `(R,)` raw texts.
    written
        `(R,)` times of writing, UTC.

    Returns
    -------
    `(R,)` in [-1, 1]; 0 where no word carries a sentiment.
    """
    times = written.dt.tz_localize(None) if isinstance(written.dtype, pd.DatetimeTZDtype) else written
    era = np.searchsorted(_ERAS, times.to_numpy().astype("datetime64[D]"), side="right")
    # A cashtag is no word, but its capitals would mute the emphasis that VADER hears in others.
    codes, distinct = pd.factorize(texts.str.replace(_NO_WORDS, " ", regex=True).str.split().str.join(" "))
    pair, inverse = np.unique(codes * (len(_ERAS) + 1) + era, return_inverse=True)
    text, of = np.divmod(pair, len(_ERAS) + 1)
    scores = [_score(str(distinct[at]), int(when)) for at, when in zip(text, of, strict=True)]
    return np.asarray(scores, np.float64)[inverse] if len(scores) else np.empty(0)


@lru_cache(maxsize=2**18)
def _score(text: str, era: int) -> float:
    return float(_analyzer(era).polarity_scores(text)["compound"])
