"""Attacks and accidents: each is refused or detected with its reason, and none serves a wrong model.

A signed world: version 1 was champion, version 2 is, version 3 is registered and reviewed by nobody.
What an attack leaves behind is then served from and audited; neither may write, and whatever is
served must be the very weights that were promoted.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from core.errors import GovernanceError, SignalsError
from core.files import canonical_json, digest_tree, read_json, write_json
from governance import promotion
from governance.audit import audit
from governance.chain import GENESIS, hash_of, signed_bytes
from governance.guard import serving
from governance.keys import read_private
from governance.outputs import manifest_digest, write_manifest
from governance.places import resolve

ROB, OLGA, EVE, VERA = (
    "Rob Reviewer <rob@example.org>",
    "Olga Operator",
    "Eve <eve@evil.org>",
    "Vera <vera@example.org>",
)
DAY = "signals/date=2017-12-29"


@pytest.fixture(scope="module")
def fortress(tmp_path_factory, empty_store, make_world, add_key):
    """The world before the attack; only copied."""
    base = tmp_path_factory.mktemp("fortress")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(base / "config"))
        world = make_world(base / "checkout", empty_store)
        patch.setenv("SIGNALS_ROOT", str(world.root))
        for person in (ROB, OLGA):
            add_key(world.root, person)
        add_key(world.root, VERA, revoked=2)
        keys = (world.root / "keys.yaml").read_text()
        add_key(world.root, EVE)
        (world.root / "keys.yaml").write_text(keys)
        for words in (("add", "keys.yaml"), ("commit", "-qm", "keys")):
            subprocess.run(["git", *words], cwd=world.root, check=True)
        world.policy = world.policy.model_copy(update={"require_signatures": True})
        for version in (1, 2, 3):
            world.train(weight=float(version), rank_ic=0.02 + 0.01 * version, seed=version)
            assert world.register().version == version
            if version < 3:
                world.approve(version)
                world.promote(version)
    promoted = world.ledger().read().of_kind("promoted")[-1]
    folder = world.root / DAY
    folder.mkdir(parents=True)
    for name in ("signals.parquet", "signals.csv"):
        (folder / name).write_text(name)
    origin = {"bundle": promoted.payload["bundle_digest"], "promotion": f"{promoted.seq}:{promoted.hash}"}
    write_manifest(folder, {"date": folder.name.removeprefix("date="), "version": 2, **origin})
    return world


@pytest.fixture
def world(fortress, tmp_path, monkeypatch):
    """A copy to attack."""
    shutil.copytree(fortress.root.parent, tmp_path / "copy")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "copy/config"))
    made = type(fortress)(tmp_path / "copy/checkout", fortress.policy)
    monkeypatch.setenv("SIGNALS_ROOT", str(made.root))
    return made


def serve(world, **options):
    return serving(world.root, require_signatures=True, **options)


def examine(world, **options):
    return audit(world.root, world.policy, world.root / "signals", **options)


# What an attacker has: the files, the database, and a private key of her own.


def key_of(world, person):
    name = {ROB: "rob@example.org", OLGA: "olga-operator", EVE: "eve@evil.org", VERA: "vera@example.org"}[person]
    return world.root.parent / f"config/layered-signals/{name}.key"


def pen(world, person):
    return read_private(key_of(world, person), world.root)


def records(world):
    return world.ledger().read().records


def bodies(world):
    return [json.loads(line) for line in world.ledger().path.read_text().splitlines()]


def write_lines(world, found):
    world.ledger().path.write_text("".join(f"{canonical_json(body)}\n" for body in found))


def reset_head(world):
    """Make the database forget which records it has seen."""
    world.sql("UPDATE registered_model_tags SET value = ? WHERE key = 'ledger.head'", world.ledger().read().head)


def forge(world, kind, actor, payload, signer=None, **changes):
    """Append a record whose chain is right, as somebody could who knows how."""
    last = records(world)[-1] if world.ledger().path.is_file() else None
    body = {
        "seq": last.seq + 1 if last else 0,
        "time": last.time if last else "2020-01-01T00:00:00+00:00",
        "kind": kind,
        "actor": actor,
        "payload": payload,
        "prev": last.hash if last else GENESIS,
        **changes,
    }
    if signer:
        body["key"] = pen(world, signer).public
        body.setdefault("signature", pen(world, signer).sign(signed_bytes(body)))
    body["hash"] = hash_of(body)
    with world.ledger().path.open("a") as handle:
        handle.write(f"{canonical_json(body)}\n")


def promotion_of(world, version):
    """The payload of a promotion with everything right but who wrote it."""
    registered = next(r for r in records(world) if r.kind == "registered" and r.payload["version"] == version)
    latest = [r for r in records(world) if r.kind == "promoted"][-1].payload
    digest = registered.payload["bundle_digest"]
    return {**latest, "version": version, "registration": registered.seq, "bundle_digest": digest}


def forge_all(world, signer):
    """A whole ledger made up from nothing, in which version 3 was approved and promoted; the database agrees."""
    old, promoted = records(world), promotion_of(world, 3)
    evidence = next(r for r in old if r.seq == promoted["registration"]).payload["evidence"]
    world.ledger().path.unlink()
    for record in old:
        forge(world, record.kind, record.actor, record.payload, signer)
    forge(world, "reviewed", ROB, {"version": 3, "status": "approved", "comment": "", "evidence": evidence}, signer)
    forge(world, "promoted", OLGA, {**promoted, "approval": len(old)}, signer)
    reset_head(world)


def replay(world):
    """Version 1's own signed promotion once more, in a new place."""
    old = next(r for r in records(world) if r.kind == "promoted")
    forge(world, "promoted", old.actor, old.payload, OLGA, signature=old.signature)


