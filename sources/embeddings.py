"""How new a post is by its meaning: how far it is from all that was written about the symbol in the weeks before.

The same text again is known without a model (see `sources.cleaning`); the same news in other words is not. Texts
become vectors by a static embedding model (`model2vec`) from a folder of the user's own: nothing is downloaded, and
the folder's digest is a parameter, so that training and serving read the same vectors.

A model knows the words of the day on which it was trained. On texts from before that day it is wiser than anybody was
then, if only about which words are alike.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from core.errors import ConfigError
from core.files import canonical_json, digest_bytes, digest_tree
from core.params import Params
from sources.base import Source
from sources.schemas import RETWEET

DAYS = 30
"""Days before a post whose posts about the same symbol it is compared with."""

_BLOCK = 512
_SCALE = 2048.0
"""Vectors become whole numbers of about this length: sums of their products are exact in float32, in any order."""

Embed = Callable[[Sequence[str]], NDArray[np.floating]]
"""`(n,)` texts to `(n, d)` vectors, each of its text alone."""


class EmbeddingParams(Params):
    """A model in a folder, and what the folder must hold."""

    model: str = Field(min_length=1)
    """Folder with `model.safetensors`, `tokenizer.json` and `config.json`."""
    digest: str
    """Digest of its files; a refusal says what it is."""


def load_model(folder: Path, digest: str) -> Embed:
    """The model of a folder.

    Raises
    ------
    ConfigError
        The extra is not installed, or the folder is missing, or is not the one that was named.
    """
    if not folder.is_dir():
        raise ConfigError(f"data.embeddings.model: {folder} is no folder: put the model there, or leave embeddings out")
    found = digest_bytes(canonical_json(digest_tree(folder)).encode())
    if found != digest:
        raise ConfigError(
            f"data.embeddings.digest = {digest!r}: the files of {folder} have {found}: restore them, or set that "
            "digest and train anew"
        )
    try:
        from model2vec import StaticModel
    except ImportError:
        raise ConfigError(
            "data.embeddings needs the package model2vec: pip install 'layered-signals[embeddings]', or leave it out"
        ) from None
    model = StaticModel.from_pretrained(folder)
    return lambda texts: model.encode(list(texts), use_multiprocessing=False)


class WithNovelty:
    """A source whose posts say how new they are by meaning; its other tables are as they were."""

    def __init__(self, source: Source, embed: Embed) -> None:
        self.source = source
        self.embed = embed

    def tables(self) -> tuple[str, ...]:
        """Names of the tables that the source has."""
        return self.source.tables()

    def read(self, table: str, start: datetime.date | None = None, end: datetime.date | None = None) -> pd.DataFrame:
        """Rows that became known in `[start, end]`; posts with their `novelty`."""
        if table != "posts":
            return self.source.read(table, start, end)
        early = None if start is None else start - datetime.timedelta(days=DAYS + 1)
        posts = self.source.read(table, early, end)
        posts = posts.assign(novelty=novelty(posts, self.embed))
        if start is None:
            return posts
        return posts[posts["created_at"] >= pd.Timestamp(start, tz="UTC")].reset_index(drop=True)

    def last_day(self) -> np.datetime64:
        """Last day that has a price."""
        return self.source.last_day()


def novelty(posts: pd.DataFrame, embed: Embed) -> NDArray[np.float64]:
    """One less the largest cosine similarity with an earlier post about the symbol within `DAYS`.

    Parameters
    ----------
    posts
        Normalised posts.

    Returns
    -------
    `(R,)` between 0 (said before) and 1 (or more, where the closest one points elsewhere); 1 where nothing was said
    before, NaN where the text has no known word.
    """
    out = np.full(len(posts), np.nan)
    moments = posts["created_at"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")
    texts = posts["text"].fillna("").str.replace(RETWEET, "", regex=True)
    for rows in posts.groupby("symbol", sort=False).indices.values():
        codes, distinct = pd.factorize(texts.iloc[rows])
        out[rows] = _novelty_of(_whole(embed(list(distinct)))[codes], moments[rows])
    return out


def _whole(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros(vectors.shape), where=length > 0)
    return np.rint(_SCALE * unit).astype(np.float32)


def _novelty_of(vectors: NDArray[np.float32], moments: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Of one symbol's posts in the order of time."""
    length = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))
    first = np.searchsorted(moments, moments - np.timedelta64(DAYS, "D"), side="right")
    out = np.empty(len(vectors))
    for low in range(0, len(vectors), _BLOCK):
        high = min(low + _BLOCK, len(vectors))
        since = first[low]
        alike = (vectors[low:high] @ vectors[since:high].T).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            alike /= length[low:high, None] * length[None, since:high]
        place = np.arange(since, high)[None, :]
        earlier = (place < np.arange(low, high)[:, None]) & (place >= first[low:high, None]) & np.isfinite(alike)
        closest = np.where(earlier, alike, -np.inf).max(axis=1, initial=-np.inf)
        out[low:high] = 1.0 - np.where(np.isfinite(closest), closest, 0.0)
    # Rounding leaves the similarity of a text with itself a hair off one.
    return np.where(length > 0, np.maximum(np.round(out, 6), 0.0), np.nan)
