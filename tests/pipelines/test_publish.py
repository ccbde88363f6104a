"""A day's folder is there whole or as it was, wherever the writer is killed or refused."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from core import files
from core.errors import DataError, StorageError
from governance.outputs import manifest_digest, output_problems, refuse_foreign, write_manifest
from pipelines import backfill as range_of_days
from pipelines.history import read_history
from pipelines.infer import _stands as stands
from pipelines.infer import publish, whole_day
from pipelines.log import Log
from pipelines.risk import _days_of as days_of

WRITES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod"}
ONE, TWO = ({"date": "2016-12-30", "bundle": bundle, "version": version} for version, bundle in ((1, "a"), (2, "b")))
SIGNALS = pd.DataFrame({"symbol": ["AAA", "BBB"], "rank": [1, 2], "signal": [0.7, -0.7]})


def killed_at(step: int, folder: Path) -> bool:
    """Publish in a process that dies at its `step`-th touch of the disk; whether it lived to the end."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
        return not os.WIFSIGNALED(status)
    touched = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal touched
        if event in WRITES and str(folder.parent) in str(arguments[0]):
            touched += 1
            if touched == step:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(watch)
        publish(folder, SIGNALS, TWO)
    finally:
        os._exit(0)


def leftovers(folder: Path) -> list[str]:
    return [entry.name for entry in folder.parent.iterdir() if entry != folder]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("before", [None, ONE], ids=["a new day", "a day written again"])
def test_a_writer_killed_anywhere_leaves_no_partial_day_and_the_next_one_succeeds(tmp_path: Path, before) -> None:
    steps = 0
    for step in range(1, 200):
        folder = tmp_path / str(step) / "date=2016-12-30"
        if before:
            publish(folder, SIGNALS, before)
        lived = killed_at(step, folder)
        if folder.exists():
            found = whole_day(folder)
            assert found is not None, f"partial output after step {step}"
            assert found["version"] in {told["version"] for told in (before, TWO) if told}
        elif before:
            # between the two renames of a swap: the old day stands aside, whole, until the next writer
            aside = [entry for entry in folder.parent.iterdir() if entry.name.endswith(".old.tmp")]
            assert [whole_day(entry)["version"] for entry in aside] == [1]
        publish(folder, SIGNALS, TWO)
        assert whole_day(folder)["version"] == 2
        assert leftovers(folder) == []
        if lived:
            break
        steps += 1
    assert lived
    assert steps > 15


@pytest.fixture(params=[errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES], ids=errno.errorcode.get)
def refusal(request: pytest.FixtureRequest) -> OSError:
    return OSError(request.param, os.strerror(request.param))


def refusing(calls: Iterator[int], step: int, real, refusal: OSError):
    def call(*arguments, **options):
        if next(calls) == step:
            raise refusal
        return real(*arguments, **options)

    return call


@pytest.mark.parametrize("step", range(8))
def test_a_refusing_disk_leaves_the_day_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: OSError, step: int
) -> None:
    folder = tmp_path / "date=2016-12-30"
    publish(folder, SIGNALS, ONE)
    calls = iter(range(1000))
    with monkeypatch.context() as patch:
        for place, name in ((Path, "mkdir"), (Path, "touch"), (Path, "replace"), (files, "_sync")):
            patch.setattr(place, name, refusing(calls, step, getattr(place, name), refusal))
        with pytest.raises(StorageError, match="what was there before is untouched"):
            publish(folder, SIGNALS, TWO)
    assert whole_day(folder)["version"] == 1
    assert leftovers(folder) == []
    publish(folder, SIGNALS, TWO)
    assert whole_day(folder)["version"] == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_writers_at_once_leave_one_whole_day(tmp_path: Path) -> None:
    folder = tmp_path / "date=2016-12-30"
    for _ in range(5):
        children = []
        for manifest in (ONE, TWO):
            child = os.fork()
            if not child:
                try:
                    for _ in range(5):
                        publish(folder, SIGNALS, manifest)
                finally:
                    os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        assert whole_day(folder)["version"] in (1, 2)
    publish(folder, SIGNALS, ONE)
    assert leftovers(folder) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "signals.parquet").write_bytes(b"PAR1"),
        lambda folder: (folder / "signals.csv").unlink(),
        lambda folder: (folder / "more.csv").write_text("x"),
        lambda folder: (folder / "manifest.json").write_text('{"files": {'),
        lambda folder: (folder / "manifest.json").write_text("[]"),
        lambda folder: (folder / "manifest.json").unlink(),
    ],
    ids=["cut short", "a file gone", "a file more", "half a manifest", "no manifest of ours", "no manifest"],
)
def test_a_day_that_is_not_as_it_was_written_does_not_count(tmp_path: Path, spoil) -> None:
    folder = tmp_path / "date=2016-12-30"
    assert whole_day(folder) is None
    publish(folder, SIGNALS, ONE)
    found = whole_day(folder)
    assert found == {**ONE, "files": found["files"], "digest": manifest_digest(found)}
    spoil(folder)
    assert whole_day(folder) is None