def rewrite_last_promotion(world):
    """The last promotion made one of version 3, in its place, with all that follows chained anew."""
    found = bodies(world)
    at = max(i for i, body in enumerate(found) if body["kind"] == "promoted")
    found[at]["payload"] = promotion_of(world, 3)
    for i in range(at, len(found)):
        found[i]["prev"] = found[i - 1]["hash"]
        found[i]["hash"] = hash_of({key: value for key, value in found[i].items() if key != "hash"})
    write_lines(world, found)
    reset_head(world)


def register_edited_weights(world):
    """Weights edited, and a later registration that says they are the registered ones."""
    edit(world, "weights.json", 2)
    old = [r for r in records(world) if r.kind == "registered" and r.payload["version"] == 2][-1].payload
    model = world.root / "mlruns/artifacts" / old["model_uri"].removeprefix("signals:/")
    forge(world, "registered", "Ann Author <ann@example.org>", {**old, "model_files": digest_tree(model)})


def edit_line(world, number, change, rehash=False):
    found = bodies(world)
    change(found[number])
    if rehash:
        found[number]["hash"] = hash_of({key: value for key, value in found[number].items() if key != "hash"})
    write_lines(world, found)


def reorder(world, order: Callable[[list], list]):
    write_lines(world, order(bodies(world)))


def stored(world, pattern, version):
    chosen = next(r.payload for r in records(world) if r.kind == "registered" and r.payload["version"] == version)
    roots = [
        world.root / "mlruns/artifacts" / chosen[k].removeprefix("signals:/") for k in ("model_uri", "evidence_uri")
    ]
    return [path for root in roots for path in root.rglob(pattern)]


def edit(world, pattern, *versions):
    for version in versions:
        for path in stored(world, pattern, version):
            path.write_bytes(path.read_bytes() + b" ")


def keys_file(world, change):
    path = world.root / "keys.yaml"
    values = yaml.safe_load(path.read_text())
    change({entry["person"]: entry for entry in values["keys"]}, values["keys"])
    path.write_text(yaml.safe_dump(values))


def page(world, name: str) -> Path:
    """A report of version 2 among the files of its run."""
    evidence = world.ledger().read().of_kind("registered")[1].payload["evidence_uri"]
    return resolve(evidence, world.root).parent.parent / name


def output(world, name, change, reseal=False):
    """Change a served file; a manifest may be sealed again by a careful forger."""
    path = world.root / DAY / name
    if name != "manifest.json":
        change(path)
        return
    manifest = read_json(path)
    change(manifest)
    write_json(path, {**manifest, "digest": manifest_digest(manifest)} if reseal else manifest)


