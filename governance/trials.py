"""Every trial ever run counts: those behind earlier versions deflate a later one's Sharpe ratio too.

References
----------
Bailey, D. H. and López de Prado, M. (2014). The deflated Sharpe ratio. Journal of Portfolio Management 40(5).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from core.files import canonical_json, digest_bytes, read_parquet
from governance.state import State

_LENGTH = 16


def trial_digests(tune: Path) -> tuple[str, ...]:
    """A digest of each trial below a folder of studies, one folder a layer: what was tried, and what it came to."""
    found = set()
    for path in sorted(tune.glob("*/trials.parquet")):
        for row in read_parquet(path).drop(columns="trial").to_dict("records"):
            found.add(digest_bytes(canonical_json([path.parent.name, row]).encode())[:_LENGTH])
    return tuple(sorted(found))


def trials_ever(state: State, own: Collection[str]) -> int:
    """Number of different trials behind any registration, with those of the one at hand."""
    earlier = (record.payload.get("trials", ()) for record in state.chain.of_kind("registered"))
    return len({*own}.union(*earlier))


def count_every_trial(metrics: Mapping[str, Any], ever: int) -> dict[str, Any]:
    """The metrics with `overfitting.trials_ever`, and `overfitting.dsr_ever` deflated by as many."""
    luck = metrics.get("overfitting")
    if luck is None or luck.get("sharpe_daily") is None:
        return dict(metrics)
    # Imported here: it brings the libraries of the models.
    from models.overfitting import dsr

    deflated = dsr(
        luck["sharpe_daily"], luck["days"], ever, luck["trial_sharpe_variance"], luck["skewness"], luck["kurtosis"]
    )
    return {**metrics, "overfitting": {**luck, "trials_ever": ever, "dsr_ever": deflated}}
