"""What is written about a symbol: how much, in what tone, how much in agreement, by how many.

Posts carry a sentiment in [-1, 1]. Where nobody wrote, a tone is unknown (NaN), and a count is zero only if
the symbol was written about within the feature's lookback at all.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.jit import compiled
from core.params import Params
from features.asof import age, bucket_count, bucket_sum, ratio
from features.kernels.rolling import rolling_median, rolling_sum, rolling_weighted_sum, shift
from features.memo import remembered
from features.panel import Array, Events, Panel
from features.posts import sides, toned
from features.registry import Family
from features.windows import MONTH, WEEK, fading

LEAST_FREE = 1e-9
"""Share of the weight that must be free for a spread to be more than a rounding error."""

BASE = 42
"""Earlier sessions that tell how much is usually written: eight weeks and a little."""
SILENCE = 63
"""Sessions after which the time since the last post is no longer counted."""


class TextParams(Params):
    """Parameters of the text family."""

    windows: list[int] = Field(default=[1, 5, 21], min_length=1)
    """Sessions over which a tone is averaged."""
    meaning: list[Annotated[int, Field(ge=1, le=63)]] = Field(default=[])
    """Sessions over which the novelty by meaning is averaged; none without `data.embeddings`."""


text = Family("text", TextParams)


# --- what the features share ---------------------------------------------------------------------------------


@remembered
def _count(panel: Panel) -> Array:
    """Posts per session and symbol."""
    return bucket_count(panel.events["posts"], panel.shape)


@remembered
def _tone(panel: Panel, power: int) -> Array:
    """Sum of a power of the sentiment per session and symbol; power 0 counts the posts."""
    posts = toned(panel)
    return bucket_sum(posts, np.asarray(posts.values["sentiment"], dtype=np.float64) ** power, panel.shape)


def _mean_tone(panel: Panel, window: int) -> Array:
    return ratio(rolling_sum(_tone(panel, 1), window), rolling_sum(_tone(panel, 0), window))


def _reach(posts: Events) -> Array:
    """`(E,)` log of one plus the author's followers: a thousand readers are not a thousand times one."""
    return np.log1p(np.maximum(np.asarray(posts.values["followers"], dtype=np.float64), 0.0))


@remembered
def _weighed(panel: Panel, weights: int, power: int) -> Array:
    """Sum of a power of the reach times a power of the sentiment per session and symbol, of posts with a tone."""
    posts = toned(panel)
    tone = np.asarray(posts.values["sentiment"], dtype=np.float64)
    weight = np.where(np.isnan(tone), np.nan, _reach(posts))
    return bucket_sum(posts, weight**weights * tone**power, panel.shape)


# --- attention -----------------------------------------------------------------------------------------------