def tear(world):
    with world.ledger().path.open("ab") as handle:
        handle.write(b'{"seq": 99, "kind": "prom')


def future(world):
    forge(world, "holdout_opened", EVE, {}, time=(datetime.now(UTC) + timedelta(days=2)).isoformat())


def sql(statement, *values):
    return lambda world: world.sql(statement, *values)


@dataclass(frozen=True)
class Case:
    """An attack, and what is to come of it.

    Parameters
    ----------
    says
        What the guard says, as a pattern; empty where the attack touches nothing that it serves from.
    serves
        The version that is served all the same; None: nothing is.
    finds
        What the audit says; what the guard says, if not given.
    """

    attack: Callable
    says: str
    serves: int | None = 2
    finds: str | None = None


NOTHING = None
CASES = {
    # aliases
    "alias champion moved": Case(
        sql("UPDATE registered_model_aliases SET version = 3 WHERE alias = 'champion'"),
        "alias champion points at version 3, the ledger says version 2",
    ),
    "alias champion deleted": Case(
        sql("DELETE FROM registered_model_aliases WHERE alias = 'champion'"), "alias champion points at no version"
    ),
    "alias previous_champion moved": Case(
        sql("UPDATE registered_model_aliases SET version = 3 WHERE alias = 'previous_champion'"),
        "",
        finds="previous_champion: points at version 3, the ledger says 1",
    ),
    "alias candidate on a version that is none": Case(
        sql("UPDATE registered_model_aliases SET version = 9 WHERE alias = 'candidate'"),
        "",
        finds="candidate: points at version 9, which the ledger does not know",
    ),
    # tags
    "digest tag changed": Case(
        sql("UPDATE model_version_tags SET value = 'x' WHERE key = 'bundle.digest' AND version = 2"),
        "the tag bundle.digest in the MLflow database is not the registered one",
        1,
    ),
    "review tag set by hand": Case(
        sql("UPDATE model_version_tags SET value = 'approved' WHERE key = 'review.status' AND version = 3"),
        "",
        finds="the tag review.status is 'approved', the ledger says 'pending'",
    ),
    "verdict tag deleted": Case(
        sql("DELETE FROM model_version_tags WHERE key = 'gates.verdict' AND version = 2"),
        "",
        finds="the tag gates.verdict is None, the ledger says 'pass'",
    ),
    # artifacts
    "weights edited": Case(lambda w: edit(w, "weights.json", 2), "weights.json was changed", 1),
    "weights of both champions edited": Case(
        lambda w: edit(w, "weights.json", 1, 2), "version 2 is refused.*version 1 is refused", NOTHING, "was changed"
    ),
    "weights swapped for another version's": Case(
        lambda w: shutil.copyfile(stored(w, "weights.json", 3)[0], stored(w, "weights.json", 2)[0]),
        "weights.json was changed",
        1,
    ),
    "served code edited": Case(lambda w: edit(w, "served_model.py", 2), "served_model.py was changed", 1),
    "verdicts edited": Case(lambda w: edit(w, "gates.json", 2), "gates.json was changed", 1),
    "a file smuggled in": Case(
        lambda w: (stored(w, "weights.json", 2)[0].parent / "evil.py").write_text(""), "evil.py was added", 1
    ),
    "a file deleted": Case(lambda w: stored(w, "manifest.json", 2)[0].unlink(), "manifest.json is missing", 1),
    "weights and a later registration edited together": Case(register_edited_weights, "weights.json was changed", 1),
    # what a reviewer reads
    "report page overwritten": Case(
        lambda w: page(w, "evaluation/report.html").write_text("fine"),
        "",
        finds="report evaluation/report.html was changed",
    ),
    "quality page deleted": Case(
        lambda w: page(w, "data_quality/quality.json").unlink(), "", finds="report data_quality/quality.json is missing"
    ),
    "metrics of the run overwritten": Case(
        lambda w: page(w, "metrics.json").write_text("{}"), "", finds="report metrics.json was changed"
    ),
    "version leads to another run": Case(
        sql("UPDATE model_versions SET run_id = 'f' WHERE version = 2"), "", finds="the database names the run f"
    ),
    # database
    "row deleted": Case(sql("DELETE FROM model_versions WHERE version = 2"), "its row is gone", 1),
    "row points elsewhere": Case(
        sql("UPDATE model_versions SET storage_location = '/tmp/evil' WHERE version = 2"), "points at /tmp/evil", 1
    ),
    "a version that was never registered": Case(
        sql("UPDATE model_versions SET version = 7 WHERE version = 3"),
        "",
        finds="version 7: is in the database but not in the ledger",
    ),
    "database deleted": Case(lambda w: (w.root / "mlruns/mlflow.db").unlink(), "does not exist", NOTHING),
    "database overwritten": Case(lambda w: (w.root / "mlruns/mlflow.db").write_bytes(b"x" * 999), "damaged", NOTHING),
    "database replaced by an empty one": Case(
        lambda w: [
            w.sql(f"DELETE FROM {t}") for t in ("model_versions", "model_version_tags", "registered_model_tags")
        ],
        "its row is gone",
        NOTHING,
    ),
    # ledger
    "record edited": Case(lambda w: edit_line(w, 2, lambda b: b.update(actor=EVE)), "line 3 was changed", NOTHING),
    "record edited and hashed anew": Case(
        lambda w: edit_line(w, 2, lambda b: b.update(actor=EVE), rehash=True), "line 4 does not follow", NOTHING
    ),
    "record removed": Case(lambda w: reorder(w, lambda b: b[:2] + b[3:]), "line 3 does not follow", NOTHING),
    "first record removed": Case(lambda w: reorder(w, lambda b: b[1:]), "line 1 does not follow", NOTHING),
    "records reordered": Case(lambda w: reorder(w, lambda b: [b[0], b[2], b[1], *b[3:]]), "does not follow", NOTHING),
    "record duplicated": Case(lambda w: reorder(w, lambda b: [*b, b[-1]]), "does not follow", NOTHING),
    "end cut off": Case(lambda w: reorder(w, lambda b: b[:-2]), "has lost records", NOTHING),
    "an older ledger put back": Case(lambda w: reorder(w, lambda b: b[:4]), "has lost records", NOTHING),
    "ledger deleted": Case(lambda w: w.ledger().path.unlink(), "has lost records", NOTHING),
    "ledger overwritten with rubbish": Case(
        lambda w: w.ledger().path.write_bytes(b"\x00\xff\n"), "line 1 is not a ledger record", NOTHING
    ),
    "a key that JSON would read twice": Case(
        lambda w: w.ledger().path.write_text(
            w.ledger().path.read_text().replace('{"actor"', '{"actor":"Eve","actor"', 1)
        ),
        "line 1 was changed",
        NOTHING,
    ),
    "signature edited in its place": Case(
        lambda w: edit_line(w, 2, lambda b: b.update(signature="00" * 64)), "line 3 was changed", NOTHING
    ),
    "signature stripped in its place": Case(
        lambda w: edit_line(w, 2, lambda b: [b.pop("signature"), b.pop("key")]), "line 3 was changed", NOTHING
    ),
    "last line torn": Case(tear, "torn line of 25 bytes"),
    "unsigned promotion": Case(
        lambda w: forge(w, "promoted", OLGA, promotion_of(w, 3)), r"promoted by Olga Operator\) is not signed"
    ),
    "unsigned rollback": Case(
        lambda w: forge(w, "rolled_back", OLGA, {"version": 2, "to": 1, "reason": "x"}), "rolled_back .* is not signed"
    ),
    "promotion with a made-up signature": Case(
        lambda w: forge(w, "promoted", OLGA, promotion_of(w, 3), OLGA, signature="ab" * 64), "has a forged signature"
    ),
    "promotion with rubbish for a signature": Case(
        lambda w: forge(w, "promoted", OLGA, promotion_of(w, 3), OLGA, signature="rubbish"), "has a forged signature"
    ),
    "old promotion replayed": Case(replay, "has a forged signature"),
    "last promotion rewritten, chained anew, database told": Case(rewrite_last_promotion, "has a forged signature", 1),
    "whole ledger forged, unsigned": Case(
        lambda w: forge_all(w, None), "no champion.*is not signed", NOTHING, "not signed"
    ),
    "whole ledger forged, signed with a key of her own": Case(
        lambda w: forge_all(w, EVE), "no champion.*which is not in keys.yaml", NOTHING, "which is not in keys.yaml"
    ),
    "a decision that says too little": Case(
        lambda w: forge(w, "promoted", OLGA, {"version": 3}, OLGA), "lacks bundle_digest, registration"
    ),
    # clock
    "record of the future": Case(future, "the clock .* is behind the ledger's last record", NOTHING),
    "record dated before the one above it": Case(
        lambda w: forge(w, "holdout_opened", EVE, {}, time="2020-01-01T00:00:00+00:00"),
        "is dated 2020-01-01 00:00 UTC, before the line above it",
        NOTHING,
    ),
    "record without a time": Case(
        lambda w: forge(w, "holdout_opened", EVE, {}, time="now"), "is not a ledger record", NOTHING
    ),
    # keys
    "promotion signed by a stranger": Case(
        lambda w: forge(w, "promoted", OLGA, promotion_of(w, 3), EVE), "which is not in keys.yaml"
    ),
    "promotion signed by another than it says": Case(
        lambda w: forge(w, "promoted", OLGA, promotion_of(w, 3), ROB), "with the key of somebody else, Rob"
    ),
    "promotion signed with a revoked key": Case(
        lambda w: forge(w, "promoted", VERA, promotion_of(w, 3), VERA),
        "a key of Vera .* that is revoked from record 2 on",
    ),
    "key of the promoter revoked before the last promotion": Case(
        lambda w: keys_file(
            w, lambda k, _: k[OLGA].update(revoked=[r.seq for r in records(w) if r.kind == "promoted"][-1])
        ),
        "promoted by Olga Operator.* that is revoked from record",
        1,
    ),
    "key of the promoter removed": Case(
        lambda w: keys_file(w, lambda k, found: found.remove(k[OLGA])),
        "no champion.*not in keys.yaml",
        NOTHING,
        "not in keys",
    ),
    "key given to another name": Case(
        lambda w: keys_file(w, lambda k, _: k[OLGA].update(person=EVE)),
        "no champion.*somebody else",
        NOTHING,
        "somebody else",
    ),
    "keys.yaml overwritten with rubbish": Case(
        lambda w: (w.root / "keys.yaml").write_text("keys: [{"), "keys.yaml.*not valid YAML", NOTHING
    ),
    # outputs
    "signals edited": Case(
        lambda w: output(w, "signals.parquet", lambda p: p.write_text("x")), "", finds="parquet was changed"
    ),
    "signals deleted": Case(lambda w: output(w, "signals.csv", Path.unlink), "", finds="signals.csv is missing"),
    "a file put beside the signals": Case(
        lambda w: (w.root / DAY / "more.csv").write_text(""), "", finds="more.csv was added"
    ),
    "manifest edited": Case(
        lambda w: output(w, "manifest.json", lambda m: m.update(symbols=3)), "", finds="manifest.json was changed"
    ),
    "manifest of another version, sealed anew": Case(
        lambda w: output(w, "manifest.json", lambda m: m.update(version=3), reseal=True),
        "",
        finds="never in production",
    ),
    "manifest of another promotion, sealed anew": Case(
        lambda w: output(w, "manifest.json", lambda m: m.update(promotion="4:" + "0" * 64), reseal=True),
        "",
        finds="served under the promotion 4:0000",
    ),
    "manifest overwritten with rubbish": Case(
        lambda w: (w.root / DAY / "manifest.json").write_text("{"), "", finds="is not valid JSON"
    ),
}


