"""A kill, a full disk, a read-only folder and a locked database at every write of every decision.

Nothing is lost, what serves is whole all the time, the message names a remedy, and the next command
finishes the work. The writes are not listed here: one clean run counts them, and each is then hit.
"""

import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import Engine

from core.errors import BundleError, ConfigError, DataError, GovernanceError, SignalsError, StorageError
from governance import keys, promotion
from governance.audit import audit
from governance.guard import serving
from governance.ledger import Ledger
from governance.registry import read_registry
from governance.snapshot import alias_doubts, snapshot

MODEL = "layered-signals"
ROB, VERA, OLGA = "Rob Reviewer <rob@example.org>", "Vera <vera@example.org>", "Olga Operator"
SOON = (datetime.now(UTC) + timedelta(days=20)).date()
REASON = "on trial with small size"


# Processes with faults in them.

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_MOVING = ("os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.chmod")
_CHANGES = ("INSERT", "UPDATE", "DELETE")


class Faults:
    """Counts the writes of this process below a folder; from the `at`th on, `strike` is asked what happens to each."""

    def __init__(self, folder, strike=None, at=0) -> None:
        self.folder, self.strike, self.at = str(folder), strike, at
        self.seen: list[str] = []
        self.changed: set[object] = set()

    def watch(self) -> None:
        sys.addaudithook(self._audit)
        event.listen(Engine, "before_cursor_execute", self._statement)
        event.listen(Engine, "commit", self._commit)
        sync = os.fsync

        def fsync(handle) -> None:
            self.write("fsync")
            sync(handle)

        os.fsync = fsync

    def write(self, what: str) -> None:
        self.seen.append(what)
        if self.at and len(self.seen) >= self.at:
            self.strike(what)

    def _audit(self, name, arguments) -> None:
        path = str(arguments[0]) if arguments else ""
        if not path.startswith(self.folder):
            return
        if name == "open" and arguments[2] & _WRITING:
            self.write("change" if os.path.exists(path) else "create")
        elif name == "os.mkdir" and not os.path.exists(path):
            self.write("create")
        elif name in _MOVING:
            self.write("create" if name == "os.link" else "change")

    def _statement(self, connection, cursor, statement, *_) -> None:
        if statement.lstrip().upper().startswith(_CHANGES):
            self.changed.add(connection)
            self.write("sql")

    def _commit(self, connection) -> None:
        if connection in self.changed:
            self.changed.remove(connection)
            self.write("sql")


