"""A decision is bound to what was decided on: one registration, its evidence and its very files.

A signed world: version 1 is champion, version 2 is registered and approved, version 3 registered and failing a gate.
The attacker can write every file and has no key, or a key that may not decide.
"""

import json
import shutil
import subprocess

import pytest

from core.errors import GovernanceError
from core.files import canonical_json, digest_bytes, digest_tree, read_json, read_parquet, write_json, write_parquet
from governance import evidence
from governance.audit import audit
from governance.guard import file_problems, serving
from governance.keys import read_private
from governance.ledger import Ledger
from governance.outputs import manifest_digest
from governance.trust import read_state

ANN, ROB, OLGA = "Ann Author <ann@example.org>", "Rob Reviewer <rob@example.org>", "Olga Operator"


@pytest.fixture(scope="module")
def signed(tmp_path_factory, empty_store, make_world, add_key):
    """The world before the attack; only copied."""
    base = tmp_path_factory.mktemp("signed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(base / "config"))
        world = make_world(base / "checkout", empty_store)
        patch.setenv("SIGNALS_ROOT", str(world.root))
        for person in (ROB, OLGA):
            add_key(world.root, person)
        for words in (("add", "keys.yaml"), ("commit", "-qm", "keys")):
            subprocess.run(["git", *words], cwd=world.root, check=True)
        world.policy = world.policy.model_copy(update={"require_signatures": True})
        for version, scores in ((1, {}), (2, {"rank_ic": 0.05}), (3, {"rank_ic": 0.06, "t": 1.0})):
            world.train(weight=float(version), seed=version, **scores)
            assert world.register().version == version
            if version < 3:
                world.approve(version)
        world.promote(1)
    return world


@pytest.fixture
def world(signed, tmp_path, monkeypatch):
    """A copy to attack."""
    shutil.copytree(signed.root.parent, tmp_path / "copy")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "copy/config"))
    made = type(signed)(tmp_path / "copy/checkout", signed.policy)
    monkeypatch.setenv("SIGNALS_ROOT", str(made.root))
    return made


def pen(world, person):
    name = {ROB: "rob@example.org", OLGA: "olga-operator"}[person]
    return read_private(world.root.parent / f"config/layered-signals/{name}.key", world.root)


def registered(world, version):
    """The latest registration of a version, as the ledger's file has it."""
    return [r for r in world.ledger().read().of_kind("registered") if r.payload["version"] == version][-1]


def place(world, address):
    return world.root / "mlruns/artifacts" / address.removeprefix("signals:/")


def register_again(world, number, **changes):
    """The attacker's record: unsigned, chained like any other."""
    payload = registered(world, number).payload
    return world.ledger().append("registered", ANN, {**payload, **changes})


def swap_weights(world, version, manifest=True):
    """Other weights in the store, with or without a manifest that fits them; return the new model files."""
    payload = registered(world, version).payload
    bundle, model = place(world, payload["bundle_uri"]), place(world, payload["model_uri"])
    write_json(bundle / "weights.json", {"momentum": -9.0, "value": 9.0})
    if manifest:
        found = read_json(bundle / "manifest.json")
        found["files"] = digest_tree(bundle, skip=("manifest.json",))
        write_json(bundle / "manifest.json", {**found, "digest": manifest_digest(found)})
    return digest_tree(model)


def refuse_promotion(world, version, reason):
    before = world.ledger().path.read_bytes()
    with pytest.raises(GovernanceError, match=f"(?s){reason}"):
        world.promote(version)
    assert world.ledger().path.read_bytes() == before
    assert serving(world.root, require_signatures=True).version == 1


def findings(world):
    return "\n".join(finding.what for finding in audit(world.root, world.policy, world.root / "signals").broken)


def test_before_the_attack_all_is_well(world):
    assert findings(world) == ""
    review, record = world.ledger().read().of_kind("reviewed")[1], registered(world, 2)
    assert review.payload["registration"] == record.seq
    assert review.payload["model_digest"] == digest_bytes(canonical_json(record.payload["model_files"]).encode())
    assert world.promote(2).record.payload["model_digest"] == review.payload["model_digest"]
    assert serving(world.root, require_signatures=True).version == 2


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize("digest", ["approved", "true"])
def test_other_weights_registered_under_an_approval_are_not_promoted(world, manifest, digest):
    files = swap_weights(world, 2, manifest)
    changes = {"model_files": files}
    if digest == "true":
        folder = place(world, registered(world, 2).payload["bundle_uri"])
        changes["bundle_digest"] = read_json(folder / "manifest.json")["digest"]
    record = register_again(world, 2, **changes)
    refuse_promotion(world, 2, "weights.json was changed")
    assert "gives version 2 another" in findings(world)
    assert f"ledger record {record.seq}" in findings(world)


