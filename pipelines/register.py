"""`signals register`: put what the stages wrote into MLflow and judge it by the gates."""

from __future__ import annotations

from pathlib import Path

import yaml

from core.errors import ConfigError
from core.files import read_json, read_parquet
from core.params import parse
from governance.evidence import Training
from governance.gates import GovernanceRule
from governance.ledger import Ledger
from governance.lineage import collect_lineage
from governance.places import LEDGER
from governance.projection import Registration, project
from pipelines.console import Printer
from pipelines.layout import BUNDLE, CLEAN, PARAMS, REPORTS, TRAIN, TUNE

SERVED_MODEL = Path("models/served_model.py")


def load_policy(root: Path) -> GovernanceRule:
    """The block `governance` of params.yaml.

    Raises
    ------
    ConfigError
        It is missing or not valid.
    """
    values = _params(root).get("governance")
    if not isinstance(values, dict):
        raise ConfigError(f"{root / PARAMS} has no block `governance`: restore it from git")
    return parse(GovernanceRule, values, "governance")


def register(root: Path, printer: Printer | None = None) -> Registration:
    """Register the bundle on disk, or find it registered, and print how it stands to the gates."""
    policy = load_policy(root)
    manifest = read_json(root / BUNDLE / "manifest.json")
    studies = {layer: root / TUNE / layer / "trials.parquet" for layer in manifest["layers"]}
    trials = {layer: len(read_parquet(path, ["trial"])) for layer, path in studies.items()}
    lineage = collect_lineage(
        root,
        root / BUNDLE,
        manifest["features"],
        tables=root / CLEAN,
        trials=trials,
        holdout_openings=len(Ledger(root / LEDGER).read().of_kind("holdout_opened")),
    )
    training = Training(
        bundle=root / BUNDLE,
        reports=root / REPORTS,
        tune=root / TUNE,
        train=root / TRAIN,
        served_model=root / SERVED_MODEL,
    )
    horizon = (_params(root).get("target") or {}).get("horizon", 5)
    registered = project(root, policy, training, lineage, horizon)
    _show(registered, printer or Printer())
    return registered


def _params(root: Path) -> dict:
    try:
        values = yaml.safe_load((root / PARAMS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{root / PARAMS} is missing: restore it from git") from None
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise ConfigError(f"{root / PARAMS} is not valid YAML ({where}): restore it from git") from None
    return values if isinstance(values, dict) else {}


def _show(registered: Registration, printer: Printer) -> None:
    from pipelines.promote import gate_rows, next_commands

    for note in registered.notes:
        printer.warning(note)
    what = "registered" if registered.created else "was registered before, nothing added"
    printer.line(f"version {registered.version} {what}: bundle {registered.bundle_digest[:12]}, by {registered.author}")
    rows = gate_rows([verdict.to_dict() for verdict in registered.verdicts], {})
    printer.table(f"Gates of version {registered.version}", ("gate", "verdict", "finding"), rows)
    failed = [verdict.gate for verdict in registered.verdicts if verdict.blocks]
    printer.line(
        f"{len(failed)} gate(s) block promotion: {', '.join(failed)}" if failed else "no gate blocks promotion",
        "bold red" if failed else "green",
    )
    printer.line("next:")
    for command in next_commands(registered.version, failed, "pending"):
        printer.line(f"  {command}")