NOBODY = SimpleNamespace(contains=lambda head: True, of_kind=lambda kind: ())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "signals.csv").write_text("x"), "signals.csv was changed"),
        (lambda folder: (folder / "signals.csv").unlink(), "signals.csv is missing"),
        (lambda folder: (folder / "more.txt").write_text("x"), "more.txt was added"),
        (lambda folder: edit(folder, in_sample=True), "manifest.json was changed"),
        (lambda folder: edit(folder, digest=None), "no valid 'digest'"),
        (lambda folder: move_to(folder, date="2016-12-29"), "manifest.json is of 2016-12-29"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "not a manifest"),
    ],
    ids=["changed", "missing", "added", "manifest", "seal", "day", "no-manifest", "empty-manifest"],
)
def test_every_reader_of_a_served_day_refuses_what_another_refuses(tmp_path: Path, damage, words: str) -> None:
    folder, day = tmp_path / "date=2016-12-30", np.datetime64("2016-12-30")
    rows = SIGNALS.assign(
        date=pd.Timestamp(day), expected_return=0.0, interval_low=-1.0, interval_high=1.0, p_wrong=0.5
    )
    publish(folder, rows, {**ONE, "symbols": 2, "promotion": "", "in_sample": False})
    panel = SimpleNamespace(dates=np.array([day]), symbols=["AAA", "BBB"])

    assert len(days_of(tmp_path, panel)) == 1
    assert whole_day(folder) is not None
    assert read_history(tmp_path, day, 5).days["state"].tolist() == ["served"]
    assert output_problems(folder, NOBODY) == ["it says version 1 with a bundle that was never in production"]

    damage(folder)
    with pytest.raises(DataError, match=words):
        days_of(tmp_path, panel)
    assert whole_day(folder) is None
    history = read_history(tmp_path, day, 5).days
    assert history["state"].tolist() == ["broken"]
    assert words in history["problem"].iloc[0]
    assert words in output_problems(folder, NOBODY)[0]


def edit(folder: Path, **changes: object) -> None:
    manifest = files.read_json(folder / "manifest.json")
    files.write_json(folder / "manifest.json", {**manifest, **changes})


def move_to(folder: Path, **changes: object) -> None:
    write_manifest(folder, {**files.read_json(folder / "manifest.json"), **changes})


SERVED = {**ONE, "data": "d", "stance": {"share": 0.2}, "in_sample": False}


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "signals" / "date=2016-12-30"
    publish(folder, SIGNALS, SERVED)
    return folder


def test_the_same_signals_stand_and_altered_ones_are_written_again(served: Path) -> None:
    log = Log("infer", as_json=True)
    assert stands(served, SERVED, log)
    (served / ".DS_Store").write_bytes(b"Bud1")
    (served / "._signals.csv").write_bytes(b"x")
    assert whole_day(served) is not None
    assert stands(served, SERVED, log)
    edit(served, in_sample=True)
    assert not stands(served, SERVED, log)
    (served / "signals.csv").unlink()
    assert not stands(served, SERVED, log)
    assert not stands(served.with_name("date=2016-12-29"), SERVED, log)


CHANGES = [{"bundle": "b"}, {"version": 2}, {"data": "e"}, {"stance": {"share": 0.1}}, {"shadow": True}]
WHOLE_OR_NOT = {
    "whole": lambda folder: None,
    "a file more": lambda folder: (folder / "notes.txt").write_text("x"),
    "a hidden file more": lambda folder: (folder / ".DS_Store").write_bytes(b"x"),
    "a file cut short": lambda folder: (folder / "signals.csv").write_text("x"),
    "a file gone": lambda folder: (folder / "signals.parquet").unlink(),
    "manifest edited": lambda folder: edit(folder, in_sample=True),
}


