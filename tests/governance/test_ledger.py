"""The ledger keeps every record, notices every edit, and survives two writers and a crash."""

import json
import multiprocessing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import GovernanceError, StorageError
from core.files import canonical_json, digest_bytes
from governance.ledger import GENESIS, Ledger


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path / "ledger.jsonl")
    for number in range(4):
        made.append("registered", "Ann", {"version": number})
    return made


def lines(ledger):
    return ledger.path.read_text().splitlines()


def rewrite(ledger, found):
    ledger.path.write_text("".join(f"{line}\n" for line in found))


def test_records_are_chained(ledger):
    chain = ledger.verify()
    assert [r.seq for r in chain.records] == [0, 1, 2, 3]
    assert chain.records[0].prev == GENESIS
    assert all(b.prev == a.hash for a, b in zip(chain.records, chain.records[1:], strict=False))
    body = json.loads(lines(ledger)[0])
    kept = body.pop("hash")
    assert digest_bytes(canonical_json(body).encode()) == kept
    assert chain.contains(chain.head)
    assert not chain.contains("3:" + "0" * 64)
    assert not chain.contains("nonsense")


def test_a_missing_file_is_an_empty_chain(tmp_path):
    assert Ledger(tmp_path / "none.jsonl").read().records == ()


def test_a_changed_record_is_named_by_its_line(ledger):
    found = lines(ledger)
    found[1] = found[1].replace('"version":1', '"version":9')
    rewrite(ledger, found)
    with pytest.raises(GovernanceError, match=r"line 2 was changed"):
        ledger.verify()


def test_a_changed_record_with_a_new_hash_breaks_the_next_line(ledger):
    found = lines(ledger)
    body = json.loads(found[1])
    body["payload"]["version"] = 9
    body["hash"] = digest_bytes(canonical_json({k: v for k, v in body.items() if k != "hash"}).encode())
    found[1] = canonical_json(body)
    rewrite(ledger, found)
    with pytest.raises(GovernanceError, match=r"line 3 does not follow"):
        ledger.verify()


@pytest.mark.parametrize("keep", [[0, 2, 3], [1, 2, 3], [0, 2, 1, 3], [0, 1, 1, 2, 3]])
def test_removed_reordered_or_repeated_records_are_noticed(ledger, keep):
    found = lines(ledger)
    rewrite(ledger, [found[i] for i in keep])
    with pytest.raises(GovernanceError, match="does not follow"):
        ledger.verify()


def test_nothing_is_added_to_a_broken_ledger(ledger):
    rewrite(ledger, lines(ledger)[1:])
    before = ledger.path.read_bytes()
    with pytest.raises(GovernanceError, match="does not follow"):
        ledger.append("registered", "Ann", {})
    assert ledger.path.read_bytes() == before


def test_an_unknown_kind_is_refused(ledger):
    with pytest.raises(GovernanceError, match="unknown ledger record kind"):
        ledger.append("blessed", "Ann", {})


@given(cut=st.integers(min_value=0))
@settings(max_examples=40, deadline=None)
def test_a_crash_in_the_middle_of_a_line_loses_no_complete_record(tmp_path_factory, cut):
    ledger = Ledger(tmp_path_factory.mktemp("torn") / "ledger.jsonl")
    for number in range(2):
        ledger.append("registered", "Ann", {"version": number})
    data = ledger.path.read_bytes()
    last = data.rfind(b"\n", 0, -1) + 1
    cut = last + 1 + cut % (len(data) - last - 1)
    ledger.path.write_bytes(data[:cut])
    chain = ledger.read()
    whole = cut == len(data) - 1
    assert len(chain.records) == (2 if whole else 1)
    assert chain.torn == (b"" if whole else data[last:cut])
    added = ledger.append("registered", "Bob", {"version": 5})
    after = ledger.verify()
    assert after.torn == b""
    assert after.records[-1] == added
    if not whole:
        note = after.records[1]
        assert note.kind == "recovered"
        assert (ledger.path.parent / note.payload["kept_as"]).read_bytes() == data[last:cut]


