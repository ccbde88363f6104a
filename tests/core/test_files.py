"""A file is whole or absent, whatever happens while it is written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import files
from core.errors import DataError, StorageError


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(".tmp"))


def spoil(temporary: Path, text: str) -> None:
    temporary.write_text(text)
    raise RuntimeError("stopped")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), files.atomic_file(path) as temporary:
        spoil(temporary, "half")
    assert files.read_json(path) == {"a": 1}
    assert leftovers(tmp_path) == []


def test_a_failed_folder_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with files.atomic_directory(folder) as temporary:
        (temporary / "a").write_text("old")
    with pytest.raises(RuntimeError), files.atomic_directory(folder) as temporary:
        spoil(temporary / "a", "new")
    assert (folder / "a").read_text() == "old"
    assert leftovers(tmp_path) == []


def test_a_new_folder_replaces_the_old_whole(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for name in ("first", "second"):
        with files.atomic_directory(folder) as temporary:
            (temporary / name).write_text(name)
    assert [path.name for path in folder.iterdir()] == ["second"]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_refusal_of_the_disk_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})

    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match="untouched"):
        files.write_json(path, {"a": 2})
    assert files.read_json(path) == {"a": 1}
    assert leftovers(tmp_path) == []


def test_another_error_of_the_system_is_not_disguised(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="odd"), files.atomic_file(tmp_path / "a"):
        raise OSError(errno.EIO, "odd")


def start(code: str) -> subprocess.Popen[str]:
    """Run Python code in a process of its own until it says "writing"."""
    root = Path(files.__file__).parents[1]
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def hang(within: str, path: Path) -> str:
    """Code of a writer that never finishes: `within` is atomic_file or atomic_directory."""
    target = "temporary" if within == "atomic_file" else "(temporary / 'a')"
    return (
        f"import time; from core.files import {within}\n"
        f"with {within}({str(path)!r}) as temporary:\n"
        f"    {target}.write_text('half'); print('writing', flush=True); time.sleep(60)"
    )


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    kill(start(hang("atomic_file", path)))
    assert path.read_text() == "old"
    assert len(leftovers(tmp_path)) == 1
    files.write_text(path, "new")
    assert path.read_text() == "new"
    assert leftovers(tmp_path) == []


def test_what_a_living_writer_writes_is_left_alone(tmp_path: Path) -> None:
    for within in ("atomic_file", "atomic_directory"):
        path = tmp_path / within
        process = start(hang(within, path))
        try:
            with getattr(files, within)(path) as temporary:
                assert len(leftovers(tmp_path)) == 2
                (temporary if within == "atomic_file" else temporary / "a").write_text("whole")
            assert len(leftovers(tmp_path)) == 1
        finally:
            kill(process)
        with getattr(files, within)(path):
            assert len(leftovers(tmp_path)) == 1
        assert leftovers(tmp_path) == []


def test_a_writer_killed_between_its_two_renames_loses_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with files.atomic_directory(path) as folder:
        (folder / "a").write_text("old")
    code = (
        "import time; from pathlib import Path; from core.files import atomic_directory\n"
        "real = Path.replace\n"
        "def once(self, target):\n"
        "    real(self, target); print('writing', flush=True); time.sleep(60)\n"
        f"with atomic_directory({str(path)!r}):\n"
        "    Path.replace = once"
    )
    kill(start(code))
    assert not path.exists()
    with pytest.raises(RuntimeError), files.atomic_directory(path) as folder:
        spoil(folder / "a", "new")
    assert (path / "a").read_text() == "old"
    assert leftovers(tmp_path) == []


def test_a_number_used_again_by_this_process_protects_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with files.atomic_file(path) as temporary:
        dead = temporary.with_name(temporary.name.replace(temporary.name.split(".")[-2], "00000000"))
        dead.write_text("left by the process that had this number before")
        files.write_text(path, "new")
        assert leftovers(tmp_path) == [temporary.name]


def test_a_frame_gives_the_same_bytes_at_any_time(tmp_path: Path) -> None:
    frame = pd.DataFrame({"date": pd.to_datetime(["2016-01-04"]), "symbol": ["A"], "x": np.float32([1.5])})
    files.write_parquet(tmp_path / "a.parquet", frame)
    time.sleep(0.01)
    files.write_parquet(tmp_path / "b.parquet", frame.copy())
    assert files.digest_file(tmp_path / "a.parquet") == files.digest_file(tmp_path / "b.parquet")
    pd.testing.assert_frame_equal(files.read_parquet(tmp_path / "a.parquet"), frame, check_dtype=False)


def test_years_come_back_in_order_without_the_partition_column(tmp_path: Path) -> None:
    dates = pd.to_datetime(["2015-12-31", "2016-01-04", "2017-03-01"])
    files.write_by_year(tmp_path / "t", pd.DataFrame({"date": dates, "x": [1.0, 2.0, 3.0]}))
    found = files.read_parquet(tmp_path / "t")
    assert list(found.columns) == ["date", "x"]
    assert found["x"].tolist() == [1.0, 2.0, 3.0]


def test_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"a\.parquet is not readable"):
        files.read_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"b\.parquet is missing"):
        files.read_parquet(tmp_path / "b.parquet")
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(DataError, match=r"c\.json is not valid JSON"):
        files.read_json(tmp_path / "c.json")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_one_value_has_one_text(value: object) -> None:
    text = files.canonical_json(value)
    assert text == files.canonical_json(value)
    assert "\n" not in text


def test_order_of_keys_and_kind_of_number_do_not_matter() -> None:
    assert files.canonical_json({"b": np.int64(1), "a": (1, 2)}) == files.canonical_json({"a": [1, 2], "b": 1})
    assert files.canonical_json({"x": float("nan")}) == '{"x":null}'


def test_a_tree_is_known_by_every_byte(tmp_path: Path) -> None:
    with files.atomic_directory(tmp_path / "t") as folder:
        (folder / "b").mkdir()
        (folder / "b" / "x").write_text("1")
        (folder / "a").write_text("2")
    before = files.digest_tree(tmp_path / "t")
    assert list(before) == ["a", "b/x"]
    (tmp_path / "t" / "b" / "x").write_text("3")
    after = files.digest_tree(tmp_path / "t")
    assert [name for name in before if before[name] != after[name]] == ["b/x"]


DIGESTS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("01"))


@given(DIGESTS, DIGESTS)
def test_differences_name_every_file_once_and_how_it_differs(expected: dict[str, str], found: dict[str, str]) -> None:
    told = dict(line.split(" ", 1) for line in files.differences(expected, found))
    assert told == {
        **dict.fromkeys(expected.keys() - found.keys(), "is missing"),
        **dict.fromkeys(found.keys() - expected.keys(), "was added"),
        **{name: "was changed" for name in expected.keys() & found.keys() if expected[name] != found[name]},
    }
    loose = files.differences(expected, found, exact=False)
    assert loose == [line for line in files.differences(expected, found) if not line.endswith("added")]
