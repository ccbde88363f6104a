"""A result that is kept between runs knows which code made it."""

from __future__ import annotations

import importlib
import py_compile
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.code import digest_code, reachable, running
from core.errors import ConfigError
from core.files import digest_file


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


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that imports one module at the top and one late, and a third that nobody imports."""
    package = tmp_path / "elsewhere"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "start.py").write_text(
        "from elsewhere import near\n\ndef later():\n    import elsewhere.far\n    return near.x + elsewhere.far.x\n"
    )
    for name in ("near", "far", "apart"):
        (package / f"{name}.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "elsewhere"]:
        del sys.modules[name]


def test_what_is_reachable_runs(elsewhere: Path) -> None:
    names = reachable(elsewhere, ["elsewhere/start.py", "elsewhere/none.py"], ["elsewhere"])
    assert names == [f"elsewhere/{name}.py" for name in ("__init__", "far", "near", "start")]
    before = running(names)
    assert before == {name: digest_file(elsewhere / name) for name in names}
    (elsewhere / "elsewhere/apart.py").write_text("x = 2\n")
    assert running(names) == before
    (elsewhere / "elsewhere/far.py").write_text("x = 2\n")
    assert {name for name in names if running(names)[name] != before[name]} == {"elsewhere/far.py"}
    (elsewhere / "elsewhere/near.py").unlink()
    assert "elsewhere/near.py" not in running(names)


def test_a_compiled_module_without_source_is_another(elsewhere: Path) -> None:
    near = elsewhere / "elsewhere/near.py"
    before = running(["elsewhere/near.py"])
    py_compile.compile(str(near), str(near.with_suffix(".pyc")))
    near.unlink()
    assert importlib.import_module("elsewhere.near").x == 1
    after = running(["elsewhere/near.py"])
    assert after != before
    assert set(after) == {"elsewhere/near.py"}


def test_the_module_that_runs_counts_wherever_it_lies(elsewhere: Path, tmp_path: Path) -> None:
    """An editable install of another checkout: what is in memory came from there."""
    other = tmp_path / "other.py"
    other.write_text("x = -1\n")
    module = importlib.import_module("elsewhere.near")
    module.__file__ = str(other)
    assert running(["elsewhere/near.py"]) == {"elsewhere/near.py": digest_file(other)}