def abnormal_count(count: Array, base: int) -> Array:
    """`ln((1 + n) / (1 + median n of the `base` sessions before))`, `(T, N)`.

    A session in which nobody wrote about any symbol is one in which the feed was silent: it counts as unknown,
    not as zero. NaN in such a session, where fewer than half of the earlier sessions are known, and where none
    of the `base + 1` sessions has a post of the symbol.
    """
    heard = np.where(count.sum(axis=1, keepdims=True) > 0, count, np.nan)
    usual = shift(rolling_median(heard, base, base // 2), 1)
    written = rolling_sum(heard, base + 1, 1) > 0
    return np.where(written, np.log((1.0 + heard) / (1.0 + usual)), np.nan)


@text.feature(
    "post_count_abnormal",
    lookback=BASE + 1,
    inputs=("posts",),
    units="log",
    sign=-1,
    reference="Da, Engelberg and Gao (2011), Journal of Finance 66; Barber and Odean (2008)",
)
def post_count_abnormal(panel: Panel) -> Array:
    """Posts of the session against the median of the 42 before."""
    return abnormal_count(_count(panel), BASE)


@text.feature(
    "post_reach_abnormal",
    lookback=BASE + 1,
    inputs=("posts",),
    units="log",
    sign=-1,
    reference="Da, Engelberg and Gao (2011), Journal of Finance 66; weights as Sprenger et al. (2014)",
)
def post_reach_abnormal(panel: Panel) -> Array:
    """Posts of the session, weighted with the log of their authors' followers, against the median of the 42 before."""
    posts = panel.events["posts"]
    return abnormal_count(bucket_sum(posts, _reach(posts), panel.shape), BASE)


@text.feature(
    "days_since_post",
    lookback=SILENCE,
    inputs=("posts",),
    units="sessions",
    reference="Barber and Odean (2008), Review of Financial Studies 21",
)
def days_since_post(panel: Panel) -> Array:
    """Sessions since somebody wrote about the symbol."""
    return age(panel.events["posts"], panel.shape, SILENCE)


# --- tone ----------------------------------------------------------------------------------------------------


@text.feature(
    "sentiment_{window}",
    over="windows",
    lookback=lambda window: window,
    inputs=("posts",),
    units="-1 to 1",
    sign=+1,
    reference="Tetlock (2007), Journal of Finance 62; Hutto and Gilbert (2014)",
)
def sentiment(panel: Panel, window: int) -> Array:
    """Mean tone of the window's posts."""
    return _mean_tone(panel, window)


@text.feature(
    "sentiment_change",
    lookback=MONTH,
    inputs=("posts",),
    units="-2 to 2",
    sign=+1,
    reference="Tetlock, Saar-Tsechansky and Macskassy (2008), Journal of Finance 63",
)
def sentiment_change(panel: Panel) -> Array:
    """Mean tone of a week less that of the month it ends."""
    return _mean_tone(panel, WEEK) - _mean_tone(panel, MONTH)


@text.feature(
    "sentiment_dispersion",
    lookback=MONTH,
    inputs=("posts",),
    units="0 to 1",
    sign=-1,
    reference="Diether, Malloy and Scherbina (2002), Journal of Finance 57 (of opinions); ddof 1",
)
def sentiment_dispersion(panel: Panel) -> Array:
    """Standard deviation of the tone of a month's posts."""
    count, total, squares = (rolling_sum(_tone(panel, power), MONTH) for power in (0, 1, 2))
    spread = np.maximum(squares - ratio(total**2, count), 0.0)
    return np.sqrt(ratio(spread, count - 1.0))


@text.feature(
    "sentiment_weighted",
    lookback=WEEK,
    inputs=("posts",),
    units="-1 to 1",
    sign=+1,
    reference="Sprenger, Tumasjan, Sandner and Welpe (2014), European Financial Management 20",
)
def sentiment_weighted(panel: Panel) -> Array:
    """Mean tone of a week's posts, each weighted with the log of its author's followers."""
    return ratio(rolling_sum(_weighed(panel, 1, 1), WEEK), rolling_sum(_weighed(panel, 1, 0), WEEK))


@text.feature(
    "sentiment_dispersion_weighted",
    lookback=MONTH,
    inputs=("posts",),
    units="0 to 1",
    sign=-1,
    reference="Diether, Malloy and Scherbina (2002), Journal of Finance 57 (of opinions); unbiased for equal weights",
)
def sentiment_dispersion_weighted(panel: Panel) -> Array:
    """Standard deviation of the tone of a month's posts, each weighted with the log of its author's followers."""
    weight, total, squares, twice = (
        rolling_sum(_weighed(panel, *powers), MONTH) for powers in ((1, 0), (1, 1), (1, 2), (2, 0))
    )
    spread = np.maximum(squares - ratio(total**2, weight), 0.0)
    # With one author's weight there is no spread, but a rounding error of one.
    free = weight - ratio(twice, weight)
    return np.sqrt(ratio(spread, np.where(free > LEAST_FREE * weight, free, 0.0)))


@remembered
def _new_tone(panel: Panel, power: int) -> Array:
    """Sum of a power of the sentiment per session and symbol, of posts that do not repeat an earlier text."""
    posts = toned(panel)
    fresh = posts.take(~np.asarray(posts.values["is_repeat"], dtype=bool))
    return bucket_sum(fresh, np.asarray(fresh.values["sentiment"], dtype=np.float64) ** power, panel.shape)


@text.feature(
    "sentiment_new",
    lookback=WEEK,
    inputs=("posts",),
    units="-1 to 1",
    sign=+1,
    reference="Tetlock (2011), Review of Financial Studies 24 (stale news)",
)
def sentiment_new(panel: Panel) -> Array:
    """Mean tone of a week's posts that do not repeat an earlier text."""
    return ratio(rolling_sum(_new_tone(panel, 1), WEEK), rolling_sum(_new_tone(panel, 0), WEEK))


@text.feature(
    "sentiment_fading",
    lookback=WEEK,
    inputs=("posts",),
    units="-3 to 3",
    sign=+1,
    reference="Tetlock (2007), Journal of Finance 62 (the mood of a day is paid back within the week)",
)
def sentiment_fading(panel: Panel) -> Array:
    """Tone of each day's new posts, drawn to nothing where they are few, summed with weights that fade in a week."""
    count = _new_tone(panel, 0)
    mood = rolling_weighted_sum(_new_tone(panel, 1) / (count + 1.0), fading(WEEK))
    return np.where(rolling_sum(count, WEEK) > 0, mood, np.nan)


def agreement_index(positive: Array, negative: Array) -> Array:
    """Antweiler and Frank's agreement `1 - sqrt(1 - B**2)`, with `B = (n+ - n-) / (n+ + n-)`.

    1 where all are of one mind, 0 where they are split in halves, NaN where nobody takes a side.
    """
    balance = ratio(positive - negative, positive + negative)
    return 1.0 - np.sqrt(1.0 - balance**2)


@text.feature(
    "agreement",
    lookback=WEEK,
    inputs=("posts",),
    units="0 to 1",
    reference="Antweiler and Frank (2004), Journal of Finance 59",
)
def agreement(panel: Panel) -> Array:
    """How much a week's positive and negative posts agree."""
    return agreement_index(*sides(panel, WEEK))


# --- who writes, and is it new -------------------------------------------------------------------------------


@compiled
def _distinct(session, symbol, user, window, rows, columns):
    """Distinct users of each window; posts sorted by symbol, user, session.

    A post counts from its session until it leaves the window or its user's next post takes its place.
    """
    steps = np.zeros((rows + 1, columns))
    for post in range(len(session)):
        until = min(session[post] + window, rows)
        after = post + 1
        if after < len(session) and symbol[after] == symbol[post] and user[after] == user[post]:
            until = min(until, session[after])
        steps[session[post], symbol[post]] += 1.0
        steps[until, symbol[post]] -= 1.0
    for row in range(1, rows):
        steps[row] += steps[row - 1]
    return steps[:rows]


def distinct_users(posts: Events, window: int, shape: tuple[int, int]) -> Array:
    """Number of different users who wrote in the last `window` sessions, `(T, N)`.

    Windows that begin before the first session count what there is.
    """
    user: NDArray = np.unique(np.asarray(posts.values["user_hash"]), return_inverse=True)[1]
    order = np.lexsort((posts.session, user, posts.symbol))
    return _distinct(posts.session[order], posts.symbol[order], user[order], window, *shape)


@text.feature(
    "user_breadth",
    lookback=WEEK,
    inputs=("posts",),
    units="0 to 1",
    reference="Sprenger, Tumasjan, Sandner and Welpe (2014), European Financial Management 20",
)
def user_breadth(panel: Panel) -> Array:
    """Different users over posts of a week: low where a few write much."""
    users = distinct_users(panel.events["posts"], WEEK, panel.shape)
    return ratio(users, rolling_sum(_count(panel), WEEK))


@text.feature(
    "novelty",
    lookback=WEEK,
    inputs=("posts",),
    units="0 to 1",
    sign=+1,
    reference="Tetlock (2011), Review of Financial Studies 24 (stale news)",
)
def novelty(panel: Panel) -> Array:
    """Share of a week's posts that do not repeat an earlier text."""
    posts = panel.events["posts"]
    fresh = posts.take(~np.asarray(posts.values["is_repeat"], dtype=bool))
    return ratio(rolling_sum(bucket_count(fresh, panel.shape), WEEK), rolling_sum(_count(panel), WEEK))


@text.feature(
    "novelty_meaning_{window}",
    over="meaning",
    lookback=lambda window: window,
    inputs=("posts.novelty",),
    units="0 to 1",
    sign=+1,
    reference="Tetlock (2011), Review of Financial Studies 24 (stale news); by cosine similarity of embeddings",
)
def novelty_meaning(panel: Panel, window: int) -> Array:
    """Mean novelty by meaning of the window's posts."""
    posts = panel.events["posts"]
    fresh = np.asarray(posts.values["novelty"], dtype=np.float64)
    known = np.where(np.isnan(fresh), np.nan, 1.0)
    total, count = (rolling_sum(bucket_sum(posts, values, panel.shape), window) for values in (fresh, known))
    return ratio(total, count)
