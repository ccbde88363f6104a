"""A result that is kept between runs knows which code made it."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.code import digest_code
from core.errors import ConfigError


def test_every_source_counts_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "somewhere" / "deep"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").write_text("")
    (package / "a.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = digest_code(("somewhere",))
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    assert digest_code(("somewhere",)) == before
    (package / "a.py").write_text("x = 2\n")
    changed = digest_code(("somewhere",))
    assert changed != before
    (package / "b.py").write_text("")
    assert digest_code(("somewhere",)) != changed


def test_versions_of_libraries_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest_code(("core",), ("numpy",))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0")
    assert digest_code(("core",), ("numpy",)) != before


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="'nowhere_at_all'"):
        digest_code(("nowhere_at_all",))
    with pytest.raises(ConfigError, match="not-a-library"):
        digest_code(("core",), ("not-a-library",))
