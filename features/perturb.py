"""Changes of a panel that must not change a feature: the future, the split basis, the order of symbols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from features.panel import Events, Panel

PRICES = ("open", "high", "low", "close", "vwap")
PER_SHARE = ("eps_estimate", "eps_actual", "surprise")
NONSENSE = 1e4


def scramble_after(panel: Panel, last: int, seed: int) -> Panel:
    """Another future: what is known only after session `last` is shuffled, and half of it poisoned.

    Shuffled values look true; poisoned ones are absurd. Dates inside later events are moved to
    before `last`, so that a feature that places an event by its period or its announcement, not by
    when it became known, shows it.
    """
    rng = np.random.default_rng(seed)
    later, size = len(panel.dates) - last - 1, len(panel.symbols)
    rows, columns = last + 1 + rng.permutation(later), rng.permutation(size)

    def future(name: str, values: NDArray) -> NDArray:
        wild = NONSENSE * np.exp(rng.normal(size=(later, size)))
        if name in ("universe", "level_break"):
            wild = np.round(rng.random(wild.shape))
        else:
            wild[rng.random(wild.shape) < 0.2] = np.nan
        mixed = np.where(rng.random(wild.shape) < 0.5, values[rows][:, columns], wild)
        return np.concatenate([values[: last + 1], mixed.astype(values.dtype)])

    return replace(
        panel,
        fields={name: future(name, panel[name]) for name in panel.fields},
        universe=future("universe", panel.universe),
        events={name: _other_events(panel.events[name], panel, last, rng) for name in panel.events},
        series={name: np.append(values[: last + 1], -values[rows]) for name, values in panel.series.items()},
    )


def _other_events(events: Events, panel: Panel, last: int, rng: np.random.Generator) -> Events:
    late = int(np.searchsorted(events.session, last + 1))
    order = late + rng.permutation(len(events) - late)
    poisoned = rng.random(len(order)) < 0.5

    def future(column: NDArray) -> NDArray:
        rest = column[order]
        if column.dtype.kind == "f":
            rest[poisoned] = -NONSENSE * np.exp(rng.normal(size=poisoned.sum()))
        elif column.dtype.kind == "M":
            back = rng.integers(1, 60, poisoned.sum()).astype("timedelta64[D]")
            rest[poisoned] = (panel.dates[last] - back).astype(column.dtype)
        elif column.dtype.kind == "b":
            rest[poisoned] = ~rest[poisoned]
        return np.concatenate([column[:late], rest])

    return Events(
        np.append(events.session[:late], np.sort(rng.integers(last + 1, len(panel.dates), len(order)))),
        np.append(events.symbol[:late], events.symbol[order]),
        {name: future(column) for name, column in events.values.items()},
    )


def rescale(panel: Panel, factor: NDArray[np.float64]) -> Panel:
    """The panel as it would be on another split basis: prices times k, volume and shares outstanding divided by k.

    Prices as traded (`close_unadjusted`) and per-share figures as reported stay: a later split does not change them.

    Parameters
    ----------
    factor
        `(N,)` k of each symbol.
    """
    fields = dict(panel.fields)
    for name in PRICES:
        if name in fields:
            fields[name] = panel[name] * factor
    fields["volume"] = panel["volume"] / factor
    return replace(panel, fields=fields, events=_scaled(panel.events, "filings", ("shares",), 1.0 / factor))


def rescale_per_share(panel: Panel, factor: NDArray[np.float64]) -> Panel:
    """The panel of a vendor that restates announced per-share figures for splits: all of a symbol's times k."""
    return replace(panel, events=_scaled(panel.events, "earnings", PER_SHARE, factor))


def _scaled(
    tables: Mapping[str, Events], table: str, columns: tuple[str, ...], factor: NDArray[np.float64]
) -> dict[str, Events]:
    out = dict(tables)
    if table in tables:
        events = tables[table]
        values = {
            name: column * factor[events.symbol] if name in columns else column
            for name, column in events.values.items()
        }
        out[table] = replace(events, values=values)
    return out


def only(panel: Panel, columns: NDArray[np.int64]) -> Panel:
    """The panel of some symbols, by ascending position."""
    place = np.full(len(panel.symbols), -1)
    place[columns] = np.arange(len(columns))

    def narrow(events: Events) -> Events:
        kept = events.take(place[events.symbol] >= 0)
        return replace(kept, symbol=place[kept.symbol])

    return replace(
        panel,
        symbols=panel.symbols[columns],
        fields={name: np.ascontiguousarray(values[:, columns]) for name, values in panel.fields.items()},
        universe=np.ascontiguousarray(panel.universe[:, columns]),
        company=None if panel.company is None else panel.company[:, columns],
        sector=panel.sector[columns],
        events={name: narrow(events) for name, events in panel.events.items()},
    )


def permute(panel: Panel, order: NDArray[np.int64]) -> Panel:
    """The panel with its symbols in another order (`order[new] = old`); events re-sorted to match."""
    place = np.argsort(order)

    def reorder(events: Events) -> Events:
        symbol = place[events.symbol]
        rows = np.lexsort((symbol, events.session))
        values = {name: column[rows] for name, column in events.values.items()}
        return Events(events.session[rows], symbol[rows], values)

    return replace(
        panel,
        symbols=panel.symbols[order],
        fields={name: np.ascontiguousarray(values[:, order]) for name, values in panel.fields.items()},
        universe=np.ascontiguousarray(panel.universe[:, order]),
        company=None if panel.company is None else panel.company[:, order],
        sector=panel.sector[order],
        events={name: reorder(events) for name, events in panel.events.items()},
    )
