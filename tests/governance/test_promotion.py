"""From a training on disk to a served version, and every way a decision is refused."""

from datetime import UTC, datetime, timedelta

import pytest

from core.errors import ConfigError, GovernanceError
from governance import promotion
from governance.audit import audit
from governance.describe import LONGEST_TAG
from governance.guard import serving
from governance.registry import read_registry
from governance.state import State

AUTHOR = "Ann Author <ann@example.org>"
REVIEWER = "Rob Reviewer <rob@example.org>"
NOW = datetime.now(UTC)
SOON = NOW.date() + timedelta(days=30)


def waive(world, gate, by=REVIEWER, reason="on trial with small size", until=SOON, version=1):
    return promotion.waive(world.root, world.policy, version, gate, by, reason, until)


def aliases(world):
    return dict(read_registry(world.root, world.policy.model).aliases)


def tags(world, version):
    return read_registry(world.root, world.policy.model).versions[version].tags


def test_a_reviewed_version_is_promoted_and_served(world):
    registered = world.register()
    assert [v.gate for v in registered.verdicts if not v.passed] == []
    with pytest.raises(GovernanceError, match=r"no champion: version 1 waits.*signals promote 1"):
        serving(world.root)
    world.approve(1)
    world.promote(1)
    served = serving(world.root)
    assert (served.version, served.warnings, served.waivers) == (1, (), ())
    assert (served.bundle_path / "weights.json").is_file()
    assert served.digest == registered.bundle_digest
    assert aliases(world) == {"candidate": 1, "champion": 1}
    assert tags(world, 1)["review.status"] == "approved"
    assert tags(world, 1)["gates.verdict"] == "pass"


def test_the_next_version_succeeds_and_a_rollback_restores(governed):
    governed.promote(2)
    assert serving(governed.root).version == 2
    assert aliases(governed) == {"candidate": 2, "champion": 2, "previous_champion": 1}
    done = promotion.rollback(governed.root, governed.policy, "Olga", "loses money")
    assert done.record.payload["to"] == 1
    assert serving(governed.root).version == 1
    assert aliases(governed) == {"candidate": 2, "champion": 1}
    promotion.rollback(governed.root, governed.policy, "Olga", "loses too")
    with pytest.raises(GovernanceError, match="no champion"):
        serving(governed.root)
    with pytest.raises(GovernanceError, match="no champion to roll back"):
        promotion.rollback(governed.root, governed.policy, "Olga", "again")


def test_history_says_who_reigned_when(governed):
    before = datetime.now(UTC)
    governed.promote(2)
    promotion.rollback(governed.root, governed.policy, "Olga", "loses money")
    state = State(governed.ledger().read())
    assert [r.version for r in state.reigns] == [1, 2, 1]
    assert state.reigns[-1].until is None
    assert state.reign_at(before).version == 1
    assert state.reign_at(state.reigns[1].since).version == 2
    assert state.reign_at(datetime.now(UTC)).version == 1
    assert state.reign_at(state.reigns[0].since - timedelta(seconds=1)) is None


def test_a_version_that_was_rolled_back_is_no_fallback_of_a_later_one(governed):
    governed.promote(2)
    promotion.rollback(governed.root, governed.policy, "Olga", "loses money")
    state = State(governed.ledger().read())
    assert [r.payload["version"] for r in state.line] == [1]


@pytest.mark.parametrize(
    "by", [AUTHOR, "ann author", "ANN AUTHOR <other@example.org>", "A. A. <ANN@example.org>", "ann@example.org"]
)
def test_the_author_may_not_approve_under_any_spelling(governed, by):
    with pytest.raises(GovernanceError, match="must come from someone else"):
        governed.approve(2, by)


def test_without_the_second_person_rule_the_author_may(governed):
    governed.policy = governed.policy.model_copy(update={"require_second_person": False})
    governed.train(weight=3.0, rank_ic=0.07, seed=3)
    assert governed.register().version == 3
    governed.approve(3, AUTHOR)
    governed.promote(3)
    assert serving(governed.root, require_second_person=False).version == 3
    served = serving(governed.root)
    assert served.version == 1
    assert "its own author" in served.warnings[0]


def test_a_review_needs_a_name_and_a_comment(governed):
    with pytest.raises(GovernanceError, match="needs a name"):
        governed.approve(2, "  ")
    with pytest.raises(GovernanceError, match="needs a comment"):
        promotion.review(governed.root, governed.policy, 2, "approved", REVIEWER, " ")