@pytest.mark.parametrize("damage", WHOLE_OR_NOT.values(), ids=WHOLE_OR_NOT.keys())
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_other_signals_are_not_replaced_unless_forced(served: Path, change: dict, damage) -> None:
    damage(served)
    with pytest.raises(DataError, match=r"already served .* --force"):
        stands(served, {**SERVED, **change}, Log("infer"))


@pytest.mark.parametrize("key", ["version", "date", "bundle", "data", "stance", "files", "digest"])
@pytest.mark.parametrize("sealed", [True, False])
def test_a_manifest_that_lacks_an_entry_is_refused_in_one_line(served: Path, key: str, sealed: bool) -> None:
    manifest = files.read_json(served / "manifest.json")
    del manifest[key]
    if sealed and key not in ("files", "digest"):
        write_manifest(served, manifest)
    else:
        files.write_json(served / "manifest.json", manifest)
    with pytest.raises(DataError, match="--force"):
        stands(served, SERVED, Log("infer"))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "kept.txt").write_text("x")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "notes.txt").write_text("x"), "holds 'notes.txt'"),
        (lambda folder: (folder / "more").mkdir(), "holds 'more'"),
        (lambda folder: (folder / "link").symlink_to("nowhere"), "holds 'link'"),
        (lambda folder: a_folder(folder / "manifest.json"), "holds 'manifest.json'"),
        (lambda folder: a_folder(folder / "signals.csv"), "holds 'signals.csv'"),
        (lambda folder: (folder.rename(folder.with_name("moved")), folder.write_text("x")), "is not a folder"),
        (lambda folder: (folder.rename(folder.with_name("moved")), folder.symlink_to("nowhere")), "is not a folder"),
        (lambda folder: (folder.rename(folder.with_name("moved")), folder.symlink_to(folder)), "is not a folder"),
    ],
    ids=["file", "folder", "link", "manifest", "signals", "day a file", "day a dangling link", "day a link to itself"],
)
def test_what_was_not_written_with_the_signals_is_not_removed(served: Path, damage, words: str) -> None:
    refuse_foreign(served)
    damage(served)
    with pytest.raises(DataError, match=words):
        refuse_foreign(served)


@pytest.mark.parametrize("put", [lambda path: path.write_text("x"), lambda path: path.symlink_to("nowhere")])
def test_something_else_in_the_place_of_the_signals_is_kept(tmp_path: Path, put) -> None:
    put(tmp_path / "signals")
    folder = tmp_path / "signals" / "date=2016-12-30"
    refuse_foreign(folder)
    with pytest.raises(StorageError, match="something else is in the place of a folder"):
        publish(folder, SIGNALS, ONE)
    assert [entry.name for entry in tmp_path.iterdir()] == ["signals"]


def test_a_day_that_is_a_link_is_replaced_and_leaves_nothing(served: Path) -> None:
    elsewhere = served.rename(served.parent.parent / "elsewhere")
    served.symlink_to(elsewhere)
    publish(served, SIGNALS, TWO)
    assert whole_day(served)["version"] == 2
    assert not served.is_symlink()
    assert files.read_json(elsewhere / "manifest.json")["version"] == 1
    assert leftovers(served) == []


@pytest.mark.parametrize("damage", [lambda folder: edit(folder, version=7), lambda folder: edit(folder, version=None)])
def test_a_backfill_does_not_take_an_edited_day_for_done(served: Path, damage, monkeypatch, capsys) -> None:
    damage(served)
    asked = []
    job = SimpleNamespace(root=served.parent.parent, now=None, log=Log("backfill", as_json=True))
    monkeypatch.setattr(range_of_days.Job, "open", lambda log: job)
    monkeypatch.setattr(range_of_days, "last_completed", lambda now: np.datetime64("2017-01-03"))
    monkeypatch.setattr(range_of_days, "serve", lambda job, session, force: asked.append(str(session)))
    assert range_of_days.backfill("2016-12-30", "2016-12-30") == 0
    assert asked == ["2016-12-30"]
