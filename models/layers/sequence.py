"""Deep networks over the last sessions of each stock: Signal B.

A day's stocks are one batch. Each stock is a window of the last `lookback` sessions of a few features
that move daily, as Gauss ranks within their session; a network (`models.networks`) maps it to a score.
Several networks that differ by their seed alone are trained, each one's scores are standardised within
the session, and their mean is the layer's score: a single seed's rank IC varies by about .005.

torch is imported when a layer is fitted, loaded or asked, and Lightning when one is fitted; not before.

References
----------
Gu, Kelly and Xiu (2020), Empirical asset pricing via machine learning.
Lakshminarayanan, Pritzel and Blundell (2017), Simple and scalable predictive uncertainty estimation
using deep ensembles (why several seeds).
Sundararajan, Taly and Yan (2017), Axiomatic attribution for deep networks.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError, DataError
from core.files import Readable, atomic_file, read_json, write_json
from core.params import Params, parse
from models.dataset import Dataset
from models.inputs import zscores
from models.layers.base import LAYERS, NOTHING_KNOWN, Choice, Range, Space
from models.sequence.params import SequenceParams
from models.sequence.windows import Windows, make_windows

if TYPE_CHECKING:
    from models.networks.base import Network
    from models.sequence.scoring import Days

_STEPS = 16
_SAMPLE_DAYS, _SAMPLE_STEPS = 8, 4


@LAYERS.register("sequence")
class SequenceLayer:
    """The mean of a few networks' standardised scores; stored as JSON and safetensors, no pickle.

    Attributes
    ----------
    channels
        Features that the windows hold, in the order of `features`.
    seed_scores
        Best validation rank IC of each seed's network; empty where no validation span was given.

    Notes
    -----
    The validation span lies behind a gap, so its own rows are all that its windows can reach; those of its
    days whose windows reach back beyond it are not judged, unless none is left. Training days follow the
    same rule. At prediction a window that reaches back beyond the data is filled up with zeros.

    Training may run on another device; prediction is always in float32 on the CPU, one day at a time, so a
    day's scores are the same bits with or without the days around it.
    """

    Params: ClassVar[type[Params]] = SequenceParams
    letter: ClassVar[str | None] = "b"
    space: ClassVar[Space] = {
        "learning_rate": Range(2e-4, 1e-2, log=True),
        "weight_decay": Range(1e-4, 1.0, log=True),
        "dropout": Range(0.0, 0.5),
        "hidden": Choice((16, 32, 64)),
        "lookback": Choice((10, 20, 40)),
    }
    libraries: ClassVar[tuple[str, ...]] = ("torch", "lightning", "safetensors")
    market_lookback = 0
    wants_validation = True

    def __init__(self, params: SequenceParams) -> None:
        self.params = params
        self.lookback = params.lookback
        self.features: tuple[str, ...] = ()
        self.channels: tuple[str, ...] = ()
        self.seed_scores: list[float] = []
        self._networks: list[Network] = []
        self._importance: dict[str, float] = {}

    @classmethod
    def require_machine(cls, params: SequenceParams) -> None:
        """Check that this machine can train with the parameters; to predict takes a CPU whatever they say.

        Raises
        ------
        ConfigError
            It lacks the accelerator, so many devices, or the precision.
        """
        if params.accelerator == "cpu" and isinstance(params.devices, int):
            return
        from models.sequence.training import make_trainer, quiet

        with quiet():
            make_trainer(params, validate=False)

    @property
    def networks(self) -> list[Network]:
        """The fitted networks, one a seed."""
        if not self._networks:
            raise DataError("sequence layer: not fitted yet: call fit, or load a saved layer")
        return self._networks

    def fit(self, train: Dataset, valid: Dataset | None, seed: int) -> Self:
        """Train one network a seed; `valid` decides when each stops.

        Raises
        ------
        ConfigError
            No feature matches any pattern of `channels`.
        DataError
            No row has a known label, no day has enough of them, or the training diverges.
        """
        from models.sequence.scoring import Days
        from models.sequence.training import fit_network

        params = self.params
        self.features, self.channels = train.features, self._choose(train.features)
        windows = self._windows(train)
        learn = self._learnable(windows, train)
        judge = self._judge(valid)
        self._networks, self.seed_scores = [], []
        for state in np.random.SeedSequence(seed).generate_state(params.seeds):
            found = fit_network(params, Days(windows, train.label, learn, int(state)), judge, int(state))
            self._networks.append(found.network)
            if judge is not None:
                self.seed_scores.append(found.best)
        sample = learn[np.unique(np.linspace(0, len(learn) - 1, _SAMPLE_DAYS).astype(np.int64))]
        size = np.abs(self._attributions(windows, sample, _SAMPLE_STEPS)).mean(axis=0)
        share = size / max(size.sum(), 1e-300)
        self._importance = dict.fromkeys(self.features, 0.0) | dict(zip(self.channels, share.tolist(), strict=True))
        return self

    def _choose(self, features: tuple[str, ...]) -> tuple[str, ...]:
        patterns = self.params.channels
        chosen = tuple(name for name in features if any(fnmatchcase(name, pattern) for pattern in patterns))
        if not chosen:
            raise ConfigError(
                f"layers.sequence.channels: none of {', '.join(patterns)} is a feature: "
                f"name some of the dataset's, such as {', '.join(features[:3])}, or switch their family on"
            )
        return chosen

    def _windows(self, data: Dataset) -> Windows:
        return make_windows(data.with_columns(self.channels), self.lookback)

    def _learnable(self, windows: Windows, data: Dataset) -> NDArray[np.int64]:
        """Days to learn from: every k-th session, a whole window, enough known labels."""
        if not data.known.any():
            raise DataError(f"sequence layer: {NOTHING_KNOWN}")
        enough = np.add.reduceat(data.known, windows.bounds[:-1], dtype=np.int64) >= self.params.min_names
        days = np.flatnonzero(enough & windows.whole() & (windows.session % self.params.every == 0))
        if not len(days):
            raise DataError(
                f"sequence layer: no training day has {self.params.min_names} known outcomes: "
                "lower layers.sequence.min_names or every, or lengthen the history"
            )
        return days

    def _judge(self, valid: Dataset | None) -> Days | None:
        """Validation days with an outcome; None where there are none."""
        from models.sequence.scoring import Days

        if valid is None or not valid.known.any():
            return None
        windows = self._windows(valid)
        known = np.add.reduceat(valid.known, windows.bounds[:-1], dtype=np.int64) >= 2
        days = np.flatnonzero(known & windows.whole())
        return Days(windows, valid.label, days) if len(days) else None

    def predict(self, data: Dataset, first: int = 0) -> NDArray[np.float64]:
        """(R,) scores: mean over the seeds of the network's output, standardised within the session."""
        from models.sequence.scoring import Days, score_days

        rows = data.since(first)
        if not len(rows):
            return np.empty(0)
        windows, days = self._asked(data, first)
        asked = Days(windows, np.full(len(windows.column), np.nan, dtype=np.float32), days)
        total = np.zeros(len(rows))
        for network in self.networks:
            total += zscores(score_days(network, asked, self.params.num_threads), rows.session)
        return total / len(self.networks)

    def _asked(self, data: Dataset, first: int) -> tuple[Windows, NDArray[np.int64]]:
        """Windows of what can be looked back on from `first`, and the days from `first` on."""
        # earlier rows change nothing, and would only make the grid larger
        windows = self._windows(data.since(first - self.lookback + 1))
        return windows, np.flatnonzero(windows.session >= first)

    def importance(self) -> dict[str, float]:
        """Share of the mean absolute contribution, over a sample of the training days."""
        return dict(self._importance)

    def contributions(self, data: Dataset, first: int = 0) -> NDArray[np.float64]:
        """(R, F) part of the score that each feature adds, over its whole window; 0 for one that is no channel.

        Integrated gradients of each network's output from a window of zeros (the middle of every
        cross-section), over that output's standard deviation in the session, and the mean of these over the
        seeds. A row's sum is its score up to a constant of the day: the mean that standardising takes off.
        """
        out = np.zeros((len(data.since(first)), len(self.features)))
        if len(out):
            windows, days = self._asked(data, first)
            place = {name: column for column, name in enumerate(self.features)}
            out[:, [place[name] for name in self.channels]] = self._attributions(windows, days, _STEPS)
        return out

    def _attributions(self, windows: Windows, days: NDArray[np.int64], steps: int) -> NDArray[np.float64]:
        """(rows of the days, channels) integrated gradients of the seeds' mean standardised output."""
        from models.sequence.scoring import Days, integrated_gradients, score_days, steady

        asked = Days(windows, np.full(len(windows.column), np.nan, dtype=np.float32), days)
        sizes = np.diff(windows.bounds)[days]
        total = np.zeros((int(sizes.sum()), len(self.channels)))
        for network in self.networks:
            raw = score_days(network, asked, self.params.num_threads)
            with steady(self.params.num_threads):
                for stop, size, batch in zip(np.cumsum(sizes), sizes, asked, strict=True):
                    rows = slice(int(stop - size), int(stop))
                    total[rows] += integrated_gradients(network, batch, steps) * _inverse_deviation(raw[rows])
        return total / len(self.networks)

    def save(self, folder: Path) -> None:
        """Write `sequence.json` and `weights_<seed>.safetensors`."""
        from safetensors.torch import save_file

        stored = {
            "params": self.params.model_dump(),
            "features": self.features,
            "channels": self.channels,
            "importance": self._importance,
            "seed_scores": self.seed_scores,
        }
        write_json(folder / "sequence.json", stored)
        for place, network in enumerate(self.networks):
            with atomic_file(folder / f"weights_{place}.safetensors") as temporary:
                save_file(network.state_dict(), temporary)

    @classmethod
    def load(cls, folder: Readable) -> Self:
        """Read `sequence.json` and the weights.

        Raises
        ------
        DataError
            A file is missing, or the weights are not those of the network that `sequence.json` describes.
        """
        from safetensors import SafetensorError
        from safetensors import torch as tensors

        from models.sequence.scoring import make_network, seeded

        stored = read_json(folder / "sequence.json")
        layer = cls(parse(SequenceParams, stored["params"], "sequence.json"))
        layer.features, layer.channels = tuple(stored["features"]), tuple(stored["channels"])
        layer._importance = {name: stored["importance"][name] for name in layer.features}
        layer.seed_scores = list(stored["seed_scores"])
        for place in range(layer.params.seeds):
            file = folder / f"weights_{place}.safetensors"
            with seeded(0):
                network = make_network(layer.params, len(layer.channels)).eval()
            try:
                network.load_state_dict(tensors.load(file.read_bytes()))
            except (OSError, SafetensorError, RuntimeError) as error:
                raise DataError(f"{file} is missing or not what sequence.json describes: restore or retrain") from error
            layer._networks.append(network)
        return layer


def _inverse_deviation(raw: NDArray[np.float32]) -> float:
    """One over the standard deviation of a session's outputs; 0 where they are all equal."""
    deviation = float(raw.astype(np.float64).std())
    return 1.0 / deviation if raw.max() > raw.min() and deviation > 0 else 0.0