def test_promotion_needs_an_approval(world):
    world.register()
    with pytest.raises(GovernanceError, match="nobody has approved it"):
        world.promote(1)
    promotion.review(world.root, world.policy, 1, "rejected", REVIEWER, "drawdown in 2009")
    with pytest.raises(GovernanceError, match=r"rejected it \(drawdown in 2009\)"):
        world.promote(1)
    world.approve(1)
    world.promote(1)
    with pytest.raises(GovernanceError, match="champion already"):
        world.promote(1)
    with pytest.raises(GovernanceError, match="signals rollback"):
        promotion.review(world.root, world.policy, 1, "rejected", REVIEWER, "second thoughts")


def test_a_failing_gate_blocks_until_it_is_waived(world):
    world.train(t=1.0)
    world.register()
    world.approve(1)
    with pytest.raises(GovernanceError, match=r"gate rank_ic_t fails \(test.stack.rank_ic_t = 1, must be >= 3\)"):
        world.promote(1)
    waive(world, "rank_ic_t")
    assert "on trial" in tags(world, 1)["waiver.rank_ic_t"]
    assert "WAIVED" in world.sql("SELECT description FROM model_versions WHERE version = 1")[0][0]
    record = world.promote(1).record
    assert [gate["gate"] for gate in record.payload["failed"]] == ["rank_ic_t"]
    served = serving(world.root)
    assert [waiver["gate"] for waiver in served.waivers] == ["rank_ic_t"]
    late = datetime.combine(SOON + timedelta(days=1), datetime.min.time(), UTC)
    with pytest.raises(GovernanceError, match=r"rank_ic_t fails and its waiver is missing or has expired"):
        serving(world.root, now=late)
    assert serving(world.root, now=late - timedelta(seconds=1)).version == 1


def test_what_a_waiver_may_not_do(world):
    world.train(t=1.0)
    (world.training.reports / "invariances.json").write_text('{"ok": false, "checked": 3, "failed": []}')
    world.register()
    today = datetime.now(UTC).date()
    for change, message in (
        ({"gate": "rank_ic"}, "does not block version 1"),
        ({"gate": "turnover"}, "does not block version 1"),
        ({"gate": "invariances"}, "may not be waived"),
        ({"by": AUTHOR}, "must come from someone else"),
        ({"reason": "because"}, "at least 10 characters"),
        ({"until": today - timedelta(days=1)}, "not possible"),
        ({"until": today + timedelta(days=91)}, "not possible"),
        ({"version": 9}, "version 9 is not in the ledger"),
    ):
        with pytest.raises(GovernanceError, match=message):
            waive(world, **{"gate": "rank_ic_t", **change})


def test_the_champion_is_compared_again_when_promoting(governed):
    """Version 3 beat version 1 when it was registered; by now version 2 serves, which is better."""
    governed.train(weight=3.0, rank_ic=0.04, seed=2)
    governed.register()
    governed.approve(3)
    governed.promote(2)
    with pytest.raises(GovernanceError, match=r"beats_champion fails .*against version 2"):
        governed.promote(3)
    waive(governed, "beats_champion", version=3)
    assert [gate["gate"] for gate in governed.promote(3).record.payload["failed"]] == ["beats_champion"]


def test_a_worse_champion_lets_a_version_pass_that_failed_before(governed):
    governed.promote(2)
    governed.train(weight=3.0, rank_ic=0.04, seed=2)
    assert [v.gate for v in governed.register().verdicts if v.blocks] == ["beats_champion"]
    governed.approve(3)
    promotion.rollback(governed.root, governed.policy, "Olga", "loses money")
    assert governed.promote(3).record.payload["failed"] == []


def test_a_review_of_older_evidence_does_not_count(world):
    world.register()
    world.approve(1)
    world.train(rank_ic=0.02)
    again = world.register()
    assert (again.version, again.created) == (1, True)
    with pytest.raises(GovernanceError, match="nobody has approved it"):
        world.promote(1)


def test_a_stored_artifact_that_was_edited_blocks_promotion(governed):
    weights = next((governed.root / "mlruns/artifacts").rglob("weights.json"))
    for path in (governed.root / "mlruns/artifacts").rglob("weights.json"):
        path.write_text("{}")
    assert weights.is_file()
    with pytest.raises(GovernanceError, match=r"artifacts/bundle/weights.json was changed"):
        governed.promote(2)


