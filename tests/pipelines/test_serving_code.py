"""The code that serves a version is the code that it was registered with, or was accepted by its digest."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from core.code import running
from core.errors import BundleError, DataError
from core.files import canonical_json, digest_bytes
from governance.lineage import serving_code
from pipelines import infer as daily
from pipelines.infer import _check_code, _stands
from pipelines.log import Log


@pytest.fixture(scope="module")
def code(repository: Path) -> dict[str, str]:
    return serving_code(repository)


def job(accepted: str = "") -> SimpleNamespace:
    return SimpleNamespace(log=Log("infer"), settings=SimpleNamespace(daily=SimpleNamespace(accepted_code=accepted)))


def test_what_decides_signals_is_recorded_and_what_does_not_is_not(repository: Path, code: dict[str, str]) -> None:
    """Every deciding module that a serving process has loaded is on record."""
    assert {"models/meta.py", "models/layers/linear.py", "features/returns.py", "pipelines/day.py"} <= set(code)
    assert {"core/files.py", "sources/calendar.py", "models/outlook.py", "pipelines/infer.py"} <= set(code)
    families = {path.relative_to(repository).as_posix() for path in (repository / "features/families").glob("*.py")}
    assert families <= set(code)
    aside = ("pipelines/cli.py", "models/tuning.py", "reporting/page.py", "governance/guard.py", "monitoring/drift.py")
    assert not set(aside) & set(code)
    assert running(code) == code


@pytest.mark.parametrize("name", ["models/meta.py", "features/returns.py", "core/files.py", "pipelines/day.py"])
def test_other_code_is_refused_until_it_is_accepted(code: dict[str, str], name: str) -> None:
    """As after an edit that nobody committed, or a `git pull`."""
    then = {**code, name: "0" * 64}
    with pytest.raises(
        BundleError, match=rf"version 3 is not what it was registered with: {name} was changed"
    ) as error:
        _check_code(job(), 3, then, [])
    digest = digest_bytes(canonical_json(code).encode())
    assert f"daily.accepted_code: {digest}" in str(error.value)
    warnings: list[str] = []
    assert _check_code(job(digest), 3, then, warnings) == {"code": digest}
    assert f"{name} was changed), as accepted" in warnings[0]
    with pytest.raises(BundleError):
        _check_code(job("1" * 64), 3, then, [])


def test_a_file_that_is_gone_is_refused(code: dict[str, str]) -> None:
    with pytest.raises(BundleError, match=r"models/gone\.py is missing"):
        _check_code(job(), 3, {**code, "models/gone.py": "0" * 64}, [])


def test_the_same_code_is_served_without_a_word(code: dict[str, str]) -> None:
    warnings: list[str] = []
    found = _check_code(job(), 3, code, warnings)
    assert (set(found), warnings) == ({"code"}, [])


def test_a_version_of_an_older_release_is_served_with_a_warning() -> None:
    warnings: list[str] = []
    assert _check_code(job(), 3, None, warnings) == {}
    assert "without the digests of its code" in warnings[0]


def test_a_day_made_by_other_code_does_not_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"date": "2016-12-30", "bundle": "b", "version": 1, "data": "d", "stance": {}, "code": "c"}
    folder = tmp_path / "date=2016-12-30"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    monkeypatch.setattr(daily, "read_output", lambda _: (made, []))
    assert _stands(folder, made, Log("infer"))
    with pytest.raises(DataError, match="by other code"):
        _stands(folder, {**made, "code": "e"}, Log("infer"))
