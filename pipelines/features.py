"""Stage `features@FAMILY`: one family's features for every universe row -> data/features/FAMILY."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from core.files import atomic_directory, write_json
from core.progress import progress
from features.panel import Panel
from features.registry import FAMILIES, Feature
from features.store import write_values
from pipelines.layout import CLEAN, FEATURES
from pipelines.panels import load_panel
from pipelines.stage import Settings, block_of, one_argument, run_stage


def describe(feature: Feature) -> dict[str, object]:
    """A feature's declaration, as kept beside its values and in the bundle."""
    return {
        "name": feature.name,
        "family": feature.family,
        "lookback": feature.lookback,
        "inputs": list(feature.inputs),
        "units": feature.units,
        "sign": feature.sign,
        "reference": feature.reference,
        "doc": feature.doc,
    }


def split_available(features: Sequence[Feature], panel: Panel) -> tuple[list[Feature], list[Feature]]:
    """Features whose inputs the panel holds, and those whose inputs it lacks (said once on standard error)."""
    missing = {feature.name: feature.missing(panel) for feature in features}
    built = [feature for feature in features if not missing[feature.name]]
    skipped = [feature for feature in features if missing[feature.name]]
    if skipped:
        names = ", ".join(feature.name for feature in skipped)
        print(f"skipped for want of {', '.join(sorted({*chain(*missing.values())}))}: {names}", file=sys.stderr)
    return built, skipped


def write_family(folder: Path, panel: Panel, features: Sequence[Feature]) -> int:
    """Compute and write the features of one family; what cannot be computed is listed as skipped.

    Returns
    -------
    int
        Features that were computed.
    """
    built, skipped = split_available(features, panel)
    values = {feature.name: feature(panel) for feature in progress(built, folder.name)}
    with atomic_directory(folder) as temporary:
        if values:
            write_values(temporary / "values", values, panel.dates, panel.symbols, panel.universe)
        write_json(
            temporary / "features.json",
            {"built": [describe(feature) for feature in built], "skipped": [feature.name for feature in skipped]},
        )
    return len(built)


def main(settings: Settings, family: str) -> None:
    """Compute the family that the command line names."""
    params = block_of(settings.features, family, "features.families")
    panel = load_panel(CLEAN, settings.universe)
    features = FAMILIES[family].build(params)
    built = write_family(FEATURES / family, panel, features)
    print(f"{family}: {built} of {len(features)} features for {int(panel.universe.sum()):,} rows")


if __name__ == "__main__":
    run_stage(main, one_argument("family"))
