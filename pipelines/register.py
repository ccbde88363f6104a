"""`signals register`: put what the stages wrote into MLflow and judge it by the gates."""

from __future__ import annotations

from pathlib import Path

from core.errors import DataError, GovernanceError
from core.files import read_json, read_parquet
from governance.evidence import Training
from governance.gates import GovernanceRule
from governance.ledger import Ledger
from governance.lineage import collect_lineage
from governance.places import LEDGER
from governance.policy import load_policy
from governance.projection import Registration, project
from governance.reports import log_comparison
from governance.trust import state_now
from pipelines.compare import write_comparison
from pipelines.console import Printer
from pipelines.layout import BUNDLE, CLEAN, REPORTS, TRAIN, TUNE
from pipelines.promote import gate_rows, next_commands
from pipelines.remote import require_ledger

SERVED_MODEL = Path("models/served_model.py")


def register(root: Path, printer: Printer | None = None) -> Registration:
    """Register the bundle on disk, or find it registered, and print how it stands to the gates."""
    require_ledger("register")
    policy = load_policy(root)
    manifest = read_json(root / BUNDLE / "manifest.json")
    studies = {layer: root / TUNE / layer / "trials.parquet" for layer in manifest["layers"]}
    trials = {layer: len(read_parquet(path, ["trial"])) for layer, path in studies.items()}
    training = Training(
        bundle=root / BUNDLE,
        reports=root / REPORTS,
        tune=root / TUNE,
        train=root / TRAIN,
        served_model=root / SERVED_MODEL,
    )
    lineage = collect_lineage(
        root,
        root / BUNDLE,
        read_json(root / BUNDLE / "features.json"),
        tables=root / CLEAN,
        trials=trials,
        holdout_openings=len(Ledger(root / LEDGER).read().of_kind("holdout_opened")),
        reports=training.kept,
    )
    horizon = read_json(root / BUNDLE / "params.json")["target"]["horizon"]
    registered = project(root, policy, training, lineage, horizon)
    printer = printer or Printer()
    _show(registered, printer)
    _compare(root, policy, registered, printer)
    return registered


def _show(registered: Registration, printer: Printer) -> None:
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


def _compare(root: Path, policy: GovernanceRule, registered: Registration, printer: Printer) -> None:
    """Show the reviewer how the version stands to the champion, on the days of both."""
    champion = state_now(root, policy).champion
    if champion is None or champion.payload["version"] == registered.version:
        return
    try:
        written = write_comparison(root, str(registered.version))
    except (DataError, GovernanceError) as error:
        printer.warning(f"not compared with the champion: {error}")
        return
    log_comparison(root, registered.run_id, root / written.folder)
    printer.line(f"against the champion: {written.result.sentence}")
