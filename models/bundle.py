"""The stack on disk: everything that a day's signals need, in text files that are checked by digest.

::

    manifest.json     format, features, layers, what they look back on, sha256 of every file, the digest of all that
    features.json     declaration of every feature (family, lookback, inputs, units)
    params.json       the parameters that the stack was made with
    stack.json        chosen rung, market states, slope and calibrator of the meta-learner
    profile.json      what the rows looked like: quantiles and coverage of each feature, silences of the feeds
    layers/<name>/    the fitted layer
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import BundleError, DataError
from core.files import (
    FilesInMemory,
    Readable,
    atomic_directory,
    canonical_json,
    differences,
    digest_bytes,
    digest_tree,
    read_json,
    write_json,
)
from models.dataset import Dataset
from models.inputs import session_bounds
from models.layers.base import LAYERS, Layer
from models.meta import Meta, fill_scale, layer_column
from models.profile import profile

FORMAT = 2
MANIFEST = "manifest.json"
TOP_REASONS = 3

Column = NDArray[np.float64]


def write_bundle(
    folder: Path,
    *,
    layers: Mapping[str, Layer],
    meta: Meta,
    declared: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any],
    dataset: Dataset,
    feeds: Mapping[str, Mapping[str, int]],
) -> str:
    """Write a bundle, whole or not at all; the same parts give the same bytes.

    Parameters
    ----------
    layers
        Fitted layers by name, those of `meta`.
    declared
        Declaration of each column of `dataset.X`, with at least `name` and `lookback`.
    params
        Parameters that the stack was made with, as plain values.
    dataset
        Rows that the layers learned from, for the profile.
    feeds
        Silences of the event tables (see `features.feeds`), for the profile.

    Returns
    -------
    str
        The bundle's digest.

    Raises
    ------
    BundleError
        The parts do not belong together.
    """
    if tuple(sorted(layers)) != meta.layers:
        raise BundleError(f"bundle: layers {sorted(layers)} are not the stack's {list(meta.layers)}: run `dvc repro`")
    names = [str(item["name"]) for item in declared]
    if tuple(names) != dataset.features:
        raise BundleError("bundle: the declared features are not the dataset's: run `dvc repro` to remake both")
    with atomic_directory(folder) as temporary:
        write_json(temporary / "features.json", list(declared))
        write_json(temporary / "params.json", params)
        write_json(temporary / "stack.json", meta.to_dict())
        write_json(temporary / "profile.json", {**profile(dataset), "feeds": feeds})
        for name in meta.layers:
            part = temporary / "layers" / name
            part.mkdir(parents=True)
            layers[name].save(part)
        manifest = {
            "format": FORMAT,
            "features": names,
            "layers": list(meta.layers),
            "lookback": _lookback(layers),
            "market_lookback": _market_lookback(layers, meta),
            "files": digest_tree(temporary),
        }
        digest = _digest(manifest)
        write_json(temporary / MANIFEST, {**manifest, "digest": digest})
    return digest


@dataclass(frozen=True, eq=False)
class Bundle:
    """A stack read from disk, ready to predict.

    Attributes
    ----------
    features
        Names of the features that the layers read, in order.
    declared
        Their declarations.
    params
        Parameters that the stack was made with.
    digest
        Digest of the manifest's content: the bundle's identity.
    lookback
        Sessions of rows, the predicted one included, that a prediction reads.
    market_lookback
        Sessions of the market's return, the predicted one included, that a prediction reads; 0 for none.
    """

    features: tuple[str, ...]
    declared: tuple[Mapping[str, Any], ...]
    params: Mapping[str, Any]
    profile: Mapping[str, Any]
    layers: Mapping[str, Layer]
    meta: Meta
    digest: str
    lookback: int
    market_lookback: int

    @classmethod
    def load(cls, folder: Path, verify: bool = True, wait: bool = True) -> Bundle:
        """Read a bundle; its files are read once, and those bytes are checked against their digests before any is used.

        Parameters
        ----------
        wait
            Whether to wait for the layers. Otherwise they are read in a thread (the libraries that they import take
            longer than all the rest), and what is wrong with one is raised when the first is asked for.

        Raises
        ------
        BundleError
            A file is missing, unexpected or altered, or the format is not known here.
        """
        folder = Path(folder)
        with _readable(folder):
            files = FilesInMemory.read(folder)
        manifest = read_manifest(files)
        if verify:
            _verify(files, manifest)
        with _readable(folder):
            return cls(
                features=tuple(manifest["features"]),
                declared=tuple(read_json(files / "features.json")),
                params=read_json(files / "params.json"),
                profile=read_json(files / "profile.json"),
                layers=(_read_layers if wait else _Awaited)(files, manifest["layers"]),
                meta=Meta.from_dict(read_json(files / "stack.json")),
                digest=manifest["digest"],
                lookback=manifest["lookback"],
                market_lookback=manifest["market_lookback"],
            )

    def predict(self, data: Dataset, scale: NDArray[np.floating], first: int = 0, reasons: bool = True) -> pd.DataFrame:
        """Signals of whole sessions.

        Parameters
        ----------
        data
            The universe of one or more sessions, after the sessions that the layers look back on, with the market
            returns that regimes are told by; outcomes are not looked at.
        scale : (R,)
            Volatility of each predicted row's outcome; where unknown, the session's median, else the stack's own.
        first
            The first session to predict.
        reasons
            Whether to explain each row; takes about as long as a hundred predictions.

        Returns
        -------
        DataFrame
            A line each of the R rows from `first` on: `date, symbol, rank` (1 the best), `signal`, `signal_<x>` for
            each layer, `expected_return, interval_low, interval_high` (fractions), `p_wrong`, and with `reasons`
            `top_reasons`: the features that add most to the signal, with their share of it.

        Raises
        ------
        DataError
            A feature of the bundle is missing.
        """
        data = data.with_columns(self.features)
        rows = data.since(first)
        parts = {name: self._context(data, layer, first) for name, layer in self.layers.items()}
        predictions = {name: layer.predict(parts[name], first) for name, layer in self.layers.items()}
        signal, scores = self.meta.signal(predictions, rows)
        width = fill_scale(scale, rows.session)
        width[np.isnan(width)] = self.meta.scale
        frame = rows.keys().assign(rank=_rank(signal, rows.session), signal=signal)
        for name in self.meta.layers:
            frame[layer_column(name)] = scores[name]
        expected = signal * self.meta.slope
        unknown = np.full(len(rows), np.nan)
        calibrator = self.meta.calibrator
        low, high = calibrator.interval(expected, width) if calibrator else (unknown, unknown)
        frame = frame.assign(
            expected_return=expected,
            interval_low=low,
            interval_high=high,
            p_wrong=calibrator.p_wrong(expected, width) if calibrator else unknown,
        )
        if reasons:
            added = {name: layer.contributions(parts[name], first) for name, layer in self.layers.items()}
            frame["top_reasons"] = self._reasons(rows, predictions, added)
        return frame

    @staticmethod
    def _context(data: Dataset, layer: Layer, first: int) -> Dataset:
        """The rows that a layer reads: no more than it looks back on."""
        return data.since(first - layer.lookback + 1)

    def _reasons(
        self, rows: Dataset, predictions: Mapping[str, Column], added: Mapping[str, NDArray[np.float64]]
    ) -> list[str]:
        """Each row's largest contributions; over all features they add up to the row's signal (trees: nearly)."""
        weights = dict(zip(self.meta.layers, self.meta.row_weights(rows).T, strict=True))
        parts = np.zeros((len(rows), len(self.features)))
        for name in self.layers:
            parts += weights[name][:, None] * _standardised(added[name], predictions[name], rows)
        parts = _standardised(parts, parts.sum(axis=1), rows)
        order = np.argsort(-np.abs(parts), axis=1, kind="stable")[:, :TOP_REASONS]
        return [
            "; ".join(f"{self.features[column]} {parts[row, column]:+.2f}" for column in chosen)
            for row, chosen in enumerate(order)
        ]


def _read_layers(folder: FilesInMemory, names: Sequence[str]) -> dict[str, Layer]:
    with _readable(folder.place):
        return {name: LAYERS[name].load(folder / "layers" / name) for name in names}


class _Awaited(Mapping[str, Layer]):
    """The layers of a bundle, read in a thread from the moment that this is made; who asks for one waits."""

    def __init__(self, folder: FilesInMemory, names: Sequence[str]) -> None:
        pool = ThreadPoolExecutor(1)
        self._read = pool.submit(_read_layers, folder, names)
        pool.shutdown(wait=False)

    def __getitem__(self, name: str) -> Layer:
        return self._read.result()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read.result())

    def __len__(self) -> int:
        return len(self._read.result())


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Turn what can be wrong with a bundle's files into a `BundleError`."""
    try:
        yield
    except (DataError, KeyError, TypeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"{folder} cannot be read ({reason}): make the bundle again with `dvc repro`") from error


