"""The main job: what it does in which order; pointing it at other data changes two lines and not a byte more."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from core.errors import ConfigError
from pipelines import run as main_job
from pipelines.choices import choose_data, choose_preset
from pipelines.params import load_settings


@pytest.fixture
def root(repository: Path, tmp_path: Path) -> Path:
    text = (repository / "params.yaml").read_text()
    # The checkout under test may have been pointed at other data.
    for key, value in (("source", "simulated"), ("path", "data/files")):
        text = re.sub(rf"(?m)^  {key}: \S+", f"  {key}: {value}", text, count=1)
    (tmp_path / "params.yaml").write_text(text)
    (tmp_path / "mine").mkdir()
    return tmp_path


def test_there_and_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    before = (root / "params.yaml").read_text()
    choose_data(root, "simulated")
    assert (root / "params.yaml").read_text() == before
    choose_data(root, "mine")
    changed = [
        (old.split("#")[0].split(), new.split("#")[0].split())
        for old, new in zip(before.splitlines(), (root / "params.yaml").read_text().splitlines(), strict=True)
        if old.split() != new.split()
    ]
    assert changed == [
        (["source:", "simulated"], ["source:", "files"]),
        (["path:", "data/files"], ["path:", "mine"]),
    ]


@pytest.mark.parametrize(("name", "words"), [("nowhere", "nowhere does not exist"), ("dat\udcfc", "the byte 0xfc")])
def test_a_folder_that_cannot_be_read_changes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(root)
    before = (root / "params.yaml").read_bytes()
    with pytest.raises(ConfigError, match=words):
        choose_data(root, name)
    assert (root / "params.yaml").read_bytes() == before


def test_a_preset_and_back(root: Path) -> None:
    choose_preset(root, "full")
    before = (root / "params.yaml").read_text()
    choose_preset(root, "fast")
    after = (root / "params.yaml").read_text()
    changed = sum(old.split() != new.split() for old, new in zip(before.splitlines(), after.splitlines(), strict=True))
    # one line a choice of the preset
    assert changed == 8
    choose_preset(root, "full")
    assert [line.split() for line in (root / "params.yaml").read_text().splitlines()] == [
        line.split() for line in before.splitlines()
    ]


def test_the_full_preset_is_what_is_committed(root: Path) -> None:
    before = load_settings(root / "params.yaml")
    choose_preset(root, "full")
    assert load_settings(root / "params.yaml") == before


def test_an_unknown_preset_changes_nothing(root: Path) -> None:
    before = (root / "params.yaml").read_bytes()
    with pytest.raises(ConfigError, match="unknown preset 'slow': choose one of fast, full"):
        choose_preset(root, "slow")
    assert (root / "params.yaml").read_bytes() == before


def test_the_tear_sheet_is_there_when_the_version_is_registered(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(main_job, "find_root", lambda: root)
    for module, name in (
        ("pipelines.run", "reproduce"),
        ("pipelines.tearsheet", "tearsheet"),
        ("pipelines.register", "register"),
        ("pipelines.infer", "preview"),
    ):
        monkeypatch.setattr(importlib.import_module(module), name, lambda *_, name=name: done.append(name))
    main_job.run()
    assert done == ["reproduce", "tearsheet", "register", "preview"]