def test_whole_json_that_is_no_record_is_not_taken_for_a_crash(ledger):
    with ledger.path.open("a") as handle:
        handle.write('{"seq": 4}')
    with pytest.raises(GovernanceError, match="line 5 is not a ledger record"):
        ledger.read()


def append_many(path, name, count):
    ledger = Ledger(Path(path))
    for number in range(count):
        ledger.append("registered", name, {"version": number})


def test_concurrent_writers_lose_nothing(tmp_path):
    path = tmp_path / "ledger.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=append_many, args=(path, f"writer {n}", 25)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    records = Ledger(path).verify().records
    assert len(records) == 100
    for name in {r.actor for r in records}:
        assert [r.payload["version"] for r in records if r.actor == name] == list(range(25))


def test_a_full_disk_leaves_the_ledger_as_it_was(ledger, monkeypatch):
    before = ledger.path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("governance.ledger.os.fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        ledger.append("registered", "Ann", {"version": 9})
    assert ledger.path.read_bytes() == before


@pytest.mark.parametrize("step", ["atomic_file", "os.fsync", "Ledger._write"])
def test_a_recovery_that_dies_itself_is_finished_by_the_next_writer(ledger, monkeypatch, step):
    with ledger.path.open("ab") as handle:
        handle.write(b'{"seq": 4, "ki')

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"governance.ledger.{step}", die)
        with pytest.raises(KeyboardInterrupt):
            ledger.append("registered", "Ann", {"version": 4})
    ledger.append("registered", "Ann", {"version": 4})
    chain = ledger.verify()
    assert [record.kind for record in chain.records[4:]] == ["recovered", "registered"]
    assert (ledger.path.parent / chain.records[4].payload["kept_as"]).read_bytes() == b'{"seq": 4, "ki'
    assert ledger.unrecorded(chain) == []


def killed_while_writing(path):
    """Write records until killed, each long enough to be cut."""
    ledger = Ledger(Path(path))
    while True:
        ledger.append("registered", "Ann", {"filler": "x" * 200_000})


def test_a_writer_that_is_killed_loses_nothing_of_others(tmp_path):
    path = tmp_path / "ledger.jsonl"
    context = multiprocessing.get_context("fork")
    for number in range(4):
        Ledger(path).append("reviewed", "Bob", {"version": number})
        writer = context.Process(target=killed_while_writing, args=(path,))
        writer.start()
        writer.join(0.15)
        writer.kill()
        writer.join()
    Ledger(path).append("reviewed", "Bob", {"version": 4})
    chain = Ledger(path).verify()
    assert [record.payload["version"] for record in chain.of_kind("reviewed")] == list(range(5))
    assert Ledger(path).unrecorded(chain) == []


def test_the_clock_may_not_run_back_and_a_small_step_does_not_turn_the_order(ledger, monkeypatch):
    def at(moment):
        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return moment

        monkeypatch.setattr("governance.ledger.datetime", Clock)

    last = ledger.read().records[-1].at
    at(last - timedelta(minutes=5))
    assert ledger.append("registered", "Ann", {}).at == last
    at(last - timedelta(minutes=11))
    before = ledger.path.read_bytes()
    with pytest.raises(GovernanceError, match=r"the clock .* is behind the last record"):
        ledger.append("registered", "Ann", {})
    assert ledger.path.read_bytes() == before


def test_every_fault_is_named_not_only_the_first(ledger):
    found = lines(ledger)
    found[0] = found[0].replace("Ann", "Eve")
    found[2] = "rubbish"
    rewrite(ledger, found)
    chain, faults = ledger.inspect()
    assert chain.records == ()
    assert [fault.split(" ")[1] for fault in faults] == ["1", "3"]