def test_other_weights_under_a_new_number_are_not_approved(world):
    """The digest of an approved bundle and its evidence, claimed by a version of the attacker's."""
    files = swap_weights(world, 2)
    world.sql("INSERT INTO model_versions (name, version) SELECT name, 4 FROM model_versions WHERE version = 2")
    register_again(world, 2, version=4, model_files=files)
    refuse_promotion(world, 4, "nobody has approved it yet.*not those of the registered bundle")


def test_the_registered_files_must_be_the_named_bundle(world):
    """Files, seal and row agree with each other, and not with the digest that was approved."""
    payload = registered(world, 2).payload
    assert file_problems(world.root, payload) == []
    files = swap_weights(world, 2)
    assert file_problems(world.root, {**payload, "model_files": files}) == [
        "the registered files are not those of the registered bundle"
    ]
    (place(world, payload["bundle_uri"]) / "manifest.json").write_text("[]")
    files = digest_tree(place(world, payload["model_uri"]))
    assert "not the manifest of a bundle" in file_problems(world.root, {**payload, "model_files": files})[0]


def test_an_approval_does_not_pass_on_to_verdicts_registered_later(world):
    """Version 3 fails a gate; approved so, it is registered again with a verdict that passes."""
    world.approve(3)
    gates = [{**gate, "passed": True} for gate in registered(world, 3).payload["gates"]]
    record = register_again(world, 3, gates=gates)
    refuse_promotion(world, 3, rf"nobody has approved it since it was registered again \(record {record.seq}\)")


def test_an_approval_does_not_pass_on_to_evidence_registered_later(world):
    """The same fingerprint, other pages and numbers behind it."""
    payload = registered(world, 2).payload
    folder = place(world, payload["evidence_uri"])
    copy = folder.with_name("forged")
    shutil.copytree(folder, copy)
    write_json(copy / "metrics.json", {"test": {}})
    uri = f"{payload['evidence_uri'].rpartition('/')[0]}/forged"
    register_again(world, 2, evidence_uri=uri, evidence_files=digest_tree(copy))
    refuse_promotion(world, 2, "nobody has approved it since")


def test_nobody_else_becomes_the_author_later(world, add_key, monkeypatch):
    """The author has a key of her own, and writes that somebody else registered her version."""
    path, _ = add_key(world.root, ANN)
    register_again(world, 3, author="Bob <bob@example.org>")
    monkeypatch.setenv("SIGNALS_KEY", str(path))
    with pytest.raises(GovernanceError, match="is the author of this version"):
        world.approve(3, ANN)


def test_an_unsigned_registration_does_not_hide_the_author_s_key(world, add_key, monkeypatch):
    """Registered with a key under git's name; then again without, so that the key may approve under its owner's."""
    path, _ = add_key(world.root, "Zoe <zoe@example.org>")
    key = read_private(path, world.root)
    world.ledger().append("registered", ANN, registered(world, 3).payload, key)
    register_again(world, 3)
    monkeypatch.setenv("SIGNALS_KEY", str(path))
    with pytest.raises(GovernanceError, match="registered with this very key"):
        world.approve(3, "Zoe <zoe@example.org>")


def test_a_weaker_champion_registered_later_lets_no_challenger_pass(world):
    """The gate compares with what the champion was promoted on."""
    payload = registered(world, 1).payload
    folder = place(world, payload["evidence_uri"])
    copy = folder.with_name("weaker")
    shutil.copytree(folder, copy)
    daily = read_parquet(copy / "daily_ic.parquet")
    write_parquet(copy / "daily_ic.parquet", daily.assign(stack=-1.0))
    world.train(weight=5.0, rank_ic=0.02, seed=5)
    assert [v.gate for v in world.register().verdicts if v.blocks] == ["beats_champion"]
    world.approve(4)
    uri = f"{payload['evidence_uri'].rpartition('/')[0]}/weaker"
    register_again(world, 1, evidence_uri=uri, evidence_files=digest_tree(copy))
    refuse_promotion(world, 4, "beats_champion fails")