def _lookback(layers: Mapping[str, Layer]) -> int:
    return max(layer.lookback for layer in layers.values())


def _market_lookback(layers: Mapping[str, Layer], meta: Meta) -> int:
    return max(meta.market_lookback, *(layer.market_lookback for layer in layers.values()))


def read_manifest(folder: Readable) -> dict[str, Any]:
    """The manifest of a bundle, with its own digest checked.

    Raises
    ------
    BundleError
        It is missing, altered, or of an unknown format.
    """
    path = folder / MANIFEST
    try:
        manifest = read_json(path)
    except DataError:
        raise BundleError(f"{path} is missing or not JSON: make the bundle again with `dvc repro`") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise BundleError(f"{path}: format {found!r} is not known here, only {FORMAT}: use the release that wrote it")
    if _digest(manifest) != manifest.get("digest"):
        raise BundleError(f"{path} was altered after it was written: make the bundle again with `dvc repro`")
    return manifest


def _digest(manifest: Mapping[str, Any]) -> str:
    content = {key: value for key, value in manifest.items() if key != "digest"}
    return digest_bytes(canonical_json(content).encode())


def _verify(folder: FilesInMemory, manifest: Mapping[str, Any]) -> None:
    found = folder.digests()
    del found[MANIFEST]
    if problems := differences(manifest["files"], found):
        raise BundleError(f"bundle {folder}: {problems[0]}: make the bundle again with `dvc repro`")


def _rank(signal: Column, session: NDArray[np.int32]) -> NDArray[np.int64]:
    """1 for the highest signal of a session; equal signals rank in the order of their rows."""
    out = np.empty(len(signal), dtype=np.int64)
    bounds = session_bounds(session)
    for first, last in pairwise(bounds):
        out[first + np.argsort(-signal[first:last], kind="stable")] = np.arange(1, last - first + 1)
    return out


def _standardised(parts: NDArray[np.float64], total: Column, rows: Dataset) -> NDArray[np.float64]:
    """Parts less their session's mean, over the standard deviation of what they add up to."""
    out = np.zeros_like(parts)
    bounds = session_bounds(rows.session)
    for first, last in pairwise(bounds):
        deviation = total[first:last].std()
        if deviation > 0:
            out[first:last] = (parts[first:last] - parts[first:last].mean(axis=0)) / deviation
    return out
