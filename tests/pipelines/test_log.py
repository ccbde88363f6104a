"""What the commands say: lines for people or JSON for machines, and never a secret."""

from __future__ import annotations

import json

import pytest

from core.errors import DataError
from pipelines.log import Log, hide_secrets, told


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def test_json_lines_carry_session_version_duration_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log("infer", as_json=True)
    log.begin("2016-12-30")
    log.know(version=3)
    log.warning("a line\nof two")
    log.result("written", "40 signals", exit_code=0)
    log.begin("2017-01-03")
    log.failure(DataError("too thin"))
    log.begin()
    log.result("summary", "2 sessions", exit_code=3)
    warning, written, failed, summary = lines(capsys)
    assert warning["level"] == "warning"
    assert warning["message"] == "a line\nof two"
    assert (written["command"], written["event"], written["level"]) == ("infer", "written", "info")
    assert (written["session"], written["version"], written["exit_code"]) == ("2016-12-30", 3, 0)
    assert written["duration"] >= 0
    assert written["time"].endswith("+00:00")
    assert (failed["session"], failed["exit_code"], failed["error"]) == ("2017-01-03", 3, "DataError")
    assert "version" not in failed
    assert "session" not in summary


def test_people_read_results_on_standard_output_and_the_rest_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIGNALS_LOG", raising=False)
    log = Log("infer")
    log.result("written", "40 signals", exit_code=0)
    log.warning("stale")
    log.failure(DataError("too\nthin"))
    out, err = capsys.readouterr()
    assert out == "40 signals\n"
    assert err == "warning: stale\nerror: too thin\n"


def test_the_environment_asks_for_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNALS_LOG", "JSON")
    assert Log("infer").as_json
    monkeypatch.setenv("SIGNALS_LOG", "text")
    assert not Log("infer").as_json


@pytest.mark.parametrize("as_json", [True, False])
def test_a_secret_is_blotted_out_wherever_it_stands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    monkeypatch.setenv("VENDOR_API_KEY", "s3cr3t-value")
    monkeypatch.setenv("DB_PASSWORD", "hunter22")
    log = Log("infer", as_json)
    text = "GET https://ada:hunter22@host/x?k=s3cr3t-value failed"
    log.warning(text)
    log.result("written", text)
    log.failure(DataError(text))
    with pytest.raises(SystemExit), told(Log("infer", as_json=True)):
        raise RuntimeError(text)
    out, err = capsys.readouterr()
    assert "failed" in out + err
    for secret in ("s3cr3t-value", "hunter22", "ada:"):
        assert secret not in out + err


def test_an_address_without_credentials_and_a_short_value_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "on")
    assert hide_secrets("see https://example.org/a@b, turned on") == "see https://example.org/a@b, turned on"


def test_expected_errors_end_with_their_code_and_others_with_one_line_of_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended, told(Log("infer", as_json=True)):
        raise DataError("thin")
    assert ended.value.code == 3
    with pytest.raises(SystemExit) as ended, told(Log("infer", as_json=True)):
        raise ZeroDivisionError("a fault")
    assert ended.value.code == 1
    failed, crashed = lines(capsys)
    assert failed["exit_code"] == 3
    assert (crashed["event"], crashed["level"], crashed["exit_code"]) == ("crashed", "critical", 1)
    assert "ZeroDivisionError: a fault" in crashed["traceback"]
    with pytest.raises(ZeroDivisionError), told(Log("infer")):
        raise ZeroDivisionError("a fault")
