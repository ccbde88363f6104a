"""The governance commands as a user types them: fresh processes in a checkout of their own."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.errors import (
    BundleError,
    ConfigError,
    DataError,
    GovernanceError,
    LeakageError,
    SessionError,
    SignalsError,
    StorageError,
)
from pipelines import cli
from pipelines.ui import server_command, server_environment

_spec = importlib.util.spec_from_file_location(
    "governance_world", Path(__file__).parents[1] / "governance" / "conftest.py"
)
fixtures = importlib.util.module_from_spec(_spec)
sys.modules["governance_world"] = fixtures
_spec.loader.exec_module(fixtures)
empty_store = fixtures.empty_store
world = fixtures.world
reigning = fixtures.reigning
governed = fixtures.governed

ROB = "Rob <rob@example.org>"
SOON = (datetime.now(UTC) + timedelta(days=20)).date().isoformat()


@pytest.fixture
def signals(monkeypatch):
    """Run a command in this process; return exit code, standard output, standard error."""

    def run(world, *arguments):
        monkeypatch.chdir(world.root)
        result = CliRunner().invoke(cli.app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


def ok(answer):
    code, out, err = answer
    assert (code, err) == (0, ""), err
    return out


def one_line(answer, code, pattern):
    found, _, err = answer
    assert found == code
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert re.search(pattern, err), err


def test_from_training_to_production_and_back(world, signals):
    assert "candidate none; next: signals register" in ok(signals(world, "status"))
    out = ok(signals(world, "register"))
    assert "version 1 registered" in out
    assert re.search(r"rank_ic_t +pass +test.stack.rank_ic_t = 5, must be >= 3", out)
    assert "signals review 1 approve --by NAME --comment TEXT" in out
    assert "was registered before, nothing added" in ok(signals(world, "register"))
    one_line(signals(world, "promote", "candidate"), 7, "nobody has approved it yet")
    one_line(signals(world, "review", "candidate", "approve", "--comment", "mine"), 7, "must come from someone else")
    out = ok(signals(world, "review", "candidate", "approve", "--by", ROB, "--comment", "read the report"))
    assert "version 1 approved by Rob" in out
    assert "identities are NOT verified" in out
    out = ok(signals(world, "promote", "1", "--comment", "first"))
    assert "version 1 is the champion; approved by Rob" in out
    out = ok(signals(world, "status"))
    assert "serves    version 1" in out
    assert "the candidate is the champion; next: signals infer" in out
    out = ok(signals(world, "history"))
    assert re.search(
        r"1 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC +now +promoted by Ann Author .* approved by Rob .*: first", out
    )
    today = datetime.now(UTC).date().isoformat()
    assert "version 1 was in production at" in ok(signals(world, "history", "--at", today))
    assert "no version was in production" in ok(signals(world, "history", "--at", "2020-01-01T10:00:00"))
    out = ok(signals(world, "rollback", "--reason", "a mistake"))
    assert "version 1 taken out of production: there is no champion now" in out
    assert "champion  none" in ok(signals(world, "status"))


def test_a_fresh_checkout_says_where_to_begin(world, signals):
    (world.root / "mlruns/mlflow.db").unlink()
    assert ok(signals(world, "status")) == "nothing is registered yet; next: signals register\n"
    assert ok(signals(world, "history")) == "no version has been in production yet\n"
    one_line(signals(world, "promote", "1"), 7, "run `signals register` first")


def test_a_waiver_is_visible_everywhere(world, signals):
    world.train(t=1.0)
    out = ok(signals(world, "register"))
    assert "1 gate(s) block promotion: rank_ic_t" in out
    assert "signals waive 1 rank_ic_t --by NAME" in out
    ok(signals(world, "review", "1", "approve", "--by", ROB, "--comment", "read it"))
    one_line(signals(world, "promote", "1"), 7, "gate rank_ic_t fails")
    waive = ("waive", "1", "rank_ic_t", "--by", ROB, "--reason", "small size only", "--until")
    one_line(signals(world, *waive, "soon"), 2, "--until 'soon' is not a valid date")
    ok(signals(world, *waive, SOON))
    assert re.search(rf"rank_ic_t +WAIVED .*until {SOON}: small size only", ok(signals(world, "status")))
    assert "served under a WAIVER: rank_ic_t" in ok(signals(world, "promote", "1"))
    assert f"WAIVED rank_ic_t until {SOON}" in ok(signals(world, "status"))
    assert "WAIVED rank_ic_t" in ok(signals(world, "history"))


def test_a_moved_alias_is_told_and_put_back(governed, signals):
    governed.sql("UPDATE registered_model_aliases SET version = 2 WHERE alias = 'champion'")
    assert "WARNING the alias champion points at version 2, the ledger says version 1" in ok(
        signals(governed, "status")
    )
    out = ok(signals(governed, "review", "2", "approve", "--by", ROB, "--comment", "again"))
    assert "WARNING alias champion was version 2, the ledger says version 1: set back" in out
    assert "WARNING" not in ok(signals(governed, "status"))


def test_a_stop_is_one_line_to_the_daily_job_and_stands_in_the_history(governed, signals):
    one_line(signals(governed, "unfreeze", "--reason", "x"), 7, "no stop is in force")
    out = ok(signals(governed, "freeze", "--reason", "feed is wrong", "--by", ROB))
    assert "frozen by Rob <rob@example.org>: nothing is served or promoted" in out
    one_line(signals(governed, "infer"), 7, r"frozen by Rob <rob@example.org> at .* UTC: feed is wrong")
    one_line(signals(governed, "promote", "2"), 7, "frozen by Rob")
    params = (governed.root / "params.yaml").read_text()
    (governed.root / "params.yaml").write_text(params.replace("simulated", "no such provider"))
    one_line(signals(governed, "infer"), 7, "frozen by Rob")
    (governed.root / "params.yaml").write_text(params)
    assert "WARNING frozen by Rob" in ok(signals(governed, "status"))
    assert "WARNING frozen by Rob" in ok(signals(governed, "audit"))
    ok(signals(governed, "unfreeze", "--reason", "mended", "--by", "Olga"))
    out = ok(signals(governed, "history"))
    assert re.search(r"Stopped\n.*\n.*frozen by Rob .*: feed is wrong; lifted by Olga: mended", out)
    assert "WARNING" not in ok(signals(governed, "status"))


def test_an_audit_tells_what_broke_where(governed, signals):
    out = ok(signals(governed, "audit"))
    assert "nothing broke" in out
    assert "decisions are UNSIGNED" in out
    governed.sql("UPDATE registered_model_aliases SET version = 2 WHERE alias = 'champion'")
    code, out, err = signals(governed, "audit")
    assert re.search(r"alias +champion +the alias champion points at version 2, the ledger says version 1", out)
    assert (code, err.count("\n")) == (7, 1)
    assert err.startswith("error: the audit failed: alias, champion: the alias champion points at version 2")
    code, out, _ = signals(governed, "audit", "--json", "--head", "3:" + "0" * 64)
    told = json.loads(out)
    assert (code, told["ok"]) == (7, False)
    assert {finding["check"] for finding in told["broken"]} == {"alias", "ledger"}
    assert told["checked"]["versions"] == 2


def test_signed_from_the_first_key_to_the_promotion(governed, signals, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert "decisions are UNSIGNED" in ok(signals(governed, "keys", "list"))
    out = ok(signals(governed, "keys", "new", "--by", ROB))
    entry = "".join(line + "\n" for line in out.splitlines() if line.startswith("  "))
    assert "PRIVATE" not in out
    (governed.root / "keys.yaml").write_text(f"keys:\n{entry}")
    params = governed.root / "params.yaml"
    params.write_text(params.read_text().replace("governance:\n", "governance:\n  require_signatures: true\n"))
    out = ok(signals(governed, "status"))
    assert re.search(r"record \d+ \(promoted by Olga Operator\) is not signed: it does not count", out)
    one_line(signals(governed, "infer"), 7, "no champion.*is not signed")
    one_line(signals(governed, "promote", "1", "--by", "Olga Operator"), 7, "nobody has approved it yet")
    out = ok(signals(governed, "review", "1", "approve", "--comment", "read again", "--by", ROB))
    assert re.search(r"signed with the key [0-9a-f]{16}\n", out)
    one_line(signals(governed, "promote", "1", "--by", "Olga Operator"), 7, "Olga Operator has no key")
    out = ok(signals(governed, "promote", "1", "--by", ROB))
    assert "UNSIGNED" not in out
    assert "serves    version 1" in ok(signals(governed, "status"))
    out = ok(signals(governed, "keys", "list"))
    assert re.search(r"Rob <rob@example.org> +[0-9a-f]{16} +yes\nto revoke .* `revoked: \d+`", out)


@pytest.mark.parametrize(
    ("arguments", "code", "pattern"),
    [
        (("promote", "99"), 7, "version 99 is not in the ledger"),
        (("promote", "challenger"), 7, "no version number and no alias"),
        (("promote", "1"), 7, "champion already"),
        (("review", "2", "bless", "--comment", "x"), 2, "approve or reject, not 'bless'"),
        (("rollback", "--reason", " "), 7, "needs a reason"),
        (("history", "--at", "yesterday"), 2, "--at 'yesterday' is not a valid date"),
        (("waive", "2", "rank_ic", "--reason", "because I say so", "--until", SOON), 7, "does not block version 2"),
    ],
)
def test_what_cannot_be_done_is_one_line(governed, signals, arguments, code, pattern):
    before = governed.ledger().path.read_bytes()
    one_line(signals(governed, *arguments), code, pattern)
    assert governed.ledger().path.read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "code", "pattern"),
    [
        (lambda root: (root / "params.yaml").write_text("governance: {gates: ["), 2, "not valid YAML"),
        (lambda root: (root / "params.yaml").write_text("seed: 1"), 2, "no block `governance`"),
        (lambda root: (root / "params.yaml").write_text("governance: {gate: 1}"), 2, "governance.gate"),
        (lambda root: (root / "mlruns/ledger.jsonl").write_text("{}\n"), 7, "line 1 is not a ledger record"),
        (lambda root: (root / "mlruns/mlflow.db").write_bytes(b"x" * 999), 7, "is damaged"),
    ],
)
def test_damage_is_one_line(governed, signals, damage, code, pattern):
    damage(governed.root)
    one_line(signals(governed, "status"), code, pattern)


@pytest.mark.parametrize(
    "error", [ConfigError, DataError, SessionError, LeakageError, BundleError, GovernanceError, StorageError]
)
def test_every_expected_error_ends_as_its_exit_code(world, signals, monkeypatch, error):
    def fail(_):
        raise error("what was wrong\nand on another line")

    monkeypatch.setattr("pipelines.promote.status", fail)
    one_line(signals(world, "status"), error.exit_code, "^error: what was wrong and on another line\n$")
    assert issubclass(error, SignalsError)


def test_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.delenv("SIGNALS_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, ["status"])
    assert (result.exit_code, "no checkout with dvc.yaml" in result.stderr) == (2, True)


def test_the_help_imports_nothing_heavy():
    code = (
        "import sys; import pipelines.cli;"
        "heavy = {'mlflow', 'pandas', 'numpy', 'pydantic', 'lightgbm'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_server_stays_on_this_machine_and_tells_no_one(tmp_path):
    command = server_command("sqlite:///x.db", "127.0.0.1", 5000)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--workers") + 1] == "1"
    assert command[command.index("--app-name") + 1] == "signals"
    team = server_command("sqlite:///x.db", "127.0.0.1", 5000, team=True)
    assert team[team.index("--app-name") + 1] == "signals-team"
    environment = server_environment(tmp_path)
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["SIGNALS_ROOT"] == str(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "environment", "pattern"),
    [
        (("--host", "0.0.0.0"), {}, "--host 0.0.0.0 lets others in"),
        (("--host", "::"), {}, "lets others in"),
        (("--host", "example.org"), {}, "lets others in"),
        (("--team",), {}, "MLFLOW_FLASK_SERVER_SECRET_KEY"),
        (("--team",), {"MLFLOW_FLASK_SERVER_SECRET_KEY": "x"}, "MLFLOW_AUTH_ADMIN_PASSWORD"),
    ],
)
def test_the_server_starts_for_others_with_logins_alone(world, signals, monkeypatch, arguments, environment, pattern):
    for name in ("MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_AUTH_CONFIG_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.setattr("pipelines.ui.entry_points", lambda group: [EntryPoint("signals", "x:y", group)])
    one_line(signals(world, "ui", *arguments), 2, pattern)


def test_the_server_does_not_start_without_its_policy(world, signals, monkeypatch):
    monkeypatch.setattr("pipelines.ui.entry_points", lambda group: [])
    one_line(signals(world, "ui"), 2, "this environment is older than pyproject.toml")


@pytest.mark.slow
def test_a_real_process_prints_plain_text_and_one_clear_line(world):
    def run(*arguments):
        command = [sys.executable, "-m", "pipelines.cli", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        return subprocess.run(
            command, cwd=world.root, env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    registered = run("register")
    assert (registered.returncode, registered.stderr) == (0, "")
    assert "\x1b" not in registered.stdout
    refused = run("promote", "1")
    assert refused.returncode == 7
    assert refused.stderr.startswith("error: version 1 may not be promoted: nobody has approved it yet")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("charset", ["ascii", "utf-8"])
def test_what_an_earlier_release_recorded_is_printed_whatever_it_is(governed, monkeypatch, charset):
    monkeypatch.chdir(governed.root)
    governed.ledger().append("frozen", "Zo\u00eb \udcfc", {"reason": "\x1b[2J gepr\udcfcft \u691c"})
    for command in ("history", "status"):
        done = CliRunner(charset=charset).invoke(cli.app, [command])
        assert done.exit_code == 0, done.exception
        assert "gepr\\udcfcft" in done.stdout_bytes.decode(charset)
        assert b"\x1b" not in done.stdout_bytes


@pytest.mark.parametrize("command", ["review 2 reject --comment", "freeze --reason", "rollback --reason"])
def test_a_byte_that_is_not_utf8_on_the_command_line_is_one_line(signals, governed, command):
    code, out, err = signals(governed, *command.split(), "gepr\udcfcft", "--by", ROB)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: the .* holds the byte 0xfc, which is not UTF-8, .*\n", err)
