import numpy as np
import pytest

from core.errors import DataError
from models.dataset import assemble_dataset


def parts(**changes):
    given = {
        "dates": np.array(["2020-01-02", "2020-01-03"], dtype="datetime64[D]"),
        "symbols": np.array(["A", "B"]),
        "sector": np.array([0, 1]),
        "session": np.array([0, 0, 1]),
        "symbol": np.array([0, 1, 1]),
        "X": np.array([[1.0, np.nan], [2.0, 3.0], [4.0, 5.0]], dtype=np.float32),
        "features": ["f", "g"],
        "label": np.array([0.5, -0.5, np.nan]),
        "forward": np.array([0.01, -0.01, np.nan]),
        "raw": np.array([0.02, -0.01, np.nan]),
    }
    return {**given, **changes}


def test_views_and_outcomes():
    data = assemble_dataset(**parts())
    assert len(data) == 3
    assert data.rows(0, 0) == slice(0, 2)
    later = data.between(1, 5)
    assert later.session.tolist() == [1]
    assert np.shares_memory(later.X, data.X)
    assert data.known.tolist() == [True, True, False]
    assert len(data.with_outcome()) == 2
    assert data.every(2).session.tolist() == [0, 0]
    assert data.keys().iloc[2].tolist() == [data.dates[1], "B"]


def test_float32_is_not_copied():
    given = parts()
    assert np.shares_memory(assemble_dataset(**given).X, given["X"])


def test_columns_by_name():
    data = assemble_dataset(**parts())
    assert data.with_columns(["f", "g"]) is data
    assert data.with_columns(["g"]).X[1].tolist() == [3.0]
    with pytest.raises(DataError, match="lacks feature 'h'"):
        data.with_columns(["f", "h"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"session": np.array([0, 1, 0])}, "out of order"),
        ({"symbol": np.array([1, 1, 1])}, "repeated"),
        ({"session": np.array([0, 0, 2])}, "session index outside 0..1"),
        ({"label": np.zeros(2)}, "label has shape"),
        ({"X": np.zeros((3, 3))}, "X has shape"),
        ({"features": ["f", "f"]}, "name is repeated"),
        ({"raw": np.array([np.inf, 0, 0])}, "column 'raw' is infinite in row 0"),
        ({"X": np.array([[0, 1], [0, np.inf], [0, 0]])}, "column 'g' is infinite in row 1"),
        ({"symbols": np.array(["B", "A"])}, "symbols are not strictly ascending"),
        ({"sector": np.array([0])}, "1 sector codes for 2 symbols"),
    ],
)
def test_broken_parts_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        assemble_dataset(**parts(**changes))
