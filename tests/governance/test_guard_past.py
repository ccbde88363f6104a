"""Which version a session of the past is served by: the one that was in production then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.errors import GovernanceError
from governance import promotion
from governance.guard import serving

TICK = timedelta(microseconds=1)


def changes(world) -> list[datetime]:
    return [record.at for record in world.ledger().read().of_kind("promoted", "rolled_back")]


def test_each_moment_has_its_champion(governed) -> None:
    governed.promote(2)
    first, second = changes(governed)
    assert serving(governed.root, at=first).version == 1
    assert serving(governed.root, at=second - TICK).version == 1
    assert serving(governed.root, at=second).version == 2
    past = serving(governed.root, at=first)
    assert past.warnings == ()
    assert not past.hindsight


def test_before_the_first_promotion_the_present_champion_stands_in(governed) -> None:
    governed.promote(2)
    served = serving(governed.root, at=changes(governed)[0] - TICK)
    assert served.version == 2
    assert served.hindsight
    assert not serving(governed.root).hindsight


def test_a_version_that_was_rolled_back_since_says_so(governed) -> None:
    governed.promote(2)
    promotion.rollback(governed.root, governed.policy, "Olga Operator", "the feed was wrong")
    _, second, third = changes(governed)
    served = serving(governed.root, at=second)
    assert served.version == 2
    assert "version 2 was rolled back" in served.warnings[0]
    assert "the feed was wrong" in served.warnings[0]
    assert serving(governed.root, at=third).version == serving(governed.root).version == 1


def test_a_time_without_a_champion_is_refused(governed) -> None:
    promotion.rollback(governed.root, governed.policy, "Olga Operator", "nothing is good enough")
    gone = changes(governed)[-1]
    governed.promote(2)
    with pytest.raises(GovernanceError, match="no version was in production at"):
        serving(governed.root, at=gone)
    assert serving(governed.root).version == 2


def test_what_is_stored_must_hold_today(governed) -> None:
    governed.promote(2)
    first, second = changes(governed)
    stored = (governed.root / "mlruns/artifacts").rglob("weights.json")
    for path in stored:
        path.write_text("{}")
    for moment in (first, second):
        with pytest.raises(GovernanceError, match=r"no version may be served: .*weights.json was changed"):
            serving(governed.root, at=moment)


def test_a_waiver_is_judged_on_the_day_that_is_asked_for(world) -> None:
    world.train(t=1.0)
    version = world.register().version
    world.approve(version)
    until = datetime.now(UTC).date() + timedelta(days=5)
    promotion.waive(world.root, world.policy, version, "rank_ic_t", "Rob R <rob@x.org>", "a trial on paper", until)
    world.promote(version)
    late = datetime.now(UTC) + timedelta(days=30)
    with pytest.raises(GovernanceError, match="its waiver is missing or has expired"):
        serving(world.root, now=late)
    then = serving(world.root, now=late, at=changes(world)[0] + TICK)
    assert [waiver["gate"] for waiver in then.waivers] == ["rank_ic_t"]


def test_a_stop_in_force_now_stops_the_past_too(governed) -> None:
    moment = changes(governed)[0]
    promotion.freeze(governed.root, governed.policy, "Olga Operator", "prices are wrong")
    with pytest.raises(GovernanceError, match="frozen by Olga Operator"):
        serving(governed.root, at=moment)
    promotion.unfreeze(governed.root, governed.policy, "Olga Operator", "prices are right")
    assert serving(governed.root, at=moment).version == 1


def test_the_past_is_told_by_the_records_that_count(governed) -> None:
    with pytest.raises(GovernanceError, match="no champion"):
        serving(governed.root, at=changes(governed)[0], require_signatures=True)
