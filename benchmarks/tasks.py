"""What `features.py` measures, one task a process: `python benchmarks/tasks.py TASK JSON`.

Imports come late, so that a process pays for what its task needs and for nothing else.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import zlib
from pathlib import Path
from typing import Any

FIELDS = ("open", "high", "low", "close", "volume")
WINDOWS = (5, 10, 20, 30, 60)
BLOCK = 256
"""Symbols that are streamed at a time."""
NEAR_ZERO = 1e-2
"""Values below this share of a feature's typical size are compared with that size instead of their own."""


def dense_prices(file: str) -> tuple[dict[str, Any], Any, Any, Any]:
    """A price table as `(T, N)` float32 arrays, its sessions and symbols, and where there is a row."""
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(file).combine_chunks()
    coded = table["symbol"].combine_chunks().dictionary_encode()
    names = coded.dictionary.to_numpy(zero_copy_only=False).astype(str)
    order = np.argsort(names)
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(len(names))
    when = table["date"].to_numpy().astype("datetime64[D]")
    dates = np.unique(when)
    flat = np.searchsorted(dates, when) * len(names) + place[coded.indices.to_numpy()]
    shape = (len(dates), len(names))
    fields = {}
    for name in FIELDS:
        fields[name] = np.full(shape, np.nan, dtype=np.float32)
        fields[name].reshape(-1)[flat] = table[name].to_numpy()
    return fields, dates, names[order], np.isfinite(fields["close"])


def alpha158(work: dict[str, Any]) -> dict[str, Any]:
    """Prices in, all features in memory."""
    fields, _, _, _ = dense_prices(work["prices"])
    from features.kernels.alpha158 import alpha158 as compute

    started = time.perf_counter()
    out = compute(fields, WINDOWS)
    return {"features": len(out), "compute_s": round(time.perf_counter() - started, 3)}


def again(work: dict[str, Any]) -> dict[str, Any]:
    """The computing alone: the second pass in one process, into the same memory."""
    fields, _, _, _ = dense_prices(work["prices"])
    from features.kernels.alpha158 import alpha158 as compute

    out = compute(fields, WINDOWS)
    started = time.perf_counter()
    compute(fields, WINDOWS, out=out)
    return {"compute_s": round(time.perf_counter() - started, 3)}


def store(work: dict[str, Any]) -> dict[str, Any]:
    """Prices in, features written to the Parquet store."""
    fields, dates, symbols, rows = dense_prices(work["prices"])
    from features.kernels.alpha158 import alpha158 as compute
    from features.kernels.alpha158 import names
    from features.store import write_values

    out = compute(fields, WINDOWS)
    started = time.perf_counter()
    folder = Path(work["scratch"]) / "store"
    write_values(folder, dict(zip(names(WINDOWS), out, strict=True)), dates, symbols, rows)
    written = time.perf_counter() - started
    size = sum(file.stat().st_size for file in folder.rglob("*.parquet"))
    return {"mib": round(size / 2**20), "write_s": round(written, 2)}


def read(work: dict[str, Any]) -> dict[str, Any]:
    """Read the whole store into memory, its files in the page cache."""
    from features.store import read_values

    folder = Path(work["scratch"]) / "store"
    for file in folder.rglob("*.parquet"):
        file.read_bytes()
    started = time.perf_counter()
    table = read_values(folder)
    return {"rows": table.num_rows, "columns": table.num_columns, "read_s": round(time.perf_counter() - started, 3)}


def qlib(work: dict[str, Any]) -> dict[str, Any]:
    """Qlib's Alpha158 handler, without processors, with as many processes as threads were asked for.

    What is told ends with the frame in memory; only then are its values written for `agreement` to read.
    """
    import qlib as library
    from qlib.contrib.data.handler import Alpha158

    library.init(
        provider_uri=str(Path(work["scratch"]) / "qlib"), region="us", kernels=work["threads"],
        expression_cache=None, dataset_cache=None, logging_level=40,
    )  # fmt: skip
    started = time.perf_counter()
    handler = Alpha158(instruments="all", infer_processors=[], learn_processors=[])
    load = time.perf_counter() - started
    frame = handler.fetch(col_set="feature")
    told = {
        "values": {"load_s": round(load, 2), "rows": len(frame), "columns": frame.shape[1]},
        "wall_s": time.time() - work["started"],
        **usage(workers=work["threads"]),
    }
    frame.reset_index().to_parquet(Path(work["scratch"]) / "qlib.parquet", index=False)
    return told


