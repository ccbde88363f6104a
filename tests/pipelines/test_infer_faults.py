"""The daily job and the backfill against spoilt inputs, a locked database, a full disk and a kill half way."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from core.errors import DataError, GovernanceError, SessionError, StorageError
from core.files import digest_tree
from governance import registry
from pipelines import backfill as range_of_days
from pipelines import infer as daily
from pipelines.backfill import backfill
from pipelines.infer import infer, whole_day
from pipelines.log import Log
from pipelines.tables import read_tables
from sources.calendar import declare

pytestmark = pytest.mark.slow

GRACE = "Grace <grace@example.org>"
GATES = {"gates": [{"name": "no_leakage", "check": "invariances", "waivable": False, "reason": "leaks are fatal"}]}
DAYS = ["2016-12-27", "2016-12-28", "2016-12-29", "2016-12-30"]


@pytest.fixture(scope="module")
def promoted(finished, tmp_path_factory: pytest.TempPathFactory):
    """A project whose version is in production and whose tables are delivered as files."""
    project = finished.copy(tmp_path_factory.mktemp("promoted") / "project")
    for name, table in read_tables(project.root / "data/raw").items():
        table.to_parquet(project.root / f"data/files/{name}.parquet")
    project.set_params({"data": {"source": "files"}, "governance": GATES})
    project.signals("register")
    project.signals("review", "candidate", "approve", "--comment", "fine", "--by", GRACE)
    project.signals("promote", "candidate", "--by", GRACE)
    return project


@pytest.fixture
def job(promoted, monkeypatch: pytest.MonkeyPatch):
    """The project with nothing served and its tables as delivered; commands of this process run in it."""
    root = promoted.root
    monkeypatch.setenv("SIGNALS_ROOT", str(root))
    monkeypatch.delenv("SIGNALS_LOG", raising=False)
    kept = root.parent / "delivery"
    if not kept.exists():
        shutil.copytree(root / "data/files", kept)
    shutil.rmtree(root / "signals", ignore_errors=True)
    shutil.rmtree(root / "data/files")
    shutil.copytree(kept, root / "data/files")
    return promoted


def day_folder(project, day: str = DAYS[-1]) -> Path:
    return project.root / "signals" / f"date={day}"


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    for place in range(len(data) // 4, len(data) // 4 + 4000):
        data[place] ^= 0xFF
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("table", ["prices", "fundamentals", "posts"])
@pytest.mark.parametrize("spoil", [cut_short, flipped, lambda file: file.write_bytes(b"")])
def test_a_spoilt_delivery_stops_the_day_and_a_whole_one_makes_it(job, table: str, spoil) -> None:
    file = job.root / f"data/files/{table}.parquet"
    whole = file.read_bytes()
    spoil(file)
    with pytest.raises(DataError, match=table):
        infer(DAYS[-1])
    assert not (job.root / "signals").exists()
    file.write_bytes(whole)
    infer(DAYS[-1])
    assert whole_day(day_folder(job)) is not None


def test_a_file_that_is_still_being_copied_is_not_read(job) -> None:
    folder = job.root / "data/files"
    (folder / ".prices.parquet.a1b2").write_bytes(b"half")
    (folder / "prices.parquet.part").write_bytes(b"half")
    infer(DAYS[-1])
    assert whole_day(day_folder(job)) is not None


def test_a_locked_database_ends_the_day_and_its_release_lets_it_go_on(job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_PATIENCE", 0.1)
    with contextlib.closing(sqlite3.connect(job.root / "mlruns/mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match="locked by another process"):
            infer(DAYS[-1])
        other.rollback()
    infer(DAYS[-1])
    assert whole_day(day_folder(job)) is not None


def test_a_full_disk_ends_the_day_and_leaves_what_was_served(job, monkeypatch: pytest.MonkeyPatch) -> None:
    infer(DAYS[-1])
    before = digest_tree(job.root / "signals")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("core.files.pq.write_table", full)
        with pytest.raises(StorageError, match="the disk is full"):
            infer(DAYS[-1], force=True)
    assert digest_tree(job.root / "signals") == before
    infer(DAYS[-1], force=True)
    assert digest_tree(job.root / "signals") == before


def test_an_altered_output_is_made_again(job) -> None:
    infer(DAYS[-1])
    before = digest_tree(job.root / "signals")
    cut_short(day_folder(job) / "signals.parquet")
    infer(DAYS[-1])
    assert digest_tree(job.root / "signals") == before


def test_no_server_and_no_training_library_is_needed(job) -> None:
    banned = ["mlflow", "torch", "lightning", "optuna", "matplotlib", "dvc", "sqlalchemy"]
    idle = ["sklearn", "scipy.stats", "scipy.optimize", "exchange_calendars", "models.stack", "models.tuning"]
    code = f"""