def test_before_the_attack_all_is_well(world):
    served = serve(world)
    assert (served.version, served.warnings) == (2, ())
    found = examine(world)
    assert (found.broken, found.notes) == ((), ())
    assert found.checked == {"records": 10, "signed": 4, "keys": 3, "versions": 3, "sessions": 1}
    assert found.head == world.ledger().read().head
    assert examine(world, head=found.head).broken == ()


def test_there_are_enough_of_them():
    assert len(CASES) + len(ATTEMPTS) >= 25


@pytest.mark.parametrize("name", CASES)
def test_an_attack(world, name):
    case = CASES[name]
    case.attack(world)
    left = digest_tree(world.root)
    if case.serves is None:
        with pytest.raises(SignalsError, match=f"(?s){case.says}"):
            serve(world)
    else:
        served = serve(world)
        assert served.version == case.serves
        assert read_json(served.bundle_path / "weights.json")["momentum"] == case.serves
        assert re.search(case.says, "; ".join(served.warnings))
        assert bool(served.warnings) == bool(case.says)
    found = examine(world)
    told = "\n".join(f"{finding.where}: {finding.what}" for finding in found.broken)
    assert re.search(case.says if case.finds is None else case.finds, told), told
    assert digest_tree(world.root) == left


# What a person may try with the commands: refused, and nothing is written.


