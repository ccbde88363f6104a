import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.dataset import assemble_dataset
from models.inputs import gaussian_ranks
from models.sequence.windows import CLIP, make_windows

SESSIONS, SYMBOLS, FEATURES = 12, 7, 2


def dataset(present, seed=0, sessions=SESSIONS):
    """Rows where `present` (sessions, symbols) is True, a tenth of the values undefined."""
    rng = np.random.default_rng(seed)
    session, symbol = np.nonzero(present)
    X = rng.standard_normal((len(session), FEATURES)).astype(np.float32)
    X[rng.random(X.shape) < 0.1] = np.nan
    label = np.zeros(len(session), dtype=np.float32)
    return assemble_dataset(
        dates=np.datetime64("2010-01-04") + np.arange(sessions),
        symbols=np.array([f"S{i:04d}" for i in range(present.shape[1])]),
        sector=np.zeros(present.shape[1], dtype=int),
        session=session,
        symbol=symbol,
        X=X,
        features=[f"x{i}" for i in range(FEATURES)],
        label=label,
        forward=label,
        raw=label,
    )


def by_hand(data, lookback):
    """The window and the mask of each row, looked up session by session."""
    ranks = np.clip(gaussian_ranks(data.X, data.session), -CLIP, CLIP)
    found = {key: row for row, key in enumerate(zip(data.session.tolist(), data.symbol.tolist(), strict=True))}
    for session, symbol in found:
        window, mask = np.zeros((lookback, data.X.shape[1]), dtype=np.float32), np.zeros(lookback, dtype=bool)
        for place in range(lookback):
            row = found.get((session - lookback + 1 + place, symbol))
            if row is not None:
                window[place], mask[place] = ranks[row], True
        yield window, mask


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, SESSIONS + 3), st.floats(0.1, 1.0), st.data())
def test_like_looking_each_session_up(seed, lookback, share, drawn):
    present = np.random.default_rng(seed).random((SESSIONS, SYMBOLS)) < share
    present[drawn.draw(st.lists(st.integers(0, SESSIONS - 1), max_size=4))] = False
    data = dataset(present, seed)
    windows = make_windows(data, lookback)
    assert len(windows) == len(np.unique(data.session))
    expected = list(by_hand(data, lookback))
    for day, (x, mask) in enumerate(windows):
        rows = windows.rows(day)
        assert windows.session[day] == data.session[rows.start]
        np.testing.assert_array_equal(x, np.stack([window for window, _ in expected[rows]]))
        np.testing.assert_array_equal(mask, np.stack([there for _, there in expected[rows]]))
    assert windows.bounds[-1] == len(data)


def test_a_session_without_rows_is_part_of_the_windows_around_it():
    present = np.ones((SESSIONS, SYMBOLS), dtype=bool)
    present[5] = False
    windows = make_windows(dataset(present), 4)
    _, mask = windows.day(list(windows.session).index(6))
    np.testing.assert_array_equal(mask, np.tile([True, True, False, True], (SYMBOLS, 1)))


def test_the_start_of_history_is_filled_with_zeros():
    windows = make_windows(dataset(np.ones((SESSIONS, SYMBOLS), dtype=bool)), 4)
    x, mask = windows.day(1)
    assert not x[:, :2].any()
    np.testing.assert_array_equal(mask, np.tile([False, False, True, True], (SYMBOLS, 1)))
    np.testing.assert_array_equal(windows.whole(), np.arange(SESSIONS) >= 3)
    # where no day has a whole window, all days count
    assert make_windows(dataset(np.ones((3, SYMBOLS), dtype=bool)), 9).whole().all()


def test_neighbouring_windows_share_their_memory():
    windows = make_windows(dataset(np.ones((SESSIONS, SYMBOLS), dtype=bool)), 4)
    for day in range(len(windows)):
        for view, whole in zip(windows.span(day), (windows.grid, windows.mask), strict=True):
            assert view.base is whole
    assert np.shares_memory(windows.span(5)[0], windows.span(6)[0])
    assert windows.grid.shape == (SESSIONS + 3, SYMBOLS, FEATURES)


def test_extreme_ranks_are_clipped():
    present = np.ones((1, 2000), dtype=bool)
    windows = make_windows(dataset(present, sessions=1), 1)
    x, _ = windows.day(0)
    assert x.max() == CLIP
    assert x.min() == -CLIP


def test_symbols_without_rows_take_no_room():
    present = np.ones((SESSIONS, SYMBOLS), dtype=bool)
    present[:, [0, 3]] = False
    assert make_windows(dataset(present), 2).grid.shape[1] == SYMBOLS - 2


def test_no_rows():
    windows = make_windows(dataset(np.zeros((SESSIONS, SYMBOLS), dtype=bool)), 3)
    assert len(windows) == 0
    assert list(windows) == []
