"""The emergency stop: in force at once, whatever ails MLflow; lifted by a decision alone; told in the history."""

from datetime import UTC, datetime, timedelta

import pytest

from core.errors import GovernanceError
from governance import promotion
from governance.guard import serving
from governance.trust import read_state

OLGA, ROB = "Olga Operator", "Rob Reviewer <rob@example.org>"


def freeze(world, by=OLGA, reason="feed is wrong"):
    return promotion.freeze(world.root, world.policy, by, reason)


def unfreeze(world, by=ROB, reason="feed is right again"):
    return promotion.unfreeze(world.root, world.policy, by, reason)


def state(world):
    return read_state(world.root, world.ledger().read(), world.policy.require_signatures)


def test_nothing_is_served_or_promoted_until_it_is_lifted(governed):
    done = freeze(governed)
    pattern = r"^frozen by Olga Operator at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: feed is wrong; .*signals unfreeze"
    with pytest.raises(GovernanceError, match=pattern):
        serving(governed.root)
    with pytest.raises(GovernanceError, match=pattern):
        governed.promote(2)
    with pytest.raises(GovernanceError, match="already frozen by Olga"):
        freeze(governed, ROB)
    unfreeze(governed)
    assert serving(governed.root).version == 1
    assert serving(governed.root).warnings == ()
    with pytest.raises(GovernanceError, match="no stop is in force"):
        unfreeze(governed)
    governed.promote(2)
    assert [(s.record.seq, s.ended_by is not None) for s in state(governed).stops] == [(done.record.seq, True)]


def test_it_can_be_looked_up_later(governed):
    before = datetime.now(UTC)
    called = freeze(governed).record.at
    lifted = unfreeze(governed).record.at
    freeze(governed, reason="again")
    found = state(governed)
    assert found.stop_at(before) is None
    assert found.stop_at(called).record.payload["reason"] == "feed is wrong"
    assert found.stop_at(lifted) is None or lifted == called
    assert found.stop_at(datetime.now(UTC) + timedelta(1)).record.payload["reason"] == "again"


def test_a_rollback_is_possible_under_a_stop(governed):
    governed.promote(2)
    freeze(governed)
    promotion.rollback(governed.root, governed.policy, OLGA, "the version is to blame")
    unfreeze(governed)
    assert serving(governed.root).version == 1


def test_the_stop_does_not_wait_for_mlflow(governed):
    (governed.root / "mlruns/mlflow.db").write_bytes(b"rubbish" * 100)
    done = freeze(governed)
    assert "the stop is in force, but MLflow could not be told" in done.notes[0]
    assert state(governed).stop.record == done.record
    with pytest.raises(GovernanceError, match="frozen by Olga"):
        serving(governed.root)


def test_a_key_that_cannot_sign_does_not_keep_anyone_from_stopping(governed, tmp_path, monkeypatch):
    monkeypatch.setenv("SIGNALS_KEY", str(tmp_path / "lost.key"))
    done = freeze(governed)
    assert "the stop is not signed: the private key" in done.notes[0]
    assert state(governed).stop.record == done.record


def test_a_stop_that_was_cut_off_is_missed(governed):
    freeze(governed)
    lines = governed.ledger().path.read_text().splitlines(keepends=True)
    governed.ledger().path.write_text("".join(lines[:-1]))
    with pytest.raises(GovernanceError, match="has lost records"):
        serving(governed.root)


@pytest.mark.parametrize("act", [freeze, unfreeze])
def test_it_needs_a_name_and_a_reason(governed, act):
    with pytest.raises(GovernanceError, match="needs a name"):
        act(governed, by=" ")
    with pytest.raises(GovernanceError, match="needs a reason"):
        act(governed, reason=" ")


def test_anyone_may_stop_but_only_a_key_may_go_on(governed, add_key, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    governed.policy = governed.policy.model_copy(update={"require_signatures": True})
    freeze(governed, "Somebody who saw it")
    with pytest.raises(GovernanceError, match="has no key"):
        unfreeze(governed)
    governed.ledger().append("unfrozen", ROB, {"reason": "forged"})
    assert state(governed).stop.record.actor == "Somebody who saw it"
    with pytest.raises(GovernanceError, match="frozen by Somebody"):
        serving(governed.root, require_signatures=True)
    add_key(governed.root, ROB)
    unfreeze(governed)
    assert state(governed).stop is None
