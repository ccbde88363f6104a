"""Splits in time: purged walk-forward, purged inner splits for tuning, combinatorial purged splits.

A row of session t is *known* at session s when its outcome is: t + H <= s, with H = horizon + 1
(trade at the close of t+1, hold for `horizon` sessions). Every split here keeps, before a block
that starts at session a, only rows known at a. All ranges are session indices, both ends included.

References
----------
López de Prado, M. (2018). Advances in Financial Machine Learning, ch. 7 and 12. Wiley.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from core.errors import ConfigError
from core.params import Day, Params

Range = tuple[int, int]

# A trailing block shorter than this share of a full one joins the block before it.
_SHORTEST_BLOCK = 0.5
# Early stopping may not take more than this share of a training range.
_LARGEST_VALID_SHARE = 0.2


class FoldRule(Params):
    """How history is split.

    Attributes
    ----------
    first_test
        Date of the first out-of-sample session; where null, `train_sessions` decides.
    train_sessions
        Fewest sessions before the first test block, and where it starts if `first_test` is null.
    test_sessions, holdout_sessions
        Length of a test block; length of the final holdout that nothing is tuned on (0: none).
    valid_sessions
        Sessions at the end of each training range set apart for early stopping, at most a fifth
        of the range (0: none).
    embargo
        Further sessions left out between training and test rows.
    rolling
        Train on the last so many sessions only; null: on everything before.
    tuning_splits
        Number of inner splits for the search of hyper-parameters.
    """

    first_test: Day | None = None
    train_sessions: int = Field(default=1512, ge=20)
    test_sessions: int = Field(default=252, ge=5)
    holdout_sessions: int = Field(default=252, ge=0)
    valid_sessions: int = Field(default=126, ge=0)
    embargo: int = Field(default=5, ge=0)
    rolling: int | None = Field(default=None, ge=20)
    tuning_splits: int = Field(default=2, ge=1, le=20)


@dataclass(frozen=True)
class Fold:
    """One split; every range is `(first, last)` in session indices, both included.

    Attributes
    ----------
    train
        Rows to fit on.
    valid
        Rows for early stopping, after `train` and purged from it; None where not wanted.
    test
        Rows predicted out of sample.
    holdout
        True for a block of the final holdout.
    """

    index: int
    train: Range
    valid: Range | None
    test: Range
    holdout: bool = False

    @property
    def known(self) -> Range:
        """Everything that may be used before the test block: `train`, the gap and `valid`."""
        return self.train[0], self.train[1] if self.valid is None else self.valid[1]

    @property
    def judged(self) -> bool:
        """Whether results count the block: not those before the first test block (`warm_up`)."""
        return self.index >= 0


def walk_forward(sessions: int | NDArray[np.datetime64], rule: FoldRule, horizon: int) -> tuple[Fold, ...]:
    """Expanding (or rolling) purged walk-forward folds, the holdout's blocks last.

    Every session from the first test session to the end lies in exactly one test block.

    Parameters
    ----------
    sessions
        Number of sessions, or their dates (needed where `rule.first_test` is a date).
    horizon
        Sessions a position is held; rows are purged by horizon + 1.

    Raises
    ------
    ConfigError
        There are too few sessions; the message says how many there are and how many are needed.
    """
    count, start = _first_test(sessions, rule)
    holdout_start = count - rule.holdout_sessions
    # One tuned block before the holdout, or the holdout would be the only judgement there is.
    shortest = int(np.ceil(_SHORTEST_BLOCK * rule.test_sessions))
    if start + shortest > holdout_start:
        needed = start + shortest + rule.holdout_sessions
        raise ConfigError(
            f"folds: {count} sessions are too few, {needed} are needed ({start} before the first test block, "
            f"{shortest} of test, {rule.holdout_sessions} of holdout): give more history or lower train_sessions, "
            "test_sessions or holdout_sessions"
        )
    blocks = [(block, False) for block in _blocks(start, holdout_start, rule.test_sessions)]
    blocks += [(block, True) for block in _blocks(holdout_start, count, rule.test_sessions)]
    return tuple(_fold(i, block, rule, horizon, holdout) for i, (block, holdout) in enumerate(blocks))


def tuning_folds(sessions: int | NDArray[np.datetime64], rule: FoldRule, horizon: int) -> tuple[Fold, ...]:
    """Inner purged walk-forward folds whose rows and outcomes all lie before the first test block.

    The later half of that history is cut into `rule.tuning_splits` blocks to score on.

    Raises
    ------
    ConfigError
        The history before the first test block is too short.
    """
    _, start = _first_test(sessions, rule)
    stop = start - (horizon + 1) - rule.embargo + 1
    half = max(0, stop // 2)
    edges = np.linspace(half, stop, rule.tuning_splits + 1).round().astype(int)
    if half == 0 or np.diff(edges).min() < 1:
        raise ConfigError(
            f"folds: {start} sessions before the first test block are too few for {rule.tuning_splits} tuning splits: "
            "raise train_sessions (or move first_test later) or lower tuning_splits"
        )
    blocks = [(int(a), int(b) - 1) for a, b in pairwise(edges)]
    return tuple(_fold(i, block, rule, horizon, holdout=False) for i, block in enumerate(blocks))


def warm_up(inner: Sequence[Fold]) -> tuple[Fold, ...]:
    """Inner folds as blocks before the first, numbered up to -1: what a stack learns its first weights from."""
    return tuple(replace(fold, index=fold.index - len(inner)) for fold in inner)


def combinatorial(
    n_sessions: int, groups: int, test_groups: int, horizon: int, embargo: int = 0
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Combinatorial purged splits: every choice of `test_groups` out of `groups` equal blocks.

    Around each test block [a, b] a training session t is kept when t <= a - H or
    t >= b + H + embargo (López de Prado 2018, ch. 12).

    Yields
    ------
    train, test
        Session indices, ascending.

    Raises
    ------
    ConfigError
        The counts are impossible.
    """
    if not 0 < test_groups < groups <= n_sessions:
        raise ConfigError(
            f"combinatorial folds: {test_groups} test groups of {groups} in {n_sessions} sessions: "
            "choose 0 < test groups < groups <= sessions"
        )
    held = horizon + 1
    sessions = np.arange(n_sessions)
    blocks = np.array_split(sessions, groups)
    for chosen in combinations(range(groups), test_groups):
        keep = np.ones(n_sessions, dtype=bool)
        for group in chosen:
            first, last = blocks[group][0], blocks[group][-1]
            keep &= (sessions <= first - held) | (sessions >= last + held + embargo)
        yield sessions[keep], np.concatenate([blocks[group] for group in chosen])


