"""Changes of a panel that must not change a feature: the future, the split basis, the order of symbols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from features.panel import Array, Events, Panel

PRICES = ("open", "high", "low", "close")
PER_SHARE = ("eps_estimate", "eps_actual", "surprise")
NONSENSE = 1e4


def poison_after(panel: Panel, last: int, seed: int) -> Panel:
    """Nonsense in everything that is known only after session `last`: prices, universe, events, series.

    Dates inside later events are moved to before `last`, so that a feature that places an event
    by its period or its announcement, not by when it became known, shows it.
    """
    rng = np.random.default_rng(seed)
    rest = (len(panel.dates) - last - 1, len(panel.symbols))

    def noise(name: str) -> Array:
        wild = NONSENSE * np.exp(rng.normal(size=rest))
        wild[rng.random(rest) < 0.2] = np.nan
        return (rng.random(rest) < 0.5).astype(float) if name == "level_break" else wild

    return replace(
        panel,
        fields={name: np.concatenate([panel[name][: last + 1], noise(name)]) for name in panel.fields},
        universe=np.concatenate([panel.universe[: last + 1], rng.random(rest) < 0.5]),
        events={name: _poison_events(panel.events[name], panel, last, rng) for name in panel.events},
        series={name: np.append(values[: last + 1], noise(name)[:, 0]) for name, values in panel.series.items()},
    )


def _poison_events(events: Events, panel: Panel, last: int, rng: np.random.Generator) -> Events:
    late = int(np.searchsorted(events.session, last + 1))
    count = len(events) - late

    def garble(column: NDArray) -> NDArray:
        kept, rest = column[:late], column[late:]
        if column.dtype.kind == "f":
            return np.concatenate([kept, -NONSENSE * np.exp(rng.normal(size=count))])
        if column.dtype.kind == "M":
            days_before = rng.integers(1, 60, count).astype("timedelta64[D]")
            return np.concatenate([kept, (panel.dates[last] - days_before).astype(column.dtype)])
        if column.dtype.kind == "b":
            return np.concatenate([kept, ~rest])
        return np.concatenate([kept, rng.permutation(rest)])

    session = np.sort(rng.integers(last + 1, len(panel.dates), count))
    return Events(
        np.concatenate([events.session[:late], session]),
        np.concatenate([events.symbol[:late], rng.integers(0, len(panel.symbols), count)]),
        {name: garble(column) for name, column in events.values.items()},
    )


def shuffle_after(panel: Panel, last: int, seed: int) -> Panel:
    """The true values of everything known only after session `last`, in another order of sessions and symbols."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([np.arange(last + 1), rng.permutation(np.arange(last + 1, len(panel.dates)))])
    columns = rng.permutation(len(panel.symbols))

    def mix(values: NDArray) -> NDArray:
        out = values[rows]
        out[last + 1 :] = out[last + 1 :, columns]
        return out

    def mix_events(events: Events) -> Events:
        late = int(np.searchsorted(events.session, last + 1))
        order = np.concatenate([np.arange(late), late + rng.permutation(len(events) - late)])
        return replace(
            events, symbol=events.symbol[order], values={name: column[order] for name, column in events.values.items()}
        )

    return replace(
        panel,
        fields={name: mix(values) for name, values in panel.fields.items()},
        universe=mix(panel.universe),
        events={name: mix_events(events) for name, events in panel.events.items()},
        series={name: values[rows] for name, values in panel.series.items()},
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
        sector=panel.sector[order],
        events={name: reorder(events) for name, events in panel.events.items()},
    )