def test_an_alias_stands_for_its_version(governed):
    assert promotion.version_number(governed.root, governed.policy, "candidate") == 2
    assert promotion.version_number(governed.root, governed.policy, "17") == 17
    with pytest.raises(GovernanceError, match=r"no alias \(aliases: candidate, champion\)"):
        promotion.version_number(governed.root, governed.policy, "challenger")


def test_a_crash_after_the_ledger_is_put_right_by_the_next_command(governed, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(promotion.Desk, "write", lambda desk, *record: (desk.ledger.append(*record), crash()))
        with pytest.raises(KeyboardInterrupt):
            governed.promote(2)
    assert aliases(governed)["champion"] == 1
    served = serving(governed.root)
    assert served.version == 2
    assert "the next governance command sets it back" in served.warnings[0]
    done = governed.approve(2, "Vera <vera@example.org>")
    assert aliases(governed)["champion"] == 2
    assert "alias champion was version 1, the ledger says version 2: set back" in done.notes
    assert serving(governed.root).warnings == ()


def test_a_hand_set_review_tag_approves_nothing(world):
    world.register()
    world.sql("UPDATE model_version_tags SET value = 'approved' WHERE key = 'review.status'")
    with pytest.raises(GovernanceError, match="nobody has approved it"):
        world.promote(1)
    assert tags(world, 1)["review.status"] == "pending"


BAD = {
    "Latin-1": "gepr\udcfcft, in Ordnung",
    "half": "fine \ud83d",
    "NUL": "fine\x00",
    "escape": "\x1b[2J fine",
    "long": "a" * 101_000,
}
DECISIONS = {
    "review": lambda world, by, text: promotion.review(world.root, world.policy, 2, "rejected", by, text),
    "promote": lambda world, by, text: promotion.promote(world.root, world.policy, 2, by, text),
    "waive": lambda world, by, text: waive(world, "rank_ic", by, text, version=2),
    "rollback": lambda world, by, text: promotion.rollback(world.root, world.policy, by, text),
    "freeze": lambda world, by, text: promotion.freeze(world.root, world.policy, by, text),
    "unfreeze": lambda world, by, text: promotion.unfreeze(world.root, world.policy, by, text),
}


@pytest.mark.parametrize("decide", DECISIONS.values(), ids=DECISIONS)
def test_what_is_no_text_is_refused_before_anything_is_recorded(governed, decide):
    before = governed.ledger().path.read_bytes()
    for bad in BAD.values():
        with pytest.raises(ConfigError, match=r"write it as UTF-8|leave it out|shorten"):
            decide(governed, REVIEWER, bad)
        with pytest.raises(ConfigError, match=r"the name for .*(write it as UTF-8|leave it out|shorten)"):
            decide(governed, bad, "a good reason")
    assert governed.ledger().path.read_bytes() == before


@pytest.mark.parametrize(
    "bad", [BAD[name] for name in ("Latin-1", "half", "NUL", "long")], ids=lambda text: ascii(text[:8])
)
def test_a_record_of_an_earlier_release_does_not_end_governance(governed, bad):
    """Ledgers hold text that MLflow does not take; there it is escaped or cut, in the ledger it stays."""
    world, registration = governed, State(governed.ledger().read()).registration(2).payload
    same = {name: registration[name] for name in ("version", "bundle_digest", "evidence")}
    world.ledger().append("reviewed", REVIEWER, {**same, "status": "approved", "comment": bad})
    reason = {"reason": bad, "gate": "rank_ic", "until": SOON.isoformat()}
    world.ledger().append("waived", bad, {**same, **reason})
    assert "signals freeze" not in str(promotion.freeze(world.root, world.policy, "Olga", "prices are wrong").notes)
    assert promotion.unfreeze(world.root, world.policy, "Grace", "right again").notes == ()
    assert world.register().version == 2
    world.promote(2)
    assert serving(world.root).version == 2
    promotion.rollback(world.root, world.policy, "Olga", "loses money")
    assert audit(world.root, world.policy, world.root / "signals").broken == ()
    assert tags(world, 2)["review.comment"].isprintable() or "..." in tags(world, 2)["review.comment"]
    assert bad in {record.payload.get("comment") for record in world.ledger().read().of_kind("reviewed")}


def test_the_longest_tag_is_what_mlflow_takes():
    from mlflow.utils.validation import MAX_MODEL_REGISTRY_TAG_VALUE_LENGTH

    assert LONGEST_TAG == MAX_MODEL_REGISTRY_TAG_VALUE_LENGTH
