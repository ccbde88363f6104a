"""Keys lie outside the checkout, are read by their owner alone, and sign for their owner alone."""

import json
import logging
import stat

import pytest
import yaml

from core.errors import ConfigError, GovernanceError
from core.files import canonical_json, digest_bytes
from governance import keys, promotion
from governance.audit import audit
from governance.guard import serving
from governance.keys import create_key, pen_for, read_ring, verifies
from governance.ledger import Ledger

ROB = "Rob Reviewer <rob@example.org>"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's config folder of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("SIGNALS_KEY", raising=False)
    return tmp_path


@pytest.fixture
def root(home):
    folder = home / "checkout"
    folder.mkdir()
    return folder


def pen(root, actor=ROB, decides=True, required=False):
    return pen_for(root, actor, decides, required)


def test_a_new_key_is_its_owners_alone(home, root):
    path, key = create_key(ROB, root)
    assert path == home / "config/layered-signals/rob@example.org.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(bytes.fromhex(key.public)) == 32
    with pytest.raises(GovernanceError, match="exists: it is not overwritten"):
        create_key("rob@example.org", root)


def test_without_a_key_nothing_is_signed_unless_required(root):
    assert pen(root) is None
    with pytest.raises(GovernanceError, match=r"Rob Reviewer .* has no key: make one with `signals keys new"):
        pen(root, required=True)
    assert pen(root, decides=False, required=True) is None


def test_a_signature_covers_everything_and_the_place(home, root, add_key):
    add_key(root, ROB)
    ledger = Ledger(home / "ledger.jsonl")
    ledger.append("registered", ROB, {"version": 1})
    record = ledger.append("reviewed", ROB, {"version": 1}, pen(root))
    assert verifies(record)
    assert ledger.verify().records[1] == record
    for part, other in {
        "seq": 2,
        "time": "2020-01-01T00:00:00+00:00",
        "kind": "promoted",
        "actor": "Eve",
        "payload": {},
        "prev": "0" * 64,
        "key": "ab" * 32,
        "signature": "cd" * 64,
    }.items():
        assert not verifies(type(record)(**{**vars(record), part: other})), part
    body = {k: v for k, v in json.loads(ledger.path.read_text().splitlines()[1]).items() if k != "hash"}
    assert digest_bytes(canonical_json(body).encode()) == record.hash


def test_the_secret_is_shown_nowhere(world, home, monkeypatch, caplog, capsys, add_key):
    caplog.set_level(logging.DEBUG)
    path, _ = add_key(world.root, ROB)
    secret = "".join(path.read_text().splitlines()[1:-1])
    raw = read_secret(path)
    assert repr(pen(world.root)).count("_secret") == 0
    world.register()
    world.approve(1)
    told = [caplog.text, *capsys.readouterr(), repr(pen(world.root))]
    told += [f.read_bytes().decode("latin-1") for f in world.root.rglob("*") if f.is_file()]
    assert not any(secret in text or raw.hex() in text for text in told)
    assert world.ledger().read().of_kind("reviewed")[0].signature


def read_secret(path):
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(path.read_bytes(), None).private_bytes_raw()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.chmod(0o640), r"can be read by others \(mode 0640\)"),
        (lambda path: path.chmod(0o604), r"can be read by others \(mode 0604\)"),
        (lambda path: path.write_text("no key"), "is no Ed25519 private key"),
        (lambda path: path.write_bytes(b""), "is no Ed25519 private key"),
    ],
)
def test_an_unsafe_or_damaged_key_signs_nothing(root, damage, reason, add_key):
    path, _ = add_key(root, ROB)
    damage(path)
    with pytest.raises(GovernanceError, match=reason):
        pen(root)


