"""Text features: check values, hand-made posts, a plain oracle for distinct users, what a value may depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError
from core.params import parse
from features.families.text import TextParams, abnormal_count, agreement_index, distinct_users, text
from features.invariance import prove, require
from features.panel import Events, Panel

FEATURES = {feature.name: feature for feature in text.build()}


def make(posts: list[dict] | None, sessions: int = 60) -> Panel:
    """Two symbols; the second is written about once a session, so that the feed is never silent."""
    shape = (sessions, 2)
    defaults = {"sentiment": 0.0, "lang": "en", "user_hash": 1, "followers": 0, "is_repeat": False}
    events = {}
    if posts is not None:
        rows = [{"symbol": 0, **post} for post in posts] + [{"symbol": 1, "session": t} for t in range(sessions)]
        rows.sort(key=lambda row: row["session"])
        events["posts"] = Events(
            np.array([row["session"] for row in rows], dtype=np.int64),
            np.array([row["symbol"] for row in rows], dtype=np.int64),
            {name: np.array([row.get(name, default) for row in rows]) for name, default in defaults.items()},
        )
    return Panel(
        dates=np.datetime64("2014-01-01") + np.arange(sessions),
        symbols=np.array(["A", "B"]),
        fields={name: np.ones(shape) for name in ("open", "high", "low", "close", "volume")},
        universe=np.ones(shape, dtype=bool),
        sector=np.zeros(2, dtype=np.int64),
        events=events,
    )


def column(name: str, posts: list[dict]) -> np.ndarray:
    return FEATURES[name](make(posts))[:, 0]


def test_agreement_check_value():
    expected = [0.133975, 1.0, 0.0]
    got = agreement_index(np.array([30.0, 4.0, 5.0]), np.array([10.0, 0.0, 5.0]))
    np.testing.assert_allclose(got, expected, atol=5e-7)
    assert np.isnan(agreement_index(np.zeros(1), np.zeros(1))).all()


def test_agreement_counts_sides_of_a_week():
    posts = [{"session": 10, "sentiment": 0.5}] * 3 + [{"session": 12, "sentiment": -0.6}, {"session": 12}]
    got = column("agreement", posts)
    assert got[10] == 1.0
    np.testing.assert_allclose(got[12], 1 - np.sqrt(1 - 0.25), rtol=1e-6)
    assert got[15] == 1.0
    assert np.isnan(got[17])


def test_abnormal_count():
    posts = [{"session": t} for t in range(50) for _ in range(2)] + [{"session": 50}] * 8
    got = column("post_count_abnormal", posts)
    assert np.isnan(got[:21]).all()
    np.testing.assert_allclose(got[49:52], [0.0, np.log(9 / 3), np.log(1 / 3)], rtol=1e-6)


def test_never_written_about_is_unknown_and_silence_after_posts_is_zero():
    got = column("post_count_abnormal", [{"session": 5}])
    assert (got[21:48] == 0).all()
    assert np.isnan(got[48:]).all()


def test_a_silent_feed_is_unknown():
    count = np.ones((30, 2))
    count[20] = 0.0
    got = abnormal_count(count, 10)
    assert np.isnan(got[20]).all()
    assert (got[21:] == 0).all()


def test_tone_of_windows():
    posts = [
        {"session": 10, "sentiment": 0.8},
        {"session": 10, "sentiment": 0.4},
        {"session": 13, "sentiment": -0.6},
        {"session": 13, "sentiment": -1.0, "lang": "es"},
    ]
    np.testing.assert_allclose(column("sentiment_1", posts)[[10, 13]], [0.6, -0.6], rtol=1e-6)
    assert np.isnan(column("sentiment_1", posts)[11])
    np.testing.assert_allclose(column("sentiment_5", posts)[[12, 14, 15]], [0.6, 0.2, -0.6], rtol=1e-6)
    assert np.isnan(column("sentiment_5", posts)[18])
    np.testing.assert_allclose(column("sentiment_21", posts)[[20, 33]], [0.2, -0.6], rtol=1e-6)
    later = [{**post, "session": post["session"] + 20} for post in posts]
    assert np.isnan(column("sentiment_change", later)[38])
    np.testing.assert_allclose(column("sentiment_change", later)[35], -0.6 - 0.2, rtol=1e-6)
    np.testing.assert_allclose(column("sentiment_dispersion", later)[35], np.std([0.8, 0.4, -0.6], ddof=1), rtol=1e-6)


def test_one_post_has_no_dispersion():
    assert np.isnan(column("sentiment_dispersion", [{"session": 30, "sentiment": 0.3}])).all()


def test_followers_weigh():
    posts = [
        {"session": 10, "sentiment": 0.5, "followers": 99},
        {"session": 11, "sentiment": -0.5, "followers": 9},
        {"session": 11, "sentiment": np.nan, "followers": 10**6},
    ]
    np.testing.assert_allclose(column("sentiment_weighted", posts)[11], 0.5 * (2 - 1) / (2 + 1), rtol=1e-6)


def test_followers_weigh_the_dispersion():
    posts = [{"session": 30, "sentiment": tone, "followers": 9} for tone in (0.8, 0.4, -0.6)]
    equal = column("sentiment_dispersion_weighted", posts)[35]
    np.testing.assert_allclose(equal, np.std([0.8, 0.4, -0.6], ddof=1), rtol=1e-6)
    posts[2]["followers"] = 999
    weight, tone = np.array([1.0, 1.0, 3.0]), np.array([0.8, 0.4, -0.6])
    mean = (weight * tone).sum() / 5
    expected = np.sqrt((weight * (tone - mean) ** 2).sum() / (5 - 11 / 5))
    np.testing.assert_allclose(column("sentiment_dispersion_weighted", posts)[35], expected, rtol=1e-6)
    alone = [{"session": 30, "sentiment": 0.3, "followers": 7}, {"session": 30, "sentiment": -0.9}]
    assert np.isnan(column("sentiment_dispersion_weighted", alone)).all()


def test_abnormal_reach_counts_followers():
    posts = [{"session": t, "followers": 9} for t in range(51)] + [{"session": 50, "followers": 999}]
    got = column("post_reach_abnormal", posts)
    np.testing.assert_allclose(got[49:51], [0.0, np.log((1 + 4 * np.log(10)) / (1 + np.log(10)))], rtol=1e-6, atol=1e-9)


def test_a_repeat_has_no_say_in_the_tone_of_what_is_new():
    posts = [
        {"session": 10, "sentiment": 0.4},
        {"session": 11, "sentiment": -0.8, "is_repeat": True},
        {"session": 12, "sentiment": 0.2},
    ]
    np.testing.assert_allclose(column("sentiment_new", posts)[[11, 12]], [0.4, 0.3], rtol=1e-6)
    assert np.isnan(column("sentiment_new", posts[1:2])).all()
    fading = column("sentiment_fading", posts)
    np.testing.assert_allclose(fading[[10, 11, 12, 16]], [0.2, 0.16, 0.1 + 0.12, 0.02], rtol=1e-6)
    assert np.isnan(fading[[9, 17]]).all()
    together = [{"session": 10, "sentiment": tone} for tone in (0.4, 0.8)]
    np.testing.assert_allclose(column("sentiment_fading", together)[10], 1.2 / 3, rtol=1e-6)


def test_breadth_novelty_and_silence():
    posts = [
        {"session": 10, "user_hash": 5},
        {"session": 11, "user_hash": 5, "is_repeat": True},
        {"session": 11, "user_hash": 6},
        {"session": 11, "user_hash": 5, "is_repeat": True},
    ]
    np.testing.assert_allclose(column("user_breadth", posts)[[10, 11, 15]], [1, 2 / 4, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(column("novelty", posts)[[10, 11, 15]], [1, 2 / 4, 1 / 3], rtol=1e-6)
    np.testing.assert_array_equal(column("days_since_post", posts)[9:14], [np.nan, 0, 0, 1, 2])


@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 1), st.integers(0, 3)), max_size=40),
    st.integers(1, 6),
)
@settings(max_examples=100, deadline=None)
def test_distinct_users_agree_with_sets(rows, window):
    rows.sort(key=lambda row: row[0])
    session, symbol, user = (np.array([row[at] for row in rows], dtype=np.int64) for at in range(3))
    expected = [
        [len({u for s, n, u in rows if n == column and t - window < s <= t}) for column in range(2)] for t in range(12)
    ]
    got = distinct_users(Events(session, symbol, {"user_hash": user}), window, (12, 2))
    np.testing.assert_array_equal(got, expected)


def test_novelty_by_meaning_needs_its_column_and_a_window():
    assert not any(name.startswith("novelty_meaning") for name in FEATURES)
    feature = next(one for one in text.build({"meaning": [5]}) if one.name == "novelty_meaning_5")
    panel = make([{"session": 10}, {"session": 12}, {"session": 12}])
    assert feature.missing(panel) == ("posts.novelty",)
    posts = panel.events["posts"]
    told = np.where(posts.symbol == 0, 0.0, np.nan)
    told[posts.symbol == 0] = [0.9, np.nan, 0.3]
    known = replace(panel, events={"posts": replace(posts, values={**posts.values, "novelty": told})})
    got = feature(known)
    np.testing.assert_allclose(got[[10, 12, 15], 0], [0.9, 0.6, 0.3], rtol=1e-6)
    assert np.isnan(got[17, 0])
    assert np.isnan(got[:, 1]).all()


def test_novelty_by_meaning_holds(panel):
    posts = panel.events["posts"]
    told = np.random.default_rng(0).random(len(posts))
    known = replace(panel, events={"posts": replace(posts, values={**posts.values, "novelty": told})})
    require(prove([one for one in text.build({"meaning": [1, 5]}) if "meaning" in one.name], known, [300, 520]))


def test_features_without_posts_are_not_available():
    assert not any(feature.available(make(None)) for feature in FEATURES.values())


def test_windows_are_parameters():
    names = [feature.name for feature in text.build({"windows": [3]})]
    assert "sentiment_3" in names
    assert "sentiment_21" not in names
    with pytest.raises(ConfigError, match="window: unknown parameter"):
        parse(TextParams, {"window": [3]}, "features.text")


@pytest.mark.parametrize("name", FEATURES)
def test_past_and_lookback_only(name, panel):
    feature = FEATURES[name]
    whole = feature(panel)
    assert np.isfinite(whole).any()
    for last in (20, 250, 600):
        np.testing.assert_array_equal(feature(panel.cut(last)), whole[: last + 1])
        np.testing.assert_array_equal(feature(panel.tail(last, feature.lookback))[-1], whole[last])


@pytest.mark.parametrize("name", FEATURES)
def test_the_order_of_posts_and_symbols_changes_nothing(name, panel):
    feature = FEATURES[name]
    posts = panel.events["posts"]
    mixed = posts.take(np.lexsort((np.random.default_rng(1).random(len(posts)), posts.session)))
    mirrored = replace(
        panel,
        fields={key: array[:, ::-1] for key, array in panel.fields.items()},
        universe=panel.universe[:, ::-1],
        events={"posts": replace(mixed, symbol=panel.shape[1] - 1 - mixed.symbol)},
    )
    np.testing.assert_array_equal(feature(mirrored)[:, ::-1], feature(panel))