def usage(workers: int = 0) -> dict[str, float]:
    """CPU seconds and peak memory of this process, and of as many children that ran at the same time."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    scale = 1024.0 if sys.platform != "darwin" else 1024.0**2
    return {
        "cpu_s": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
        "peak_mib": (own.ru_maxrss + children.ru_maxrss * workers) / scale,
    }


def agreement(work: dict[str, Any]) -> dict[str, Any]:
    """Share of values within 1e-4 of Qlib's, a feature, where both are defined; with Qlib's logarithm in CORR.

    A window beside missing rows is left out: there definitions differ (see `features/kernels/alpha158.py`).
    """
    import numpy as np
    import pyarrow.parquet as pq

    from features.kernels import rolling_count
    from features.kernels.alpha158 import alpha158 as compute
    from features.kernels.alpha158 import names

    fields, dates, symbols, rows = dense_prices(work["prices"])
    out = compute(fields, WINDOWS, one_share=1.0)
    file = pq.ParquetFile(Path(work["scratch"]) / "qlib.parquet")
    keys = file.read(["datetime", "instrument"])
    row = np.searchsorted(dates, keys["datetime"].to_numpy().astype("datetime64[D]"))
    lower = np.array([name.upper() for name in symbols])
    order = np.argsort(lower)
    names_there = keys["instrument"].to_numpy(zero_copy_only=False).astype(str)
    column = order[np.searchsorted(lower[order], np.char.upper(names_there))]
    traded = np.where(rows & (fields["volume"] > 0), 1.0, np.nan)
    first = np.where(rows.any(axis=0), rows.argmax(axis=0), len(dates))
    age = np.arange(len(dates))[:, None] - first
    whole = {w: (rolling_count(traded, w + 1) >= np.minimum(w + 1, age + 1)) & (age >= 0) for w in (1, *WINDOWS)}
    result: dict[str, Any] = {}
    worst, compared, differing = 1.0, 0, 0
    for at, name in enumerate(names(WINDOWS)):
        theirs = file.read([name])[name].to_numpy()
        window = next((w for w in WINDOWS if name.endswith(str(w)) and name[: -len(str(w))].isalpha()), 1)
        ours = out[at][row, column]
        both = np.isfinite(theirs) & np.isfinite(ours) & whole[window][row, column]
        if not both.any():
            continue
        size = np.maximum(np.abs(theirs[both]), NEAR_ZERO * np.median(np.abs(theirs[both])))
        apart = np.abs(ours[both] - theirs[both]) > 1e-4 * size
        compared += int(both.sum())
        differing += int(apart.sum())
        share = 1.0 - float(apart.mean())
        worst = min(worst, share)
        if apart.any():
            result[name] = {"within": round(share, 7), "apart": int(apart.sum())}
    return {"compared": compared, "apart": differing, "worst_share": round(worst, 6), "features_with_any": result}


def sized(work: dict[str, Any]) -> dict[str, Any]:
    """The computing alone on `symbols` times `years`, the output's memory touched before."""
    from features.kernels.alpha158 import alpha158 as compute

    fields = tile(dense_prices(work["prices"])[0], work["symbols"], work["years"])
    out = compute(fields, WINDOWS)
    started = time.perf_counter()
    compute(fields, WINDOWS, out=out)
    return {"compute_s": round(time.perf_counter() - started, 2), "out_mib": round(out.nbytes / 2**20)}


def stream(work: dict[str, Any]) -> dict[str, Any]:
    """All symbols times all years, a block of symbols at a time, each dropped after its checksum."""
    from features.kernels.alpha158 import alpha158 as compute

    fields = dense_prices(work["prices"])[0]
    started = time.perf_counter()
    checksum, values, out = 0, 0, None
    for low in range(0, work["symbols"], BLOCK):
        block = tile(fields, min(BLOCK, work["symbols"] - low), work["years"], low)
        if out is not None and out.shape[1:] != block["close"].shape:
            out = None
        out = compute(block, WINDOWS, out=out)
        checksum = zlib.adler32(out.data, checksum)
        values += out.size
    return {"values": values, "checksum": checksum, "stream_s": round(time.perf_counter() - started, 1)}