def test_a_promotion_that_names_the_approval_of_another_registration_is_refused(world):
    """Even one that is signed: the guard does not trust what `promote` would have refused."""
    review = world.ledger().read().of_kind("reviewed")[1]
    record = register_again(world, 2)
    latest = world.ledger().read().of_kind("promoted")[-1].payload
    same = {"version": 2, "bundle_digest": record.payload["bundle_digest"], "approval": review.seq}
    digest = review.payload["model_digest"]
    payload = {**latest, **same, "model_digest": digest, "registration": record.seq}
    world.ledger().append("promoted", OLGA, payload, pen(world, OLGA))
    served = serving(world.root, require_signatures=True)
    assert (served.version, "another registration" in served.warnings[0]) == (1, True)


def test_a_promotion_of_other_files_than_registered_is_refused(world):
    review, record = world.ledger().read().of_kind("reviewed")[1], registered(world, 2)
    latest = world.ledger().read().of_kind("promoted")[-1].payload
    same = {"version": 2, "bundle_digest": record.payload["bundle_digest"], "approval": review.seq}
    payload = {**latest, **same, "model_digest": "0" * 64, "registration": record.seq}
    world.ledger().append("promoted", OLGA, payload, pen(world, OLGA))
    served = serving(world.root, require_signatures=True)
    assert (served.version, "promoted with other files" in served.warnings[0]) == (1, True)


def test_an_approval_that_was_edited_to_fit_is_forged(world):
    files = swap_weights(world, 2)
    record = register_again(world, 2, model_files=files)
    review = world.ledger().read().of_kind("reviewed")[1]
    fitting = {"registration": record.seq, "model_digest": digest_bytes(canonical_json(files).encode())}
    bodies = [json.loads(line) for line in world.ledger().path.read_text().splitlines()]
    forged = Ledger(world.root / "forged.jsonl")
    for body in bodies:
        payload = {**body["payload"], **fitting} if body["seq"] == review.seq else body["payload"]
        forged.append(body["kind"], body["actor"], payload)
    shutil.move(forged.path, world.ledger().path)
    with pytest.raises(GovernanceError, match="has lost records"):
        serving(world.root, require_signatures=True)


@pytest.mark.parametrize("what", ["served_model.py", "weights.json", "MLmodel", "added.txt"])
def test_files_changed_in_the_store_are_not_registered_as_the_version(world, what):
    """Registering again must not seal what somebody changed since."""
    model = place(world, registered(world, 2).payload["model_uri"])
    found = next(iter(model.rglob(what)), model / what)
    found.write_text(f"{found.read_text() if found.is_file() else ''}\n")
    world.train(weight=2.0, rank_ic=0.05, seed=2)
    world.policy = world.policy.model_copy(update={"longest_waiver": 5})
    before = world.ledger().path.read_bytes()
    with pytest.raises(Exception, match=rf"{what}|it was changed after"):
        world.register()
    assert world.ledger().path.read_bytes() == before


def old_approval(world, version):
    """A review as releases before this one wrote it."""
    payload = registered(world, version).payload
    said = {"version": version, "status": "approved", "comment": "read it"}
    same = {"bundle_digest": payload["bundle_digest"], "evidence": payload["evidence"]}
    return world.ledger().append("reviewed", ROB, {**said, **same}, pen(world, ROB))


def test_an_approval_from_before_reviews_named_files_counts_for_what_it_could_see(world):
    world.train(weight=4.0, rank_ic=0.05, seed=4)
    assert world.register().version == 4
    old_approval(world, 4)
    record = register_again(world, 4)
    refuse_promotion(world, 4, rf"nobody has approved it since it was registered again \(record {record.seq}\)")
    old_approval(world, 4)
    world.promote(4)
    assert serving(world.root, require_signatures=True).version == 4


def test_a_champion_from_before_keeps_serving(world):
    """Promoted by an older release, on the approval of an earlier registration of the same files and evidence."""
    review = old_approval(world, 2)
    record = register_again(world, 2)
    latest = dict(world.ledger().read().of_kind("promoted")[-1].payload)
    del latest["model_digest"]
    same = {"version": 2, "bundle_digest": record.payload["bundle_digest"], "approval": review.seq}
    world.ledger().append("promoted", OLGA, {**latest, **same, "registration": record.seq}, pen(world, OLGA))
    assert serving(world.root, require_signatures=True).version == 2


