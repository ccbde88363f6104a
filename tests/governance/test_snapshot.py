"""Readers and a decision that is being written: what they see is what was before it, or after it."""

from dataclasses import replace

import pytest

from governance import promotion, snapshot
from governance.audit import audit
from governance.guard import serving
from governance.registry import LEDGER_HEAD, read_registry


@pytest.fixture(params=["champion", "review"])
def half_told(request, governed, monkeypatch):
    """A world in which the first reader comes while MLflow has been told of a decision in all but the head."""

    def decide() -> None:
        if request.param == "champion":
            governed.promote(2)
        else:
            promotion.review(governed.root, governed.policy, 1, "approved", "Vera <vera@example.org>", "once more")

    reads = 0

    def read(root, model):
        nonlocal reads
        reads += 1
        if reads > 1:
            return read_registry(root, model)
        before = read_registry(root, model).tags[LEDGER_HEAD]
        decide()
        now = read_registry(root, model)
        return replace(now, tags={**now.tags, LEDGER_HEAD: before})

    for reader in ("governance.snapshot", "governance.audit"):
        monkeypatch.setattr(f"{reader}.read_registry", read)
    return governed


def test_a_half_told_decision_is_no_doubt(half_told):
    found = serving(half_told.root)
    assert found.version in (1, 2)
    assert found.warnings == ()
    _, state, registry = snapshot.snapshot(half_told.root, "layered-signals", False)
    assert registry.aliases["champion"] == state.champion.payload["version"] == found.version


def test_a_version_that_is_being_registered_is_no_finding(governed, monkeypatch):
    """Its row comes before its record."""
    rows = iter([True, False])

    def read(root, model):
        found = read_registry(root, model)
        made = {3: replace(found.versions[2], version=3)} if next(rows) else {}
        return replace(found, versions={**found.versions, **made})

    monkeypatch.setattr("governance.audit.read_registry", read)
    assert audit(governed.root, governed.policy, governed.root / "signals").broken == ()
    assert next(rows, "read twice") == "read twice"


def test_an_audit_finds_nothing_in_a_half_told_decision(half_told):
    assert audit(half_told.root, half_told.policy, half_told.root / "signals").broken == ()
