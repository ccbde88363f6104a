"""The same proof for what comes before features: cleaning, the panel and the universe.

=========  ======================================================================================
prefix     from the raw rows known by D, the cleaned rows and the universe up to D are the same
lookback   from the raw rows of the declared lookback alone, those of the session D are the same
order      the order of raw rows, and of the cleaned tables' rows and columns, changes nothing
rescale    the split basis of the cleaned prices changes no symbol's membership of the universe
=========  ======================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from core.errors import LeakageError
from features import perturb
from features.assemble import assemble
from features.panel import Dates, Mask, Panel
from features.universe import UniverseRule, universe
from sources.calendar import sessions
from sources.cleaning import LOOKBACKS, clean
from sources.schemas import TABLES, normalise

Tables = Mapping[str, pd.DataFrame]


def prove_cleaning(tables: Tables, universe_rule: UniverseRule, cuts: Sequence[int], seed: int = 0) -> pd.DataFrame:
    """Check the invariances of cleaning, of the panel and of the universe.

    Parameters
    ----------
    tables
        Normalised raw tables by name; `prices` is required.
    cuts
        Positions D in the exchange's sessions from the first to the last price.

    Returns
    -------
    One row a subject and invariance: `feature, invariance, ok, detail`, where `feature` is
    `cleaning:<table>`, `panel` or `universe`, and `detail` is the first failure, or empty.
    """
    days = sessions(*(tables["prices"]["date"].agg(how).date() for how in ("min", "max")))
    outside = [cut for cut in cuts if not 0 <= cut < len(days) - 1]
    if outside or not cuts:
        raise LeakageError(f"cuts {outside or '[]'} outside 0..{len(days) - 2}: choose sessions with a future")
    full = _cleaned(tables, days[0], days[-1])
    panel = assemble(full, days, universe_rule)
    rows: list[tuple[str, str, str]] = []
    for cut in cuts:
        rows += _prefix(tables, full, panel, universe_rule, cut)
        rows += _lookback(tables, full, panel, universe_rule, cut)
    rows += _order(tables, full, panel, universe_rule, seed)
    rows.append(("universe", "rescale", _rescaled(panel, universe_rule, seed)))
    details: dict[tuple[str, str], str] = {}
    for name, invariance, detail in rows:
        details[name, invariance] = details.get((name, invariance)) or detail
    return pd.DataFrame(
        [(name, invariance, not detail, detail) for (name, invariance), detail in details.items()],
        columns=["feature", "invariance", "ok", "detail"],
    )


def _cleaned(tables: Tables, first: np.datetime64, last: np.datetime64) -> dict[str, pd.DataFrame]:
    return clean(tables, first.astype(object), last.astype(object)).tables


def _raw(tables: Tables, days: Dates, cut: int, history: Mapping[str, int] | None) -> dict[str, pd.DataFrame]:
    """Raw rows known by session `cut`; with `history`, only those known in that many sessions up to it."""
    out = {}
    for name, frame in tables.items():
        known_column = TABLES[name].known
        if known_column is None:
            out[name] = frame
            continue
        known = frame[known_column]
        if isinstance(known.dtype, pd.DatetimeTZDtype):
            known = known.dt.tz_convert("UTC").dt.tz_localize(None)
        # Whole days, as a source is read: a post after the close is handed over and must wait for its session.
        day = known.to_numpy("datetime64[D]")
        keep = day <= days[cut]
        if history is not None:
            keep &= day >= days[max(0, cut + 1 - history[name])]
        out[name] = frame[keep].reset_index(drop=True)
    return out


def _span(frame: pd.DataFrame, first: np.datetime64, last: np.datetime64) -> pd.DataFrame:
    """Cleaned rows of the sessions in `[first, last]`; undated tables whole."""
    column = next((name for name in ("session", "date") if name in frame), None)
    if column is None:
        return frame
    when = frame[column].to_numpy("datetime64[D]")
    return frame[(when >= first) & (when <= last)].reset_index(drop=True)


def _prefix(tables: Tables, full: Tables, panel: Panel, rule: UniverseRule, cut: int) -> list[tuple[str, str, str]]:
    days, last = panel.dates, panel.dates[cut]
    known = _cleaned(_raw(tables, days, cut, None), days[0], last)
    rows = [
        (f"cleaning:{name}", "prefix", _difference(_span(frame, days[0], last), known[name]))
        for name, frame in full.items()
    ]
    part = assemble({"prices": known["prices"]}, days[: cut + 1], rule)
    return [*rows, ("universe", "prefix", _membership(panel, part, 0))]


def _lookback(tables: Tables, full: Tables, panel: Panel, rule: UniverseRule, cut: int) -> list[tuple[str, str, str]]:
    days, today = panel.dates, panel.dates[cut]
    near = _cleaned(_raw(tables, days, cut, LOOKBACKS), today, today)
    rows = [
        (f"cleaning:{name}", "lookback", _difference(_span(frame, today, today), near[name]))
        for name, frame in full.items()
    ]
    start = max(0, cut + 1 - rule.lookback)
    prices = _raw({"prices": tables["prices"]}, days, cut, {"prices": LOOKBACKS["prices"] + rule.lookback - 1})
    part = assemble(_cleaned(prices, days[start], today), days[start : cut + 1], rule)
    return [*rows, ("universe", "lookback", _membership(panel, part, len(part.dates) - 1))]


def _order(tables: Tables, full: Tables, panel: Panel, rule: UniverseRule, seed: int) -> list[tuple[str, str, str]]:
    mixed = {name: normalise(name, _shuffled(frame, seed), name) for name, frame in tables.items()}
    again = _cleaned(mixed, panel.dates[0], panel.dates[-1])
    rows = [(f"cleaning:{name}", "order", _difference(frame, again[name])) for name, frame in full.items()]
    other = assemble({name: _shuffled(frame, seed) for name, frame in full.items()}, panel.dates, rule)
    rows.append(("panel", "order", _panel_difference(panel, other)))
    return [*rows, ("universe", "order", _membership(panel, other, 0))]


def _rescaled(panel: Panel, rule: UniverseRule, seed: int) -> str:
    factor = np.random.default_rng(seed).choice([1.0, 2.0, 0.25], len(panel.symbols))
    held = universe(perturb.rescale(panel, factor).fields, rule)
    return _first_cell(panel, panel.universe, held)


def _shuffled(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    columns = [frame.columns[i] for i in rng.permutation(len(frame.columns))]
    return frame.iloc[rng.permutation(len(frame))][columns].reset_index(drop=True)


def _difference(expected: pd.DataFrame, found: pd.DataFrame) -> str:
    """The first difference of two frames that should be equal, or nothing."""
    if list(expected.columns) != list(found.columns):
        return f"columns {list(found.columns)} instead of {list(expected.columns)}"
    if len(expected) != len(found):
        return f"{len(found)} rows instead of {len(expected)}"
    for name in expected:
        old, new = expected[name].reset_index(drop=True), found[name].reset_index(drop=True)
        if not old.equals(new):
            wrong = ~((old == new) | (old.isna() & new.isna())).to_numpy(dtype=bool, na_value=False)
            row = int(np.argmax(wrong))
            key = ", ".join(str(expected[key].iloc[row]) for key in list(expected.columns)[:2])
            return f"column {name!r} at ({key}) is {new.iloc[row]!r} instead of {old.iloc[row]!r}"
    return ""


def _membership(full: Panel, part: Panel, start: int) -> str:
    """Compare the universe of a part of the panel, from its session `start` on; symbols it lacks are not held."""
    first = int(np.searchsorted(full.dates, part.dates[0])) + start
    last = first + len(part.dates) - start
    held = np.zeros((last - first, len(full.symbols)), dtype=bool)
    held[:, np.isin(full.symbols, part.symbols)] = part.universe[start:]
    return _first_cell(full.window(first, last), full.universe[first:last], held)


def _first_cell(panel: Panel, expected: Mask, found: Mask) -> str:
    wrong = np.argwhere(expected != found)
    if not len(wrong):
        return ""
    row, col = wrong[0]
    return f"{panel.symbols[col]} on {panel.dates[row]} is {found[row, col]} instead of {expected[row, col]}"


def _panel_difference(expected: Panel, found: Panel) -> str:
    """Name of the first part of two panels that differs in any bit, or nothing."""
    if not np.array_equal(expected.symbols, found.symbols) or not np.array_equal(expected.sector, found.sector):
        return "the symbols or their sectors differ"
    for name, values in {**expected.fields, **expected.series}.items():
        other = {**found.fields, **found.series}[name]
        if values.tobytes() != other.tobytes():
            return f"field {name!r} differs"
    for table, events in expected.events.items():
        other_events = found.events[table]
        pairs = {"session": (events.session, other_events.session), "symbol": (events.symbol, other_events.symbol)}
        pairs |= {name: (column, other_events.values[name]) for name, column in events.values.items()}
        for name, (old, new) in pairs.items():
            if old.dtype != new.dtype or old.tobytes() != new.tobytes():
                return f"events {table!r}: column {name!r} differs"
    return ""
