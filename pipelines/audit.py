"""`signals audit`: check the whole chain of evidence and print what broke where."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from core.errors import GovernanceError
from core.files import canonical_json
from governance.audit import Audit
from governance.audit import audit as check
from governance.policy import load_policy
from pipelines.console import Printer
from pipelines.layout import SIGNALS


def audit(root: Path, head: str | None = None, as_json: bool = False) -> None:
    """Check everything and print it.

    Raises
    ------
    GovernanceError
        Something broke; everything that did has been printed.
    """
    policy = load_policy(root)
    found = check(root, policy, root / SIGNALS, head)
    if as_json:
        print(canonical_json({"ok": not found.broken, **asdict(found)}))
    else:
        _show(found, policy.require_signatures)
    if found.broken:
        first = found.broken[0]
        more = f" (and {len(found.broken) - 1} more)" if found.broken[1:] else ""
        raise GovernanceError(f"the audit failed: {first.check}, {first.where}: {first.what}{more}")


def _show(found: Audit, signed: bool) -> None:
    printer = Printer()
    printer.line("checked   " + ", ".join(f"{count} {what}" for what, count in found.checked.items()))
    printer.line(f"head      {found.head or 'none'}")
    printer.line(f"decisions {'must be signed with a key of keys.yaml' if signed else 'need no signature'}")
    for note in found.notes:
        printer.warning(note)
    if not found.broken:
        printer.line("nothing broke", "green")
        return
    rows = [(finding.check, finding.where, finding.what) for finding in found.broken]
    printer.table("What broke", ("check", "where", "what"), rows)
    told = ", ".join(f"{count} {check}" for check, count in sorted(Counter(row[0] for row in rows).items()))
    printer.line(f"broken    {told}", "bold red")
