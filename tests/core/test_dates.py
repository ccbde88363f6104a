"""One reading of dates, for every command and params.yaml."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from core.dates import FIRST, LAST, parse_date, parse_moment
from core.errors import ConfigError, DataError
from pipelines.cli import app
from pipelines.params import parse_settings
from sources.calendar import sessions, sessions_until

IMPOSSIBLE = ("0001-01-01", "1677-09-20", "1899-12-31", "2200-01-01", "2262-04-12", "9999-12-31")
UNREADABLE = (
    "soon",
    "",
    "2017-02-29",
    "20170103",
    "2017-W01-2",
    "2017-1-3",
    "03.01.2017",
    " 2017-01-03",
    "2017-01-03 ",
)


@given(st.dates(FIRST, LAST))
def test_what_is_written_is_read(day: datetime.date) -> None:
    assert parse_date(day.isoformat()) == day
    assert parse_moment(day.isoformat()).isoformat() == f"{day}T23:59:59.999999+00:00"


@pytest.mark.parametrize("text", [*IMPOSSIBLE, *UNREADABLE])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"from 1900-01-01 to 2199-12-31" if text in IMPOSSIBLE else "YYYY-MM-DD"):
        parse_date(text)
    with pytest.raises(ValueError, match=r"from 1900-01-01 to 2199-12-31" if text in IMPOSSIBLE else "YYYY-MM-DD"):
        parse_moment(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2017-01-03T10:00", "2017-01-03T10:00:00+00:00"),
        ("2017-01-03T10:00:00Z", "2017-01-03T10:00:00+00:00"),
        ("2017-01-03T10:00:00-05:00", "2017-01-03T15:00:00+00:00"),
        ("2017-01-03 23:00+14:00", "2017-01-03T09:00:00+00:00"),
    ],
)
def test_a_moment_is_of_utc_unless_it_says_otherwise(text: str, moment: str) -> None:
    assert parse_moment(text).isoformat() == moment


@pytest.mark.parametrize("text", ["2017-01-03T25:00", "2017-01-03T10:00+99:00", "2017-01-03x", "0001-01-01T00+14"])
def test_a_moment_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|choose"):
        parse_moment(text)


@pytest.fixture
def checkout(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_text((repository / name).read_text())
    monkeypatch.setenv("SIGNALS_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", ["9999-12-31", "0001-01-01", "20170103", "soon"])
@pytest.mark.parametrize(
    ("code", "words"),
    [
        (4, "infer --as-of DATE"),
        (4, "backfill --start DATE --end 2017-01-03"),
        (4, "backfill --start 2017-01-03 --end DATE"),
        (4, "monitor --as-of DATE"),
        (4, "risk --as-of DATE"),
        (2, "history --at DATE"),
        (2, "simulate --out market --start DATE"),
        (2, "simulate --out market --end DATE"),
    ],
)
def test_every_command_refuses_it_in_one_line(checkout: Path, words: str, code: int, text: str) -> None:
    done = CliRunner().invoke(app, [text if word == "DATE" else word for word in words.split()])
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == code
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert {path.name for path in checkout.iterdir()} <= {"dvc.yaml", "params.yaml"}


@pytest.mark.parametrize(
    "place", ["data.start", "data.end", "data.simulated.start", "data.simulated.end", "folds.first_test"]
)
@pytest.mark.parametrize("text", ["9999-12-31", "0001-01-01", "20170103", "soon"])
def test_params_yaml_refuses_it_in_one_line(repository: Path, place: str, text: str) -> None:
    *path, key = place.split(".")
    for value in (text, datetime.date.fromisoformat(text)) if text != "soon" and "-" in text else (text,):
        values = here = yaml.safe_load((repository / "params.yaml").read_text())
        for part in path:
            here = here[part]
        here[key] = value
        with pytest.raises(ConfigError, match=place) as caught:
            parse_settings(values)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("day", [FIRST, LAST])
def test_the_calendar_covers_them_and_what_lies_around(day: datetime.date) -> None:
    assert len(sessions_until(np.datetime64(day), 1500)) == 1500
    assert len(sessions(day, day + datetime.timedelta(days=366))) > 200


@pytest.mark.parametrize("day", ["0001-01-01", "1600-05-05", "9999-12-31"])
def test_no_date_of_a_table_takes_the_calendar_out_of_its_years(day: str) -> None:
    with pytest.raises(DataError, match="covers the years 1700 to 2259"):
        sessions(day, day)