def known_before(session: ArrayLike, at: int, horizon: int) -> NDArray[np.bool_]:
    """Mask of rows whose outcome is known at the close of session `at`."""
    return np.asarray(session) <= at - (horizon + 1)


def _first_test(sessions: int | NDArray[np.datetime64], rule: FoldRule) -> tuple[int, int]:
    """Number of sessions and index of the first test session."""
    if isinstance(sessions, (int, np.integer)):
        if rule.first_test is not None:
            raise ConfigError("folds.first_test is a date: hand over the sessions' dates, not their number")
        return int(sessions), rule.train_sessions
    count = len(sessions)
    if rule.first_test is None:
        return count, rule.train_sessions
    start = int(np.searchsorted(sessions, np.datetime64(rule.first_test)))
    if start < rule.train_sessions or start >= count:
        span = f"{sessions[0]} .. {sessions[-1]}" if count else "no session"
        raise ConfigError(
            f"folds.first_test = {rule.first_test}: {start} sessions lie before it, {rule.train_sessions} are needed "
            f"(the data holds {count}: {span}): choose a later date inside the data or lower train_sessions"
        )
    return count, start


def _blocks(start: int, stop: int, length: int) -> list[Range]:
    """Cut [start, stop) into blocks of `length`; a short rest joins the last block."""
    edges = list(range(start, stop, length))
    if len(edges) > 1 and stop - edges[-1] < _SHORTEST_BLOCK * length:
        edges.pop()
    return [(a, b - 1) for a, b in pairwise([*edges, stop])]


def _fold(index: int, test: Range, rule: FoldRule, horizon: int, holdout: bool) -> Fold:
    gap = horizon + 1 + rule.embargo
    last = test[0] - gap
    first = 0 if rule.rolling is None else max(0, last - rule.rolling + 1)
    length = last - first + 1
    valid_length = min(rule.valid_sessions, int(length * _LARGEST_VALID_SHARE))
    valid = (last - valid_length + 1, last) if valid_length > 0 else None
    train = (first, last if valid is None else valid[0] - gap)
    if train[1] < train[0]:
        raise ConfigError(
            f"folds: no training session is left before session {test[0]} after purging {gap} sessions "
            f"and setting {valid_length} apart: raise train_sessions or lower embargo, horizon or valid_sessions"
        )
    return Fold(index, train, valid, test, holdout)
