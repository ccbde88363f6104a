"""The proof that a feature may be used: what must not matter does not change a bit of it.

====================  =================================================================================
prefix                computed without the sessions after D, the rows up to D are the same
future                shuffling and poisoning everything after D changes no row up to D
lookback              computed from the last `lookback` sessions alone, the row of D is the same
rescale               another split basis of some symbols (prices, volume, shares), or another basis of
                      announced per-share figures, changes nothing
order                 the order of the symbols changes nothing
inputs                it reads no field, event table or series that it does not declare
defined               it has finite values at the cuts: without any, nothing was proven
====================  =================================================================================

Equality is of bits, as stored; only factors that are no powers of two are allowed a tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import LeakageError, SignalsError
from features import perturb
from features.cleaning_invariance import prove_cleaning
from features.panel import Panel
from features.registry import Feature

__all__ = ["INVARIANCES", "prove", "prove_cleaning", "require", "spread_cuts"]

INVARIANCES = ("prefix", "future", "lookback", "rescale", "order", "inputs", "defined")

MARGIN = 63
"""Rows up to D that a prefix must reproduce: a late filing may change what a leak wrote weeks earlier."""
ROWS = 3
"""Rows up to D that the other changes must reproduce."""
AHEAD = 42
"""Sessions after D that the future is made of."""
TOLERANCE = 1e-5
"""Relative, for factors that round; values below the typical size are measured against that."""

ALWAYS_VISIBLE = ("level_break",)
"""Fields that only ever blank a value, so that no feature needs to declare them."""

Values = NDArray[np.float32]


def spread_cuts(panel: Panel, count: int = 2) -> list[int]:
    """Sessions at which to prove: evenly over the universe's span up to near its end.

    An event table that has no row in the weeks before any of them adds the middle of its own span.
    """
    held = np.flatnonzero(panel.universe.any(axis=1))
    if not len(held):
        raise LeakageError("the universe is empty at every session: nothing can be proven; loosen the universe's rule")
    stop = max(len(held) - AHEAD, 1)
    cuts = {int(held[(i + 1) * stop // count - 1]) for i in range(count)}
    for events in panel.events.values():
        if len(events) and not any(len(events.between(cut + 1 - AHEAD, cut + 1)) for cut in cuts):
            cuts.add(int(np.median(events.session)))
    return sorted(cut for cut in cuts if cut < len(panel.dates) - 1)


def prove(
    features: Sequence[Feature], panel: Panel, cuts: Sequence[int], seed: int = 0, symbols: int | None = None
) -> pd.DataFrame:
    """Check every invariance of every feature.

    Parameters
    ----------
    features
        Those whose inputs the panel holds.
    cuts
        Positions D of sessions. Before each there should be the longest lookback, after each at least one session.
    symbols
        Prove on a panel of so many symbols, drawn by `seed`, to save time; all when None.

    Returns
    -------
    One row a feature and invariance: `feature, invariance, ok, detail` (the first failure, or empty).
    """
    outside = [cut for cut in cuts if not 0 <= cut < len(panel.dates) - 1]
    if outside or not cuts:
        raise LeakageError(f"cuts {outside or '[]'} outside 0..{len(panel.dates) - 2}: choose sessions with a future")
    if symbols is not None and symbols < len(panel.symbols):
        drawn = np.random.default_rng(seed).permutation(len(panel.symbols))[:symbols]
        panel = perturb.only(panel, np.sort(drawn))
    record = _Record(panel)
    full = _full(features, panel, cuts, record)
    for number, cut in enumerate(cuts):
        _prefix(features, panel, cut, full, record)
        _near(features, panel, cut, full, record, seed + number)
    return record.frame(features, cuts)


def require(report: pd.DataFrame) -> None:
    """Raise unless everything in a report holds.

    Raises
    ------
    LeakageError
        Names the first feature and invariance, and how many others failed.
    """
    failed = report[~report["ok"]]
    if len(failed):
        row = failed.iloc[0]
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise LeakageError(
            f"feature {row['feature']!r} fails the invariance {row['invariance']!r}: {row['detail']}{more}; "
            "correct it or leave it out"
        )


class _Record:
    """First failure of every (feature, invariance)."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.failures: dict[tuple[str, str], str] = {}
        self.finite: dict[str, int] = {}

    def fail(self, name: str, invariance: str, detail: str) -> None:
        self.failures.setdefault((name, invariance), detail)

    def compute(self, feature: Feature, panel: Panel, invariance: str) -> Values | None:
        """Values, or None with the failure noted: what cannot be computed on a changed panel depends on the change."""
        try:
            with np.errstate(all="ignore"):
                return feature(panel)
        except (SignalsError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            self.fail(feature.name, invariance, f"cannot be computed: {type(error).__name__}: {error}")
            return None

    def same(self, name: str, invariance: str, old: Values, new: Values, last: int, change: str) -> None:
        """Compare rows that end with session `last`, bit by bit."""
        old, new = np.ascontiguousarray(old), np.ascontiguousarray(new)
        self._note(name, invariance, old.view(np.uint32) != new.view(np.uint32), old, new, last, change)

    def close(self, name: str, invariance: str, old: Values, new: Values, last: int, change: str) -> None:
        """Compare rows that end with session `last`, up to rounding."""
        if not np.isfinite(old).any():
            return
        size = np.maximum(np.abs(old), np.nanmedian(np.abs(old)))
        near = np.abs(new - old) <= TOLERANCE * size
        self._note(name, invariance, ~(near | (np.isnan(old) & np.isnan(new))), old, new, last, change)

    def _note(
        self, name: str, invariance: str, wrong: NDArray, old: Values, new: Values, last: int, change: str
    ) -> None:
        if wrong.any():
            row, col = np.argwhere(wrong)[-1]
            date, symbol = self.panel.dates[last - len(old) + 1 + row], self.panel.symbols[col]
            self.fail(
                name, invariance, f"{change}: {symbol} on {date} is {new[row, col]:.9g} instead of {old[row, col]:.9g}"
            )

    def frame(self, features: Sequence[Feature], cuts: Sequence[int]) -> pd.DataFrame:
        for feature in features:
            if not self.finite[feature.name]:
                detail = (
                    f"no finite value at the cuts ({', '.join(str(self.panel.dates[cut]) for cut in cuts)}): it looks "
                    f"back on up to {feature.lookback} sessions and {max(cuts) + 1} are there: give more history"
                )
                self.fail(feature.name, "defined", detail)
        keys = [(feature.name, invariance) for feature in features for invariance in INVARIANCES]
        details = [self.failures.get(key, "") for key in keys]
        return pd.DataFrame(
            {
                "feature": [name for name, _ in keys],
                "invariance": [invariance for _, invariance in keys],
                "ok": [not detail for detail in details],
                "detail": details,
            }
        )


def _full(
    features: Sequence[Feature], panel: Panel, cuts: Sequence[int], record: _Record
) -> dict[tuple[str, int], Values]:
    """The rows before each cut, computed on everything; whole columns are not kept."""
    rows = {}
    for feature in features:
        values = feature(panel)
        for cut in cuts:
            rows[feature.name, cut] = values[max(0, cut + 1 - MARGIN) : cut + 1].copy()
        record.finite[feature.name] = sum(int(np.isfinite(rows[feature.name, cut]).sum()) for cut in cuts)
    return rows


def _prefix(
    features: Sequence[Feature], panel: Panel, cut: int, full: dict[tuple[str, int], Values], record: _Record
) -> None:
    known = panel.cut(cut)
    for feature in features:
        old, new = full[feature.name, cut], record.compute(feature, known, "prefix")
        if new is not None:
            record.same(feature.name, "prefix", old, new[-len(old) :], cut, "without the future")


def _near(
    features: Sequence[Feature], panel: Panel, cut: int, full: dict[tuple[str, int], Values], record: _Record, seed: int
) -> None:
    """Every invariance but the prefix; only the sessions near D are computed.

    The changes are made once, on the widest span, and each feature is handed the sessions it needs.
    """
    widest = max(feature.lookback for feature in features) + ROWS - 1
    start = max(0, cut + 1 - widest)
    around = panel.window(start, min(len(panel.dates), cut + 1 + AHEAD))
    today = cut - start
    changes = list(_changes(around, today, seed))
    order = np.random.default_rng(seed).permutation(len(panel.symbols))
    permuted, back = perturb.permute(around, order), np.argsort(order)

    for lookback in sorted({feature.lookback for feature in features}):
        low = max(0, today + 1 - lookback - ROWS + 1)
        rows = slice(max(0, today - low - ROWS + 1), today - low + 1)
        alone, base, mixed = panel.tail(cut, lookback), _since(around, low), _since(permuted, low)
        changed = [(invariance, text, exact, _since(variant, low)) for invariance, text, exact, variant in changes]
        for feature in (feature for feature in features if feature.lookback == lookback):
            name = feature.name

            new = record.compute(feature, alone, "lookback")
            if new is not None:
                record.same(name, "lookback", full[name, cut][-1:], new[-1:], cut, f"from {lookback} sessions alone")
            old = record.compute(feature, base, "lookback")
            if old is None:
                continue
            for invariance, text, exact, variant in changed:
                new = record.compute(feature, variant, invariance)
                if new is not None:
                    (record.same if exact else record.close)(name, invariance, old[rows], new[rows], cut, text)
            new = record.compute(feature, mixed, "order")
            if new is not None:
                record.same(name, "order", old[rows], new[rows][:, back], cut, "symbols in another order")
            new = record.compute(feature, _declared(base, feature), "inputs")
            if new is not None:
                record.same(name, "inputs", old[rows], new[rows], cut, f"with {', '.join(feature.inputs)} alone")


def _since(panel: Panel, start: int) -> Panel:
    return panel.window(start, len(panel.dates))


def _changes(around: Panel, today: int, seed: int) -> Iterator[tuple[str, str, bool, Panel]]:
    """Changed panels: invariance, what was done, whether bits must be equal, the panel."""
    yield "future", "another future", True, perturb.scramble_after(around, today, seed)
    rng = np.random.default_rng(seed)
    for factors, exact in (((2.0, 0.25), True), ((3.0, 7.0), False)):
        # Two independent draws, so that a price over a per-share figure does not cancel.
        basis, per_share = rng.choice([1.0, *factors], (2, len(around.symbols)))
        text = f"another split basis, or per-share figures, by {factors[0]:g} or {factors[1]:g}"
        yield "rescale", text, exact, perturb.rescale_per_share(perturb.rescale(around, basis), per_share)


def _declared(panel: Panel, feature: Feature) -> Panel:
    """The panel without what the feature does not declare."""
    shown = {*feature.reads, *ALWAYS_VISIBLE}
    return replace(
        panel,
        fields={name: values for name, values in panel.fields.items() if name in shown},
        events={name: events for name, events in panel.events.items() if name in shown},
        series={name: values for name, values in panel.series.items() if name in shown},
    )
