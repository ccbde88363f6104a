"""Novelty by meaning: hand-made vectors, windows and order that change nothing, and a model from a folder."""

from __future__ import annotations

import builtins
import datetime
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import ConfigError
from sources.cleaning import clean
from sources.embeddings import DAYS, WithNovelty, load_model, novelty
from sources.schemas import normalise

WORDS = ("up", "down", "north", "south")
VECTORS = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 2.0]])


def embed(texts: Sequence[str]) -> np.ndarray:
    """Mean of the vectors of the words that are known."""
    rows = [[VECTORS[WORDS.index(word)] for word in text.split() if word in WORDS] for text in texts]
    return np.array([np.mean(row, axis=0) if row else np.zeros(3) for row in rows])


def posts(*rows: tuple[str, str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["symbol", "created_at", "text"])
    frame = frame.assign(user_hash=range(len(frame)), followers=1, is_retweet=False, lang="en")
    return normalise("posts", frame, "p")


def test_what_is_alike_is_no_news():
    frame = posts(
        ("AA", "2014-01-01T10:00:00Z", "up"),
        ("AA", "2014-01-02T10:00:00Z", "RT @user: up up"),
        ("AA", "2014-01-03T10:00:00Z", "north"),
        ("AA", "2014-01-03T11:00:00Z", "unknown words"),
        ("AA", "2014-01-04T10:00:00Z", "south"),
        ("AA", "2014-01-05T10:00:00Z", "down"),
        ("AA", "2014-03-05T10:00:00Z", "up"),
        ("BB", "2014-01-03T10:00:00Z", "up"),
    )
    np.testing.assert_allclose(novelty(frame, embed), [1, 0, 0.4, np.nan, 1, 1, 1, 1], atol=1e-3)


def test_the_window_is_its_days():
    first = pd.Timestamp("2014-01-01 10:00", tz="UTC")
    for gap, expected in ((pd.Timedelta(days=DAYS) - pd.Timedelta(seconds=1), 0.0), (pd.Timedelta(days=DAYS), 1.0)):
        frame = posts(("AA", first.isoformat(), "up"), ("AA", (first + gap).isoformat(), "up"))
        assert novelty(frame, embed)[1] == expected


class Feed:
    """A source with posts alone."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def tables(self) -> tuple[str, ...]:
        return ("posts",)

    def read(self, table: str, start: datetime.date | None = None, end: datetime.date | None = None) -> pd.DataFrame:
        day = self.frame["created_at"].dt.date
        keep = (day >= (start or datetime.date.min)) & (day <= (end or datetime.date.max))
        return self.frame[keep].reset_index(drop=True)

    def last_day(self) -> np.datetime64:
        return self.frame["created_at"].max().to_datetime64().astype("datetime64[D]")


@pytest.fixture(scope="module")
def feed() -> Feed:
    rng = np.random.default_rng(3)
    at = pd.Timestamp("2014-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 200 * 86400, 3000), "s")
    frame = pd.DataFrame({"symbol": rng.choice(["AA", "BB", "CC"], 3000, p=[0.8, 0.15, 0.05]), "created_at": at})
    frame["text"] = [" ".join(rng.choice([*WORDS, "x"], rng.integers(1, 40))) for _ in range(3000)]
    frame = frame.assign(user_hash=rng.integers(0, 99, 3000), followers=1, is_retweet=False, lang="en")
    return Feed(normalise("posts", frame, "p"))


def test_a_window_of_days_and_a_cut_give_the_same_bits(feed):
    whole = WithNovelty(feed, embed).read("posts")
    assert list(whole) == list(normalise("posts", whole, "again"))
    start, end = datetime.date(2014, 4, 7), datetime.date(2014, 5, 20)
    inside = whole["created_at"].dt.date.between(start, end)
    near = WithNovelty(feed, embed).read("posts", start, end)
    pd.testing.assert_frame_equal(near, whole[inside].reset_index(drop=True), check_exact=True)
    shuffled = Feed(normalise("posts", feed.frame.sample(frac=1, random_state=1), "p"))
    pd.testing.assert_frame_equal(WithNovelty(shuffled, embed).read("posts"), whole, check_exact=True)


def test_it_agrees_with_a_plain_loop(feed):
    frame = feed.frame[feed.frame["symbol"] == "BB"].reset_index(drop=True)
    vectors = embed(frame["text"])
    with np.errstate(invalid="ignore"):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = []
    for row, moment in enumerate(frame["created_at"]):
        near = (frame["created_at"][:row] > moment - pd.Timedelta(days=DAYS)).to_numpy()
        alike = (unit[:row][near] * unit[row]).sum(axis=1)
        alike = alike[np.isfinite(alike)]
        expected.append(np.nan if np.isnan(unit[row]).any() else 1.0 - (alike.max() if len(alike) else 0.0))
    np.testing.assert_allclose(novelty(frame, embed), expected, atol=2e-3)


def test_cleaning_hands_it_on(feed, dirty):
    told = WithNovelty(feed, embed).read("posts").assign(symbol="S00")
    out = clean({"prices": dirty["prices"], "posts": told}, datetime.date(2012, 1, 3), datetime.date(2014, 12, 31))
    assert out.tables["posts"]["novelty"].notna().mean() > 0.9
    assert "novelty" not in clean(dirty, datetime.date(2012, 1, 3), datetime.date(2012, 12, 31)).tables["posts"]


def test_refusals_name_the_remedy(tmp_path: Path, monkeypatch):
    with pytest.raises(ConfigError, match=r"data\.embeddings\.model: .*nowhere is no folder"):
        load_model(tmp_path / "nowhere", "")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        ConfigError, match=r"data\.embeddings\.digest = 'old': the files of .* have [0-9a-f]{64}"
    ) as told:
        load_model(tmp_path, "old")
    digest = str(told.value).split(" have ")[1][:64]
    real = builtins.__import__

    def without(name: str, *rest):
        if name == "model2vec":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"layered-signals\[embeddings\]"):
        load_model(tmp_path, digest)


def test_a_model_from_a_folder(tmp_path: Path):
    model2vec = pytest.importorskip("model2vec")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({word: at for at, word in enumerate((*WORDS, "[UNK]"))}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    vectors = np.vstack([VECTORS, np.zeros(3)]).astype(np.float32)
    model2vec.StaticModel(vectors, tokenizer).save_pretrained(tmp_path)
    with pytest.raises(ConfigError) as told:
        load_model(tmp_path, "unknown")
    model = load_model(tmp_path, str(told.value).split(" have ")[1][:64])
    texts = ["up north", "south", "nothing known"]
    np.testing.assert_allclose(model(texts), embed(texts), atol=1e-6)
    assert model(texts[:1]).tobytes() == model(texts)[:1].tobytes()
