"""A registry finds its modules by itself, and its refusals say what there is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import Field

from core.errors import ConfigError, SignalsError
from core.params import Day, Params, parse
from core.registry import Registry


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with one module that registers an entry."""
    folder = tmp_path / "found_here"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from core.registry import Registry\nTHINGS = Registry('thing', 'found_here')\n"
    )
    (folder / "one.py").write_text("from found_here import THINGS\nTHINGS.register('one')(1)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "found_here"]:
        monkeypatch.delitem(sys.modules, name)
    return "found_here"


def test_a_new_file_is_found(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "two.py").write_text("from found_here import THINGS\nTHINGS.register('two')(2)\n")
    things = __import__(package).THINGS
    assert things.names() == ("one", "two")
    assert things["two"] == 2
    assert "three" not in things
    with pytest.raises(ConfigError, match="unknown thing 'three': choose one of one, two"):
        things["three"]


def test_a_name_is_given_once() -> None:
    things: Registry[int] = Registry("thing", "nowhere")
    things.register("a")(1)
    with pytest.raises(ConfigError, match="'a' is registered twice"):
        things.register("a")(2)


class Inner(Params):
    depth: int = Field(1, ge=1)


class Outer(Params):
    inner: Inner = Inner()
    since: Day | None = None
    share: float = 0.5


def test_nested_refusals_name_the_whole_path() -> None:
    with pytest.raises(ConfigError, match=r"block\.inner\.dept: unknown parameter; known here: depth"):
        parse(Outer, {"inner": {"dept": 2}}, "block")
    with pytest.raises(ConfigError, match=r"block\.inner\.depth = 0: .*greater than or equal to 1 \(and 1 more\)"):
        parse(Outer, {"inner": {"depth": 0}, "share": "much"}, "block")
    with pytest.raises(ConfigError, match=r"block\.since = 'soon': .*YYYY-MM-DD"):
        parse(Outer, {"since": "soon"}, "block")


def test_whole_numbers_serve_as_fractions_but_words_do_not() -> None:
    assert parse(Outer, {"share": 1}, "block").share == 1.0
    with pytest.raises(ConfigError, match=r"block\.share = '0\.5'"):
        parse(Outer, {"share": "0.5"}, "block")


def test_exit_codes_are_distinct() -> None:
    def tree(kind: type[SignalsError]) -> list[type[SignalsError]]:
        return [kind, *(deeper for child in kind.__subclasses__() for deeper in tree(child))]

    codes = [kind.exit_code for kind in tree(SignalsError)]
    assert len(set(codes)) == len(codes)