def test_a_key_of_another_kind_is_refused(root, tmp_path, monkeypatch):
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = tmp_path / "ec.key"
    path.touch(0o600)
    path.write_bytes(generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    monkeypatch.setenv("SIGNALS_KEY", str(path))
    with pytest.raises(GovernanceError, match="is no Ed25519 private key"):
        pen(root)
    monkeypatch.setenv("SIGNALS_KEY", str(tmp_path / "none.key"))
    with pytest.raises(GovernanceError, match="cannot be read"):
        pen(root)


def test_a_key_in_the_checkout_is_refused(root, monkeypatch, add_key):
    path, _ = add_key(root, ROB)
    path.rename(root / "rob.key")
    monkeypatch.setenv("SIGNALS_KEY", str(root / "rob.key"))
    with pytest.raises(GovernanceError, match="lies in the checkout"):
        pen(root)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(root / "config"))
    with pytest.raises(GovernanceError, match="would lie in the checkout"):
        create_key(ROB, root)


def test_an_unknown_revoked_or_borrowed_key_signs_no_decision(root, monkeypatch):
    path, key = create_key(ROB, root)
    with pytest.raises(GovernanceError, match=r"is not in keys.yaml"):
        pen(root)
    assert pen(root, decides=False) is None
    monkeypatch.setenv("SIGNALS_KEY", str(path))
    (root / "keys.yaml").write_text(yaml.safe_dump({"keys": [{"person": ROB, "public": key.public}]}))
    with pytest.raises(GovernanceError, match=r"belongs to Rob Reviewer .*, not to Vera"):
        pen(root, "Vera <vera@example.org>")
    assert pen(root).public == key.public
    (root / "keys.yaml").write_text(yaml.safe_dump({"keys": [{"person": ROB, "public": key.public, "revoked": 3}]}))
    with pytest.raises(GovernanceError, match="is revoked"):
        pen(root)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([{"person": "Rob", "public": "ab"}], "keys.0.public"),
        ([{"person": " ", "public": "ab" * 32}], "belongs to nobody"),
        ([{"person": "Rob", "public": "ab" * 32}, {"person": "Eve", "public": "ab" * 32}], "listed twice"),
        ([{"person": "Rob", "public": "ab" * 32, "admin": True}], "unknown parameter"),
    ],
)
def test_a_wrong_key_file_is_refused(root, entries, reason):
    (root / "keys.yaml").write_text(yaml.safe_dump({"keys": entries}))
    with pytest.raises(ConfigError, match=reason):
        read_ring(root)


def test_a_reviewer_cannot_hide_behind_a_second_name(world, home, monkeypatch, add_key):
    """The author's own key approves nothing, whatever name git or the command line is given."""
    path, _ = add_key(world.root, ROB)
    monkeypatch.setenv("SIGNALS_KEY", str(path))
    world.register()
    assert world.ledger().read().of_kind("registered")[0].key
    with pytest.raises(GovernanceError, match="registered with this very key"):
        world.approve(1)


def test_old_unsigned_decisions_count_until_signatures_are_required(governed, home, add_key):
    assert serving(governed.root).version == 1
    with pytest.raises(GovernanceError, match=r"no champion.*record 6 \(promoted by Olga Operator\) is not signed"):
        serving(governed.root, require_signatures=True)
    before = governed.policy.digest
    governed.policy = governed.policy.model_copy(update={"require_signatures": True})
    assert governed.policy.digest == before
    with pytest.raises(GovernanceError, match="has no key"):
        governed.approve(1)
    add_key(governed.root, ROB)
    add_key(governed.root, "Olga Operator")
    governed.approve(1)
    governed.promote(1)
    served = serving(governed.root, require_signatures=True)
    assert (served.version, bool(served.promotion.signature)) == (1, True)
    assert governed.ledger().verify().records[0].signature == ""
    assert served.warnings == ()
    told = audit(governed.root, governed.policy, governed.root / "signals")
    assert [finding.check for finding in told.broken] == []
    assert told.notes == (
        "3 of 5 decisions are not signed and do not count",
        "keys.yaml has changes that are not committed",
    )
    promotion.rollback(governed.root, governed.policy, "Olga Operator", "a drill")
    assert keys.verifies(governed.ledger().read().records[-1])
