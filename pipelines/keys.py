"""`signals keys`: make a key pair, and show whose signature counts."""

from __future__ import annotations

from pathlib import Path

from governance.keys import VARIABLE, create_key, read_ring
from governance.ledger import Ledger
from governance.lineage import author
from governance.places import KEYS, LEDGER
from pipelines.console import Printer


def new(root: Path, by: str | None) -> None:
    """Make a key pair and print what to add to keys.yaml."""
    path, key = create_key(by or author(root), root)
    printer = Printer()
    printer.line(f"private key of {key.person}: {path} (keep it to yourself; found there by itself, or by {VARIABLE})")
    printer.line(f"to let it count, add these lines to {KEYS} under `keys:`; have the change reviewed, and commit it:")
    printer.line(f"  - person: '{key.person}'")
    printer.line(f"    public: '{key.public}'")


def show(root: Path) -> None:
    """List the keys that count, and the number that revokes one from now on."""
    printer = Printer()
    ring = read_ring(root)
    if not ring.keys:
        printer.line(f"{KEYS} names no key: decisions are UNSIGNED; `signals keys new --by 'Name <email>'` makes one")
        return
    rows = [
        (key.person, key.public[:16], "yes" if key.revoked is None else f"revoked from record {key.revoked} on")
        for key in ring.keys
    ]
    printer.table("Keys", ("person", "public key", "counts"), rows)
    records = Ledger(root / LEDGER).read().records
    printer.line(f"to revoke one from now on, add `revoked: {len(records)}` to its entry in {KEYS}; never remove it")