def borrow(world, monkeypatch, person):
    monkeypatch.setenv("SIGNALS_KEY", str(key_of(world, person)))


def tag_as_approved(world, _):
    world.sql("UPDATE model_version_tags SET value = 'approved' WHERE key = 'review.status' AND version = 3")


def set_clock_back(world, monkeypatch):
    class Slow(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(days=2)

    monkeypatch.setattr("governance.ledger.datetime", Slow)


def approve(world):
    return world.approve(3)


def rollback(world):
    return promotion.rollback(world.root, world.policy, OLGA, "a drill")


ATTEMPTS = {
    "a key that others can read": (
        lambda w, _: key_of(w, ROB).chmod(0o644),
        approve,
        r"can be read by others \(mode 0644\)",
    ),
    "no key": (lambda w, _: key_of(w, ROB).unlink(), approve, "has no key"),
    "a key that is rubbish": (lambda w, _: key_of(w, ROB).write_text("x"), approve, "no Ed25519 private key"),
    "somebody else's key": (lambda w, m: borrow(w, m, OLGA), approve, "belongs to Olga Operator, not to Rob"),
    "a stranger's key": (lambda w, m: borrow(w, m, EVE), approve, "is not in keys.yaml"),
    "a revoked key": (lambda w, _: None, lambda w: w.approve(3, VERA), r"of Vera .* is revoked"),
    "an author's approval": (lambda w, _: None, lambda w: w.approve(3, "ann@example.org"), "come from someone else"),
    "a version that only a tag approves": (tag_as_approved, lambda w: w.promote(3), "nobody has approved it yet"),
    "a clock that was set back": (set_clock_back, rollback, "the clock .* is behind the last record"),
    "a ledger that lost its end": (
        lambda w, _: reorder(w, lambda b: b[:-1]),
        rollback,
        "has lost records",
    ),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt(world, monkeypatch, name):
    prepare, act, reason = ATTEMPTS[name]
    prepare(world, monkeypatch)
    before = world.ledger().path.read_bytes()
    with pytest.raises(GovernanceError, match=reason):
        act(world)
    assert world.ledger().path.read_bytes() == before


def test_ledger_and_database_rolled_back_together_are_found_by_what_was_served(world):
    """The one theft that leaves no trace in the store itself: what stands elsewhere gives it away."""
    head = world.ledger().read().head
    at = next(r.seq for r in records(world) if r.kind == "registered" and r.payload["version"] == 2)
    reorder(world, lambda b: b[:at])
    reset_head(world)
    world.sql("UPDATE registered_model_aliases SET version = 1 WHERE alias = 'champion'")
    assert serve(world).version == 1
    told = [finding.what for finding in examine(world).broken]
    assert any("served under the promotion" in what for what in told)
    assert any("never in production" in what for what in told)
    assert any("records were cut off" in finding.what for finding in examine(world, head=head).broken)


def test_the_clock_set_back_is_refused(world):
    with pytest.raises(GovernanceError, match=r"the clock .* is behind the ledger"):
        serve(world, now=datetime.now(UTC) - timedelta(days=2))
    assert [finding.check for finding in examine(world, now=datetime.now(UTC) - timedelta(days=2)).broken] == ["clock"]


def test_without_required_signatures_an_unsigned_decision_is_pointed_out(world):
    forge(world, "promoted", OLGA, promotion_of(world, 2))
    served = serving(world.root)
    assert served.version == 2
    assert "is not signed though earlier decisions are" in served.warnings[0]
