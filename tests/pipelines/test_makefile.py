"""`make run` hands on what was typed: neither make nor its shell runs anything in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SIGNALS = '#!/bin/sh\nprintf "%s\\0" "$@" > arguments\n'


@pytest.fixture
def checkout(repository: Path, tmp_path: Path) -> Path:
    """A folder with the Makefile, and a `signals` that writes down its arguments."""
    if shutil.which("make") is None:
        pytest.skip("no make")
    shutil.copy(repository / "Makefile", tmp_path)
    for name in ("pyproject.toml", "requirements.lock", ".venv/bin/signals", ".venv/.ready"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".venv/bin/signals").write_text(SIGNALS)
    (tmp_path / ".venv/bin/signals").chmod(0o755)
    for name in ("pyproject.toml", "requirements.lock"):
        os.utime(tmp_path / name, (0, 0))
    return tmp_path


def make(checkout: Path, *arguments: str, **environment: str) -> list[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("DATA", "PRESET", "MAKEFLAGS")}
    subprocess.run(["make", "-s", *arguments], cwd=checkout, env={**inherited, **environment}, check=True)
    return (checkout / "arguments").read_text().split("\0")[:-1]


@pytest.mark.parametrize(
    "typed",
    [
        *(
            "it's mine",
            'the "new" one',
            "a$b",
            "a$$b",
            "${HOME}",
            "$(HOME)",
            "#1",
            "50%",
            "a\\b",
            "a\\",
            "-x",
            "*",
            "a\nb",
        ),
        *("$(shell touch ran)", "$(touch ran)", "`touch ran`", "a; touch ran", "'; touch ran; '", "$(info x)"),
    ],
)
@pytest.mark.parametrize("name", ["DATA", "PRESET"])
def test_a_name_arrives_as_typed(checkout: Path, name: str, typed: str) -> None:
    expected = ["run", f"--{name.lower()}", typed]
    assert make(checkout, "run", f"{name}={typed}") == expected
    assert make(checkout, "run", **{name: typed}) == expected
    assert not (checkout / "ran").exists()


def test_what_is_not_given_is_not_handed_on(checkout: Path) -> None:
    assert make(checkout, "run") == ["run"]
    assert make(checkout, "run", "PRESET=fast", "DATA=simulated") == ["run", "--data", "simulated", "--preset", "fast"]
