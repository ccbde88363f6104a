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
from governance.outputs import manifest_digest, output_problems
from pipelines.history import read_history
from pipelines.infer import publish, whole_day
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
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "not a manifest"),
    ],
    ids=["changed", "missing", "added", "manifest", "no-manifest", "empty-manifest"],
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