def test_registering_from_a_clean_tree_later_is_still_possible(world):
    source = world.root / "models/served_model.py"
    source.write_text(f"{source.read_text()}# edited\n")
    world.train(weight=6.0, rank_ic=0.07, seed=6)
    assert [v.gate for v in world.register().verdicts if not v.passed] == ["clean_tree"]
    subprocess.run(["git", "commit", "-qam", "edit"], cwd=world.root, check=True)
    again = world.register()
    assert (again.version, again.created, [v.gate for v in again.verdicts if not v.passed]) == (4, True, [])
    world.approve(4)
    world.promote(4)
    assert serving(world.root, require_signatures=True).version == 4
    assert findings(world) == ""


def test_evidence_swapped_after_its_check_is_not_compared_with(world, monkeypatch):
    """The daily record that the gate reads is the one that was checked."""
    payload = registered(world, 1).payload
    file = place(world, payload["evidence_uri"]) / "daily_ic.parquet"
    whole, read = read_parquet(file), evidence.read_sealed

    def read_then_swap(folder, files, *names):
        found = read(folder, files, *names)
        if names == ("daily_ic.parquet",):
            write_parquet(file, whole.assign(stack=-1.0))
        return found

    monkeypatch.setattr(evidence, "read_sealed", read_then_swap)
    state = read_state(world.root, world.ledger().read(), required=True)
    champion = evidence.champion_of(world.root, state)
    assert read_parquet(file)["stack"].eq(-1.0).all()
    assert champion.daily_ic.equals(whole)
    with pytest.raises(GovernanceError, match=r"daily_ic\.parquet was changed"):
        evidence.champion_of(world.root, state)


def loosened(policy, gate, bound):
    gates = [g.model_copy(update={"min": bound}) if g.name == gate else g for g in policy.gates]
    return policy.model_copy(update={"gates": gates})


@pytest.mark.parametrize(("gate", "bound"), [("rank_ic_t", 10.0), ("rank_ic_t", 0.1), ("beats_champion", -1.0)])
def test_the_gates_of_a_promotion_are_those_of_the_registration(world, gate, bound):
    """Stricter or looser, for good or for the moment of the promotion."""
    kept, world.policy = world.policy, loosened(world.policy, gate, bound)
    refuse_promotion(world, 2, "are not those that it was registered under: put them back")
    world.policy = kept
    assert world.promote(2).record.payload["policy"] == registered(world, 2).payload["policy"] == kept.digest
    assert findings(world) == ""
    world.policy = loosened(world.policy, gate, bound)
    notes = audit(world.root, world.policy, world.root / "signals").notes
    assert any(f"promoted under the gates {kept.digest[:12]}; those of now" in note for note in notes)


def test_a_signed_promotion_under_other_gates_is_refused_by_the_guard(world):
    review, record = world.ledger().read().of_kind("reviewed")[1], registered(world, 2)
    latest = world.ledger().read().of_kind("promoted")[-1].payload
    same = {"version": 2, "bundle_digest": record.payload["bundle_digest"], "approval": review.seq}
    bound = {"model_digest": review.payload["model_digest"], "registration": record.seq, "policy": "0" * 64}
    world.ledger().append("promoted", OLGA, {**latest, **same, **bound}, pen(world, OLGA))
    served = serving(world.root, require_signatures=True)
    assert (served.version, "under other gates" in served.warnings[0]) == (1, True)


@pytest.mark.parametrize(
    ("file", "old", "new", "note"),
    [
        ("params.yaml", "min: 3.0", "min: 0.1", "the block governance has changes that are not committed"),
        ("params.yaml", "planted_ic: 0.1", "planted_ic: 0.2", ""),
        ("keys.yaml", "keys:", "keys: # mine", "keys.yaml has changes that are not committed"),
    ],
)
def test_uncommitted_gates_and_keys_are_said(world, file, old, new, note):
    path = world.root / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    said = world.register().notes, world.promote(2).notes, audit(world.root, world.policy, world.root / "signals").notes
    prefix = "params.yaml: " if file == "params.yaml" else ""
    for notes in said:
        assert [part for part in notes if "not committed" in part] == ([prefix + note] if note else [])