def killed(what: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _refused(words: str) -> Exception:
    return sqlalchemy.exc.OperationalError("", {}, sqlite3.OperationalError(words))


def full(what: str) -> None:
    if what == "sql":
        raise _refused("database or disk is full")
    if what in ("create", "fsync"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_only(what: str) -> None:
    if what == "sql":
        raise _refused("attempt to write a readonly database")
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def locked(what: str) -> None:
    if what == "sql":
        raise _refused("database is locked")


@dataclass
class Child:
    """A process of its own that does one thing; `answer` waits for what it said."""

    number: int
    pipe: int

    @classmethod
    def start(cls, act: Callable[[], object], faults: Faults | None = None) -> "Child":
        reader, writer = os.pipe()
        number = os.fork()
        if number:
            os.close(writer)
            return cls(number, reader)
        said: dict = {"error": "", "notes": [], "bug": ""}
        try:
            if faults is not None:
                faults.watch()
            try:
                said["notes"] = list(getattr(act(), "notes", ()))
            except SignalsError as error:
                said["error"] = str(error)
            said["writes"] = len(faults.seen) if faults else 0
        except BaseException:
            said["bug"] = traceback.format_exc()
        os.write(writer, json.dumps(said).encode())
        os._exit(0)

    @property
    def answer(self) -> dict | None:
        """None where it was killed."""
        with os.fdopen(self.pipe, "rb") as pipe:
            said = pipe.read()
        os.waitpid(self.number, 0)
        answer = json.loads(said) if said else None
        assert answer is None or not answer["bug"], answer["bug"]
        return answer


def run(act: Callable[[], object], faults: Faults | None = None) -> dict | None:
    return Child.start(act, faults).answer


# The world: version 2 is champion after version 1; 3 is approved and waits; 4 fails a gate and waits for a review.


@pytest.fixture(scope="module")
def start(reigning, tmp_path_factory):
    root = tmp_path_factory.mktemp("start") / "checkout"
    shutil.copytree(reigning.root, root)
    world = type(reigning)(root, reigning.policy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGNALS_ROOT", str(root))
        world.promote(2)
        for version, t in ((3, 5.0), (4, 1.0)):
            world.train(weight=version, rank_ic=0.03 + 0.02 * version, t=t, seed=version)
            assert world.register().version == version
        world.approve(3)
    return world


@pytest.fixture
def fresh(start, tmp_path, monkeypatch):
    """Makes a copy of the world, each in a place of its own, and governs it."""
    number = itertools.count()

    def make():
        root = tmp_path / f"checkout-{next(number)}"
        shutil.copytree(start.root, root)
        monkeypatch.setenv("SIGNALS_ROOT", str(root))
        return type(start)(root, start.policy)

    return make


@dataclass(frozen=True)
class Act:
    """A decision, the kind of its record, and what serves after it: a version, or 0 under a stop.

    `shows` looks for what no audit looks at.
    """

    kind: str
    serves: int
    do: Callable
    before: Callable = lambda world: None
    shows: Callable = lambda world: True


def freeze(world):
    return promotion.freeze(world.root, world.policy, OLGA, "feed is wrong")


ACTS = {
    "promote": Act("promoted", 3, lambda world: world.promote(3)),
    "rollback": Act("rolled_back", 1, lambda world: promotion.rollback(world.root, world.policy, OLGA, "loses")),
    "review": Act("reviewed", 2, lambda world: world.approve(4)),
    "waive": Act(
        "waived",
        2,
        lambda world: promotion.waive(world.root, world.policy, 4, "rank_ic_t", ROB, REASON, SOON),
        shows=lambda world: "WAIVED" in world.sql("SELECT description FROM model_versions WHERE version = 4")[0][0],
    ),
    "freeze": Act("frozen", 0, freeze),
    "unfreeze": Act(
        "unfrozen", 2, lambda world: promotion.unfreeze(world.root, world.policy, ROB, "feed is right"), freeze
    ),
}


def served(world) -> int:
    """The version that serves, its bundle whole; 0 under a stop."""
    try:
        found = serving(world.root)
    except GovernanceError as error:
        if str(error).startswith("frozen by"):
            return 0
        raise
    manifest = json.loads((found.bundle_path / "manifest.json").read_text())
    assert manifest["digest"] == found.digest
    return found.version


def hit_at_every_write(fresh, act: Act, strike, accept: Callable[[dict | None, bool], None]) -> set[bool]:
    """Strike at each write of a decision in turn; `accept` judges the answer, knowing whether it was recorded.

    Returns whether it ever was, and ever was not.
    """

    def again():
        world = fresh()
        run(lambda: act.before(world))
        return world, world.ledger().read().records, served(world)

    world, records, serves = again()
    writes = run(lambda: act.do(world), Faults(world.root))["writes"]
    assert writes >= 5
    assert served(world) == act.serves
    world, records, serves = again()
    reached: set[bool] = set()
    for at in range(1, writes + 1):
        answer = run(lambda: act.do(world), Faults(world.root, strike, at))  # noqa: B023
        now = world.ledger().read().records
        recorded = len(now) > len(records)
        reached.add(recorded)
        assert now[: len(records)] == records
        assert [record.kind for record in now[len(records) :]] == [act.kind] * recorded
        assert served(world) == (act.serves if recorded else serves)
        accept(answer, recorded)
        # Where nothing was recorded, the next round's call is the next command: it must get as far as it is let.
        if recorded:
            world.approve(4, VERA)
            assert audit(world.root, world.policy, world.root / "signals").broken == ()
            assert served(world) == act.serves
            assert act.shows(world)
            world, records, serves = again()
    act.do(world)
    assert served(world) == act.serves
    assert act.shows(world)
    assert audit(world.root, world.policy, world.root / "signals").broken == ()
    return reached


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTS)
def test_a_kill_at_any_write_of_a_decision(fresh, name) -> None:
    def accept(answer, recorded) -> None:
        assert answer is None

    assert hit_at_every_write(fresh, ACTS[name], killed, accept) == {True, False}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strike", "remedy"),
    [
        (full, "the disk is full: free some space"),
        (read_only, "read-only: mount it writable|make mlruns/ writable"),
        (locked, "locked by another process: wait for it or end it"),
    ],
)
def test_a_disk_that_refuses_from_any_write_on(fresh, strike, remedy) -> None:
    def accept(answer, recorded) -> None:
        assert answer is not None
        if answer["error"]:
            assert not recorded
            said = answer["error"]
        else:
            assert recorded
            (said,) = answer["notes"] or [""]
            if not said:  # it struck where it does no harm
                return
            assert "is in force, but MLflow could not be told" in said
            assert "the next command tells it" in said
        assert "\n" not in said
        assert any(words in said for words in remedy.split("|")), said

    assert True in hit_at_every_write(fresh, ACTS["promote"], strike, accept)


def test_a_database_locked_by_another_process(fresh, monkeypatch) -> None:
    world = fresh()
    monkeypatch.setattr("governance.registry._PATIENCE", 0.1)
    head = world.ledger().read().head
    with contextlib.closing(sqlite3.connect(world.root / "mlruns/mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for name in ("promote", "rollback", "review"):
            with pytest.raises(StorageError, match=r"is locked by another process: wait for it or end it"):
                ACTS[name].do(world)
        assert world.ledger().read().head == head
        # Locked only once the decision is written: it stands.
        other.execute("ROLLBACK")
        written = Ledger.append

        def append(*arguments):
            record = written(*arguments)
            other.execute("BEGIN EXCLUSIVE")
            return record

        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "append", append)
            (note,) = world.promote(3).notes
        assert re.fullmatch(r"the decision is in force, but MLflow could not be told \(.* locked .*\); .*", note)
    assert served(world) == 3
    world.approve(4, VERA)
    assert audit(world.root, world.policy, world.root / "signals").broken == ()


def test_a_database_killed_in_the_middle_of_a_commit(fresh) -> None:
    """The first reader finds pages of both states on the disk, and a journal that puts them right."""
    world = fresh()
    database = world.root / "mlruns/mlflow.db"
    world.sql("CREATE TABLE filler (text)")
    for _ in range(50):
        world.sql("INSERT INTO filler VALUES (?)", "x" * 3000)

    def write():
        other = sqlite3.connect(database)
        other.execute("PRAGMA cache_size = 1")
        other.execute("UPDATE filler SET text = text || 'y'")
        killed("")

    assert run(write) is None
    assert database.with_name("mlflow.db-journal").exists()
    assert served(world) == 2
    assert world.sql("SELECT MAX(LENGTH(text)) FROM filler") == [(3000,)]
    world.promote(3)
    assert served(world) == 3


def test_two_promotions_at_once(fresh) -> None:
    world = fresh()
    first, second = Child.start(lambda: world.promote(3)), Child.start(lambda: world.promote(3))
    errors = sorted(answer["error"] for answer in (first.answer, second.answer))
    assert errors == ["", "version 3 is the champion already: nothing to do"]
    both = [Child.start(lambda: ACTS["rollback"].do(world)) for _ in range(2)]
    assert [child.answer["error"] for child in both] == ["", ""]
    assert served(world) == 1
    assert audit(world.root, world.policy, world.root / "signals").broken == ()


def test_no_server_is_needed(fresh, monkeypatch) -> None:
    world = fresh()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:9")
    world.train(weight=5.0, rank_ic=0.3, seed=5)
    assert world.register().version == 5
    world.approve(5)
    world.promote(5)
    assert served(world) == 5


def halved(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 0xFF for byte in data[middle : middle + 200]) + data[middle + 200 :]


@contextlib.contextmanager
def spoilt(file, spoil):
    whole = file.read_bytes()
    file.write_bytes(spoil(whole))
    yield
    file.write_bytes(whole)


def stored(world, version: int, name: str):
    """A file that was stored with a version."""
    registration = world.ledger().read().of_kind("registered")[version - 1].payload
    folders = [world.root / "mlruns/artifacts" / registration[key].removeprefix("signals:/") for key in PLACES]
    (found,) = [path for folder in folders for path in folder.rglob(name)]
    return found


PLACES = ("evidence_uri", "bundle_uri")


STORED = ("gates.json", "lineage.json", "metrics.json", "daily_ic.parquet", "manifest.json")


def test_what_was_stored_is_spoilt(fresh) -> None:
    world = fresh()
    head = world.ledger().read().head
    for name in STORED:
        for spoil in (halved, flipped):
            with spoilt(stored(world, 3, name), spoil):
                words = rf"version 3 may not be promoted: stored artifact .*{name} was changed"
                with pytest.raises(GovernanceError, match=words):
                    world.promote(3)
            assert (world.ledger().read().head, served(world)) == (head, 2)
    for spoil in (halved, flipped):
        with spoilt(stored(world, 2, "daily_ic.parquet"), spoil):
            with pytest.raises(GovernanceError, match=r"version 2: daily_ic.parquet was changed .*restore mlruns/"):
                world.promote(3)
            assert served(world) == 1
    world.promote(3)
    assert served(world) == 3


READ = {
    "artifacts/bundle/manifest.json": SignalsError,
    "artifacts/bundle/weights.json": BundleError,
    "reports/metrics.json": DataError,
    "reports/invariances.json": DataError,
    "reports/evaluation/daily_ic.parquet": DataError,
    "artifacts/tune/linear/trials.parquet": DataError,
    "keys.yaml": ConfigError,
}


def test_what_a_registration_reads_is_half_written(fresh) -> None:
    world = fresh()
    world.train(weight=5.0, rank_ic=0.3, seed=5)
    (world.root / "keys.yaml").write_text(f"keys:\n- person: 'Rob <rob@example.org>'\n  public: {'f' * 64}\n")
    records = world.ledger().read().records
    for name, error in READ.items():
        file = world.root / name
        with spoilt(file, halved), pytest.raises(error, match=re.escape(file.name)):
            world.register()
        assert world.ledger().read().records == records
    assert world.register().version == 5


@pytest.mark.slow
def test_a_registration_killed_at_some_writes_is_made_whole_by_the_next(world) -> None:
    def register():
        world.register()

    whole = world.root.with_name("counted")
    shutil.copytree(world.root, whole)
    counted = type(world)(whole, world.policy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGNALS_ROOT", str(whole))
        writes = run(counted.register, Faults(whole))["writes"]
    assert writes > 100
    for step in range(1, 8):
        assert run(register, Faults(world.root, killed, writes * step // 8)) is None
    assert world.register().version == 1
    kinds = [record.kind for record in world.ledger().read().records]
    assert sorted(kinds) == ["holdout_opened", "registered"]
    assert sorted(read_registry(world.root, MODEL).versions) == [1]
    assert len(list((world.root / "mlruns/artifacts/layered-signals/models").glob("m-*/artifacts/MLmodel"))) == 1
    world.approve(1)
    world.promote(1)
    assert served(world) == 1
    assert audit(world.root, world.policy, world.root / "signals").broken == ()


def test_a_new_key_is_whole_or_absent(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    root = tmp_path / "checkout"

    def make():
        keys.create_key(ROB, root)

    writes = run(make, Faults(tmp_path))["writes"]
    path = tmp_path / "config/layered-signals/rob@example.org.key"
    keys.read_private(path, root)
    for at in range(1, writes + 1):
        shutil.rmtree(tmp_path / "config")
        assert run(make, Faults(tmp_path, killed, at)) is None
        if not path.exists():
            make()
        keys.read_private(path, root)
    shutil.rmtree(tmp_path / "config")
    assert "the disk is full: free some space" in run(make, Faults(tmp_path, full, 1))["error"]


# Many at once.


@pytest.mark.slow
def test_twenty_readers_and_two_writers(fresh) -> None:
    """Nobody is refused, and nobody takes a decision that is being written for one that was tampered with."""
    world = fresh()
    rounds = 6

    def decide():
        for number in range(rounds):
            promotion.review(world.root, world.policy, 4, "approved", ROB, f"looked at it {number} times")

    def change():
        for _ in range(rounds // 2):
            world.promote(3)
            ACTS["rollback"].do(world)

    done = world.root / "done"

    def guard():
        while not done.exists():
            found = serving(world.root)
            assert found.version in (2, 3)
            assert found.warnings == ()
            _, state, registry = snapshot(world.root, MODEL, False)
            assert alias_doubts(registry, state) == []

    def look():
        from governance.store import client

        while not done.exists():
            mlflow = client(world.root)
            version = mlflow.get_registered_model(MODEL).aliases["champion"]
            assert int(mlflow.get_model_version(MODEL, version).version) in (2, 3)
            assert len(mlflow.search_model_versions(f"name = '{MODEL}'")) == 4

    def check():
        while not done.exists():
            assert audit(world.root, world.policy, world.root / "signals").broken == ()

    before = len(world.ledger().read().records)
    readers = [Child.start(act) for act in [guard] * 10 + [look] * 7 + [check] * 3]
    writers = [Child.start(decide), Child.start(change)]
    try:
        assert [writer.answer["error"] for writer in writers] == ["", ""]
    finally:
        done.touch()
    assert [reader.answer["error"] for reader in readers] == [""] * 20
    assert len(world.ledger().read().records) == before + 2 * rounds
    assert served(world) == 2
    assert audit(world.root, world.policy, world.root / "signals").broken == ()