import sys, socket
for name in {banned!r}: sys.modules[name] = None
def loaded():
    return [name for name in {idle!r} if name in sys.modules]
def refuse(*_): raise AssertionError("the daily job opened a connection")
socket.socket.connect = refuse
from pipelines.cli import app
sys.argv = ["signals", "infer", "--as-of", {DAYS[-1]!r}, "--json-logs"]
try:
    app()
finally:
    assert not loaded(), loaded()
"""
    job.env["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    file = job.root / "banned.py"
    file.write_text(code)
    try:
        done = job.run("banned")
    finally:
        file.unlink()
        del job.env["MLFLOW_TRACKING_URI"]
    assert done.stdout == ""
    last = json.loads(done.stderr.splitlines()[-1])
    assert (last["event"], last["exit_code"], last["session"], last["version"]) == ("written", 0, DAYS[-1], 1)


def test_the_row_and_the_manifest_say_all_that_the_design_lists(job) -> None:
    infer(DAYS[-1])
    rows = pd.read_parquet(day_folder(job) / "signals.parquet")
    wanted = {
        "date", "symbol", "rank", "signal", "signal_a", "signal_c", "expected_return", "interval_low",
        "interval_high", "p_wrong", "stress_hmm", "stress_jump", "behaviour", "stance", "top_reasons",
    }  # fmt: skip
    assert wanted <= set(rows)
    assert set(rows["stance"]) <= {"long", "short", "flat"}
    assert (rows.loc[rows["stance"] == "long", "rank"] <= 0.2 * len(rows)).all()
    assert rows["stress_hmm"].between(0, 1).all()
    manifest = whole_day(day_folder(job))
    assert manifest["market"]["stress_hmm"] == rows["stress_hmm"].iloc[0]
    assert manifest["stance"] == {"share": 0.2, "max_p_wrong": 0.5}
    # the past was served before anything was promoted: the present champion stands in, and the manifest says so
    assert manifest["hindsight"] is True


def test_another_rule_of_stances_does_not_overwrite_served_signals(job) -> None:
    infer(DAYS[-1])
    params = (job.root / "params.yaml").read_text()
    try:
        job.set_params({"daily": {"stance": {"share": 0.1}}})
        with pytest.raises(DataError, match="other stances"):
            infer(DAYS[-1])
    finally:
        (job.root / "params.yaml").write_text(params)


def told(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_backfill_serves_each_session_as_the_daily_job_would(job, capsys: pytest.CaptureFixture[str]) -> None:
    infer(DAYS[1])
    alone = digest_tree(job.root / "signals")
    shutil.rmtree(job.root / "signals")
    capsys.readouterr()
    assert backfill("2016-12-24", DAYS[1], log=Log("backfill", as_json=True)) == 0
    lines = [line for line in told(capsys) if line["level"] == "info"]
    assert [line["event"] for line in lines] == ["written", "written", "summary"]
    assert [line.get("session") for line in lines] == [*DAYS[:2], None]
    assert lines[-1]["written"] == 2
    assert alone.items() <= digest_tree(job.root / "signals").items()


def test_a_killed_backfill_goes_on_and_does_nothing_twice(job, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    real, served = daily.serve, []

    def dies_at_the_second(job, session, force):
        if len(served) == 1:
            raise KeyboardInterrupt
        served.append(str(session))
        return real(job, session, force)

    with monkeypatch.context() as patch:
        patch.setattr(range_of_days, "serve", dies_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            backfill(DAYS[1], DAYS[3])
    capsys.readouterr()
    assert backfill(DAYS[1], DAYS[3], log=Log("backfill", as_json=True)) == 0
    summary = told(capsys)[-1]
    assert (summary["done_before"], summary["written"], summary["failed"]) == (1, 2, 0)
    before = digest_tree(job.root / "signals")
    cut_short(day_folder(job, DAYS[2]) / "signals.csv")
    assert backfill(DAYS[1], DAYS[3], log=Log("backfill", as_json=True)) == 0
    assert told(capsys)[-1]["written"] == 1
    assert digest_tree(job.root / "signals") == before


def test_a_session_that_fails_stops_no_other_and_the_worst_code_is_returned(job, monkeypatch, capsys) -> None:
    real = daily.prepare_day

    def thin(source, bundle, session):
        if str(session) == DAYS[2]:
            raise DataError("only 3 symbols have a usable price")
        return real(source, bundle, session)

    monkeypatch.setattr(daily, "prepare_day", thin)
    assert backfill(DAYS[1], DAYS[3], log=Log("backfill", as_json=True)) == 3
    lines = told(capsys)
    failed = next(line for line in lines if line["event"] == "failed")
    assert (failed["session"], failed["exit_code"], failed["version"]) == (DAYS[2], 3, 1)
    assert (lines[-1]["written"], lines[-1]["failed"], lines[-1]["exit_code"]) == (2, 1, 3)
    assert not day_folder(job, DAYS[2]).exists()


def test_a_full_disk_ends_the_whole_backfill(job, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(range_of_days, "serve", full)
    with pytest.raises(StorageError):
        backfill(DAYS[1], DAYS[3])


def test_each_session_is_asked_for_at_the_close_of_the_next(job, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def none(*_: object, at: object, **__: object) -> None:
        asked.append(str(at))
        raise GovernanceError("not now")

    monkeypatch.setattr("governance.guard.serving", none)
    assert backfill(DAYS[2], DAYS[3]) == 7
    assert asked == ["2016-12-30 21:00:00+00:00", "2017-01-03 21:00:00+00:00"]


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("2016-12-30", "2016-12-29", "turn them round"),
        ("2016-12-24", "2016-12-26", "no session"),
        ("soon", "2016-12-26", "--start 'soon' is not a valid date"),
        ("2016-12-24", "2099-12-26", "the last completed session is"),
    ],
)
def test_an_impossible_range_is_refused(job, start: str, end: str, words: str) -> None:
    with pytest.raises(SessionError, match=words):
        backfill(start, end)
    assert not (job.root / "signals").exists()


def test_the_command_ends_with_one_line_and_the_exit_code(job) -> None:
    done = job.signals("backfill", "--start", DAYS[1], "--end", "soon", check=False)
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr == "error: --end 'soon' is not a valid date: write a date as YYYY-MM-DD\n"


def test_rows_after_the_last_session_do_not_move_the_latest(job) -> None:
    file = job.root / "data/files/prices.parquet"
    prices = pd.read_parquet(file)
    saturday = prices[prices["date"] == DAYS[-1]].assign(date=pd.Timestamp("2016-12-31"))
    pd.concat([prices, saturday]).to_parquet(file)
    assert infer("latest") == day_folder(job)


def test_a_closing_that_the_calendar_does_not_know_is_declared_and_the_job_goes_on(job) -> None:
    file = job.root / "data/files/prices.parquet"
    prices = pd.read_parquet(file)
    prices[prices["date"] != "2016-12-28"].to_parquet(file)
    for session, code in (("2016-12-28", SessionError), ("2016-12-29", DataError), ("2016-12-30", DataError)):
        with pytest.raises(code, match=r"data\.closings in params\.yaml"):
            infer(session)
    job.set_params({"data": {"closings": ["2016-12-28"]}})
    try:
        with pytest.raises(SessionError, match="2016-12-28 is no session"):
            infer("2016-12-28")
        for session in ("2016-12-29", "2016-12-30"):
            assert whole_day(infer(session)) is not None
    finally:
        job.set_params({"data": {"closings": []}})
        declare()