def tile(fields: dict[str, Any], symbols: int, years: int, skip: int = 0) -> dict[str, Any]:
    """Prices repeated over symbols and sessions up to a size, from the symbol `skip` on."""
    import numpy as np

    sessions, names = fields["close"].shape
    columns = (np.arange(symbols) + skip) % names
    rows = np.arange(years * 252) % sessions
    return {name: np.ascontiguousarray(values[rows][:, columns]) for name, values in fields.items()}


def families(work: dict[str, Any]) -> dict[str, Any]:
    """Every feature of every family on a panel of all tables, as the stages compute them."""
    from features.registry import FAMILIES, build_features

    panel = bundle_panel(work["bundle"])
    features = [item for item in build_features(dict.fromkeys(FAMILIES.names())) if item.available(panel)]
    seconds: dict[str, float] = {}
    for feature in features:
        started = time.perf_counter()
        feature(panel)
        seconds[feature.family] = seconds.get(feature.family, 0.0) + time.perf_counter() - started
    return {
        "features": len(features),
        "compute_s": round(sum(seconds.values()), 2),
        "family_s": {name: round(value, 2) for name, value in seconds.items()},
    }


def day(work: dict[str, Any]) -> dict[str, Any]:
    """The features of one session from stored panels, all families, as the daily job computes them."""
    from features.registry import FAMILIES, build_features
    from pipelines.day import last_rows

    panel = widen(bundle_panel(work["bundle"]), work["symbols"])
    features = [item for item in build_features(dict.fromkeys(FAMILIES.names())) if item.available(panel)]
    panel = panel.tail(len(panel.dates) - 1, max(feature.lookback for feature in features))
    last_rows(panel, features)
    fresh = panel.tail(len(panel.dates) - 1, len(panel.dates))
    started = time.perf_counter()
    values = last_rows(fresh, features)
    return {
        "symbols": len(panel.symbols),
        "features": values.shape[-1],
        "compute_s": round(time.perf_counter() - started, 3),
    }


def bundle_panel(folder: str) -> Any:
    """The panel of a folder of raw tables, cleaned."""
    from features.assemble import assemble
    from features.universe import UniverseRule
    from pipelines.panels import session_range
    from sources.base import open_source
    from sources.cleaning import clean

    source = open_source("files", Path(folder), {})
    tables = {name: source.read(name) for name in source.tables()}
    prices = tables["prices"]
    cleaned = clean(tables, prices["date"].min().date(), prices["date"].max().date())
    return assemble(cleaned.tables, session_range(cleaned.tables["prices"]), UniverseRule())


def widen(panel: Any, symbols: int) -> Any:
    """A panel of as many symbols as wanted, those beyond its own repeated under new names."""
    from dataclasses import replace

    import numpy as np

    from features.panel import Events

    size = len(panel.symbols)
    column = np.arange(symbols) % size

    def repeat(events: Events) -> Events:
        copies = [np.flatnonzero(events.symbol + first < symbols) for first in range(0, symbols, size)]
        rows = np.concatenate(copies)
        symbol = np.concatenate([events.symbol[kept] + copy * size for copy, kept in enumerate(copies)])
        order = np.lexsort((symbol, events.session[rows]))
        values = {name: array[rows][order] for name, array in events.values.items()}
        return Events(events.session[rows][order], symbol[order], values)

    return replace(
        panel,
        symbols=np.array([f"{name}_{at // size}" for at, name in enumerate(panel.symbols[column])]),
        fields={name: np.ascontiguousarray(values[:, column]) for name, values in panel.fields.items()},
        universe=np.ascontiguousarray(panel.universe[:, column]),
        sector=panel.sector[column],
        events={name: repeat(events) for name, events in panel.events.items()},
    )


if __name__ == "__main__":
    found = globals()[sys.argv[1]](json.loads(sys.argv[2]))
    print(json.dumps(found if "values" in found and "wall_s" in found else {"values": found, **usage()}))
