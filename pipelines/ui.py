"""`signals ui`: MLflow's own pages behind the project's policy, light and without telemetry."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
import sys
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

from core.errors import ConfigError
from core.files import write_text
from governance.lineage import author
from governance.places import ARTIFACTS, SCHEME, STORE, USERS
from governance.policy import load_policy
from governance.server import SINGLE_USER
from governance.store import ensure_store, in_file
from pipelines.console import Printer

_APP, _TEAM_APP = "signals", "signals-team"
_SECRET, _PASSWORD = "MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_ADMIN_PASSWORD"
_PROXIED = "MLFLOW_ARTIFACTS_DESTINATION"
_LOGINS_CONFIG = "MLFLOW_AUTH_CONFIG_PATH"
_LOGINS = """[mlflow]
default_permission = READ
database_uri = sqlite:///{users}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
grant_default_workspace_access = false
auth_cache_ttl_seconds = 60
"""


def server_command(uri: str, host: str, port: int, team: bool = False) -> list[str]:
    """Command line of the MLflow server.

    A team's database is named by the environment alone: a command line, with the password in it, is for all to see.
    """
    # Experiments of one's own keep their files beside the governed ones, never among them. Those of a team come
    # through the server, which knows whose a file is by the experiment's number at the start of its path.
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", host, "--port", str(port), "--workers", "1"),
        *("--app-name", _TEAM_APP if team else _APP),
        *(("--backend-store-uri", uri) if in_file(uri) else ()),
        *("--default-artifact-root", "mlflow-artifacts:/" if team else f"{SCHEME}:/experiments"),
    ]


def server_environment(root: Path) -> dict[str, str]:
    """Environment of the MLflow server: the project root, its artifact store, no telemetry, no job runners."""
    return {
        _PROXIED: str((root / ARTIFACTS).resolve()),
        **os.environ,
        "SIGNALS_ROOT": str(root),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def logins_config(root: Path) -> Path:
    """File that tells MLflow where the users are: as the environment names it, else one beside the database."""
    named = os.environ.get(_LOGINS_CONFIG)
    if named:
        return Path(named)
    path = root / STORE / "logins.ini"
    write_text(path, _LOGINS.format(users=(root / USERS).resolve()))
    return path


def require_safe(root: Path, host: str, team: bool) -> None:
    """Refuse to serve others without logins, or logins without what they need.

    Raises
    ------
    ConfigError
        The host is not this machine and there are no logins; or the environment is not ready for what is asked.
    """
    if not team and not _loopback(host):
        raise ConfigError(
            f"--host {host} lets others in, and without logins they all act as you: add --team, or stay on 127.0.0.1"
        )
    _require_apart(root)
    if not any(point.name == _APP for point in entry_points(group="mlflow.app")):
        raise ConfigError(
            "this environment is older than pyproject.toml (it knows no MLflow app `signals`): run `make run` again, "
            "or `pip install -e .`"
        )
    if not team:
        return
    if importlib.util.find_spec("flask_wtf") is None:
        raise ConfigError("--team needs the extra `team`: pip install -c requirements.lock -e '.[team]'")
    if not os.environ.get(_SECRET):
        raise ConfigError(f"--team needs the environment variable {_SECRET}: a long random text that stays the same")
    if not (os.environ.get(_PASSWORD) or os.environ.get(_LOGINS_CONFIG) or (root / USERS).is_file()):
        raise ConfigError(f"the first start with --team needs {_PASSWORD}: the password that the user admin is to have")


def _require_apart(root: Path) -> None:
    """Where uploads go, the server knows governed files by their path below `mlruns/artifacts` alone."""
    address = urlsplit(os.environ.get(_PROXIED, ""))
    if address.scheme not in ("", "file") or not address.path:
        return
    place, store = Path(address.path).resolve(), (root / STORE).resolve()
    if place != (root / ARTIFACTS).resolve() and (place.is_relative_to(store) or store.is_relative_to(place)):
        raise ConfigError(
            f"{_PROXIED} is {place}, around the governed files or among them: choose a folder apart, or unset it for "
            f"{ARTIFACTS}"
        )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve_ui(root: Path, host: str, port: int, team: bool = False) -> None:
    """Turn this process into the MLflow server.

    Raises
    ------
    ConfigError
        The port is taken, or `require_safe` refuses.
    """
    require_safe(root, host, team)
    model = load_policy(root).model
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"{host}:{port} cannot be used ({error.strerror}): choose another with --port") from None
    command = server_command(ensure_store(root), host, port, team)
    printer = Printer()
    printer.line(f"model     http://{host}:{port}/#/models/{model}")
    printer.line(f"runs      http://{host}:{port}/#/experiments")
    if not team:
        printer.warning(SINGLE_USER.format(name=author(root)))
    printer.line("starting, about ten seconds; Ctrl-C ends it")
    sys.stdout.flush()
    os.chdir(root)
    environment = server_environment(root)
    if team:
        environment[_LOGINS_CONFIG] = str(logins_config(root))
    os.execve(sys.executable, command, environment)
