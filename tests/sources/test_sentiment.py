from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sources.sentiment import FINANCE, sentiment


def score(*texts: str, at: str = "2015-06-01T12:00:00Z") -> list[float]:
    return sentiment(pd.Series(texts), pd.Series(pd.to_datetime([at] * len(texts)))).tolist()


def test_plain_words_score_as_in_vader() -> None:
    assert score("The company reported great earnings!") == [0.6588]
    assert score("The dividend was cut and guidance is weak") == [-0.6124]
    assert score("The meeting is on Tuesday", "") == [0.0, 0.0]


@pytest.mark.parametrize("text", ["Earnings beat estimates", "$ABC to the moon", "Short squeeze incoming, buy now"])
def test_words_of_markets_are_positive(text: str) -> None:
    assert score(text)[0] > 0.2


def test_words_of_markets_are_negative() -> None:
    assert max(score("Revenue misses estimates", "Analyst downgrades $ABC", "I sell and go short")) < -0.2


def test_a_word_does_not_look_back() -> None:
    assert score("hodl", at="2017-05-31T23:59:59Z") == [0.0]
    assert score("hodl", at="2017-06-01T00:00:00Z")[0] > 0
    assert score("$ABC to the moon", at="2010-01-01T00:00:00Z") == [0.0]


def test_each_text_by_its_own_date() -> None:
    texts = pd.Series(["hodl", "hodl", "buy", "hodl"])
    written = pd.Series(pd.to_datetime(["2018-01-01", "2015-01-01", "2015-01-01", "2018-01-01"], utc=True))
    found = sentiment(texts, written)
    assert found[0] == found[3] > 0
    assert found[1] == 0
    assert found[2] > 0


def test_no_texts() -> None:
    assert sentiment(pd.Series([], dtype="str"), pd.Series([], dtype="datetime64[us, UTC]")).shape == (0,)


def test_lexicon_is_on_vaders_scale() -> None:
    scores = np.array([word.score for word in FINANCE.values()])
    assert np.abs(scores).max() <= 4
    assert all(text == text.lower() for text in FINANCE)
